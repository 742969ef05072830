"""Each check finds what it is named after, and nothing in a sound run."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from inf2kit.bench.load.checks import check
from inf2kit.bench.load.samples import Cell, ClientShare, Load, Sample


def sample(number: int, sent_s: float, **values: Any) -> Sample:
    """A sound call: 1 s, 11 words, the first after 0.1 s and one more every 0.09 s."""
    chunks = tuple(sent_s + 0.1 + 0.09 * place for place in range(11))
    sound = {
        "due_s": sent_s,
        "end_s": sent_s + 1.0,
        "chunk_s": chunks,
        "wanted_input_tokens": 20,
        "wanted_tokens": 11,
        "input_tokens": 20,
        "generated_tokens": 11,
        "characters": 44,
        "words": 11,
    }
    return Sample(number, sent_s=sent_s, **{**sound, **values})


def closed(**values: Any) -> Cell:
    """One caller, 30 calls, one after the other."""
    samples = tuple(sample(number, float(number), **values) for number in range(30))
    server = {"inf2kit_generated_tokens_total": 330.0}
    return Cell(Load("callers", 1), samples, "2026-01-01T00:00:00+00:00", 30.0, streamed=True, server=server)


def open_loop(*latencies_s: float) -> Cell:
    samples = tuple(
        sample(number, float(number), end_s=number + latency_s)
        for number, latency_s in enumerate(latencies_s)
    )
    return Cell(Load("rate", 1), samples, "2026-01-01T00:00:00+00:00", float(len(samples)), streamed=True)


def names(cell: Cell) -> set[str]:
    return {finding.name for finding in check(cell)}


def test_a_sound_cell_has_no_mark() -> None:
    assert names(closed()) == set()
    assert names(open_loop(*[0.5] * 40)) == set()


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"generated_tokens": 9}, "output_lengths"),
        ({"input_tokens": 25}, "input_lengths"),
        ({"generated_tokens": 5, "wanted_tokens": 5}, "token_counts"),
        ({"characters": 3, "words": 1, "chunk_s": ()}, "token_counts"),
    ],
)
def test_lengths_and_counts(values: dict[str, Any], name: str) -> None:
    assert name in names(closed(**values))


def test_a_caller_that_the_rates_forget() -> None:
    """As in published figures whose rate counts calls that their latency leaves out."""
    cell = closed()
    assert "littles_law" in names(dataclasses.replace(cell, load=Load("callers", 2)))


def test_an_endpoint_that_does_not_really_stream() -> None:
    samples = tuple(
        dataclasses.replace(each, chunk_s=tuple(each.end_s - 0.01 + place / 1e4 for place in range(11)))
        for each in closed().samples
    )
    cell = dataclasses.replace(closed(), samples=samples)
    assert "no_streaming" in names(cell)
    assert "no_streaming" not in names(dataclasses.replace(cell, streamed=False))


def test_a_stall_is_found_which_a_mean_hides() -> None:
    samples = list(closed().samples)
    samples[7] = sample(7, 7.0, chunk_s=(7.1, 7.2, 12.3), end_s=12.4)
    assert "stalls" in names(dataclasses.replace(closed(), samples=tuple(samples)))
    assert "stalls" not in names(closed())


def test_a_rate_above_what_the_endpoint_can_do() -> None:
    assert "not_steady" in names(open_loop(*[0.5 + 0.4 * number for number in range(40)]))


def test_failures_are_counted_by_kind() -> None:
    samples = list(closed().samples)
    samples[3] = sample(3, 3.0, failure="busy: queue_full", message="the queue is full")
    (finding,) = (
        each
        for each in check(dataclasses.replace(closed(), samples=tuple(samples)))
        if each.name == "failures"
    )
    assert finding.sentence.startswith("1 of 30 calls failed (1 busy: queue_full)")
    assert "the queue is full" in finding.sentence


def test_the_client_itself() -> None:
    busy = dataclasses.replace(closed(), client=ClientShare(0.001, 0.05, 0.1, 0.2))
    assert "client_share" in names(busy)
    assert "client_share" in names(dataclasses.replace(closed(), client=ClientShare(cpu=0.95)))
    late = open_loop(*[0.5] * 40)
    samples = tuple(dataclasses.replace(each, sent_s=each.due_s + 0.2) for each in late.samples)
    assert "late_sends" in names(dataclasses.replace(late, samples=samples))
    replay = dataclasses.replace(late, samples=samples, load=Load("replay", 2))
    assert "late_sends" in names(replay)


@pytest.mark.parametrize("tokens", [300.0, 350.0, -5.0])
def test_the_servers_own_counts(tokens: float) -> None:
    server = {"inf2kit_generated_tokens_total": tokens}
    assert "server_tokens" in names(dataclasses.replace(closed(), server=server))
    assert "server_tokens" not in names(dataclasses.replace(closed(), server=None))


def test_few_calls_and_an_interruption() -> None:
    cell = closed()
    assert names(dataclasses.replace(cell, samples=cell.samples[:8])) >= {"few_calls"}
    assert "few_calls" in names(dataclasses.replace(cell, interrupted=True))
