"""Can the figures be right? Each check looks at one cell, and its name marks the cell in every output."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from inf2kit.bench.load.metrics import Window, count_failures, percentile, values_of
from inf2kit.bench.load.samples import Cell, Sample

#: Little's law: departures that are more than the edges of a window.
_LITTLE = 0.05
#: A stream whose text comes in this share of its time, or less, is not one; shorter texts say nothing.
_STREAM_SHARE, _STREAM_TOKENS = 0.05, 8
#: A gap between pieces that is no other caller's prefill: that one takes up to 25 steps in published figures.
_STALL_S, _STALL_STEPS = 1.0, 50
#: Share of a call that the client may add, and of one processor that it may use.
_LAG_SHARE, _CPU_SHARE = 0.10, 0.90
#: Seconds, and share of a median latency, by which a send may be late.
_LATE_S, _LATE_SHARE = 0.05, 0.05
#: Calls of a window; fewer say little.
_FEW = 10


@dataclass(frozen=True)
class Finding:
    """A check that failed.

    Attributes:
        name: The check.
        sentence: What is wrong, with figures, and what to try.
    """

    name: str
    sentence: str


def check(cell: Cell) -> list[Finding]:
    """Return what is wrong with a cell; nothing if its figures can be right."""
    window = Window.of(cell)
    counted = window.counted(cell)
    return [
        Finding(name, sentence)
        for name, examine in _CHECKS.items()
        for sentence in examine(cell, window, counted)
    ]


def _failures(cell: Cell, _window: Window, _counted: list[Sample]) -> Iterator[str]:
    if kinds := count_failures(cell.ended):
        failed = sum(kinds.values())
        message = next(sample.message for sample in cell.ended if sample.failure == next(iter(kinds)))
        yield (
            f"{failed} of {len(cell.ended)} calls failed ({_kinds(kinds)}), and percentiles are those of "
            f"the others. The most frequent one: {message}"
        )


def _few_calls(cell: Cell, window: Window, counted: list[Sample]) -> Iterator[str]:
    if window.is_whole:
        yield (
            "it is too short to cut its warm-up and its tail, so its rates are too low; measure longer "
            "(--seconds or --requests)"
        )
    elif len(counted) < _FEW:
        yield f"only {len(counted)} calls are in its window; measure longer (--seconds or --requests)"
    if cell.interrupted:
        yield "it was interrupted"


def _littles_law(cell: Cell, window: Window, _counted: list[Sample]) -> Iterator[str]:
    ended = window.ended(cell)
    if not ended or window.is_whole:
        return
    by_law = sum(sample.latency_s for sample in ended) / window.seconds
    offered = window.in_flight(cell) if cell.load.is_open else cell.load.value
    if offered and abs(by_law / offered - 1) > _LITTLE:
        what = "calls in flight" if cell.load.is_open else "callers"
        yield (
            f"rate x mean latency is {by_law:.2f}, and there were {offered:.2f} {what}: rates or latencies "
            f"are off by {abs(by_law / offered - 1):.0%}. Callers that wait after a failure, or a window of "
            "few calls, do that"
        )


def _not_steady(cell: Cell, window: Window, _counted: list[Sample]) -> Iterator[str]:
    """Above what an endpoint can do, the queue of an open loop grows, and latency with it.

    A trace may have more calls in its second half by itself, so a replay is not judged.
    """
    if cell.load.kind != "rate" or window.is_whole:
        return
    arrived = [sample for sample in cell.ended if window.begin_s <= sample.due_s <= window.end_s]
    middle_s = (window.begin_s + window.end_s) / 2
    halves = (
        [
            sample.latency_s
            for sample in arrived
            if sample.failure is None and (sample.due_s < middle_s) is early
        ]
        for early in (True, False)
    )
    first, second = halves
    if len(first) < _FEW or len(second) < _FEW:
        return
    growth = statistics.fmean(second) / statistics.fmean(first)
    left = sum(sample.due_s <= window.end_s < sample.end_s for sample in cell.samples)
    if growth > 1.5 and left > 0.1 * len(arrived):
        yield (
            f"latency grew by {growth - 1:.0%} from its first half to its second, and {left} calls were "
            "unanswered at "
            "its end: the endpoint does not keep up with this rate, so latencies depend on how long one "
            "measures"
        )


def _no_streaming(cell: Cell, _window: Window, counted: list[Sample]) -> Iterator[str]:
    shares = [
        (sample.end_s - sample.chunk_s[0]) / sample.latency_s
        for sample in counted
        if sample.failure is None and sample.chunk_s and sample.generated_tokens >= _STREAM_TOKENS
    ]
    if cell.streamed and shares and statistics.median(shares) < _STREAM_SHARE:
        yield (
            "this endpoint does not really stream: its text comes at once in the last "
            f"{statistics.median(shares):.1%} of a call, so time_to_first_token is the whole latency, and "
            "inter_token_latency means nothing"
        )


def _stalls(_cell: Cell, _window: Window, counted: list[Sample]) -> Iterator[str]:
    gaps = sorted(values_of("inter_chunk_latency", counted))
    if not gaps:
        return
    limit_s = max(_STALL_S, _STALL_STEPS * percentile(gaps, 50))
    if stalls := [gap for gap in gaps if gap > limit_s]:
        yield (
            f"streams stood still {len(stalls)} times, for up to {stalls[-1]:.2f} s, when the median gap is "
            f"{1000 * percentile(gaps, 50):.1f} ms. Means of calls hide that; see inter_chunk_latency"
        )


def _input_lengths(_cell: Cell, _window: Window, counted: list[Sample]) -> Iterator[str]:
    yield from _lengths(
        "input tokens", [(s.wanted_input_tokens, s.input_tokens) for s in counted if s.failure is None]
    )


def _output_lengths(_cell: Cell, _window: Window, counted: list[Sample]) -> Iterator[str]:
    yield from _lengths(
        "new tokens", [(s.wanted_tokens, s.generated_tokens) for s in counted if s.failure is None]
    )


def _lengths(what: str, pairs: list[tuple[int | None, int]]) -> Iterator[str]:
    wanted = [(want, got) for want, got in pairs if want is not None]
    wrong = [(want, got) for want, got in wanted if abs(got - want) > max(1, 0.01 * want)]
    if wrong:
        want, got = (statistics.fmean(column) for column in zip(*wanted, strict=True))
        yield (
            f"{len(wrong)} of {len(wanted)} answers have other lengths than asked for: {got:.1f} {what} on "
            f"average, not {want:.1f}, so this is not the load that it is called"
        )


def _token_counts(_cell: Cell, _window: Window, counted: list[Sample]) -> Iterator[str]:
    """A token is at most one piece of a stream and at most one word, and seldom less than a character."""
    answers = [sample for sample in counted if sample.failure is None]
    fewer = [s for s in answers if max(len(s.chunk_s), s.words) > s.generated_tokens + 1]
    more = [
        s for s in answers if s.generated_tokens >= _STREAM_TOKENS and 2 * s.characters < s.generated_tokens
    ]
    if fewer:
        worst = max(fewer, key=lambda s: max(len(s.chunk_s), s.words) - s.generated_tokens)
        yield (
            f"the server's counts are wrong in {len(fewer)} of {len(answers)} answers: one counts "
            f"{worst.generated_tokens} new tokens for a text of {worst.words} words in "
            f"{len(worst.chunk_s)} pieces, so tokens per second mean nothing"
        )
    if more:
        worst = max(more, key=lambda s: s.generated_tokens - s.characters)
        yield (
            f"the server's counts do not fit the texts in {len(more)} of {len(answers)} answers: one counts "
            f"{worst.generated_tokens} new tokens for a text of {worst.characters} characters (special "
            "tokens, if not a wrong count)"
        )


def _client_share(cell: Cell, _window: Window, counted: list[Sample]) -> Iterator[str]:
    gaps = values_of("inter_chunk_latency", counted) or values_of("request_latency", counted)
    lag_s, gap_s = cell.client.lag_p95_s, statistics.median(gaps) if gaps else 0.0
    if gaps and lag_s > _LAG_SHARE * gap_s and lag_s > 0.001:
        yield (
            f"the client's own event loop was late by {1000 * lag_s:.1f} ms (95th percentile) when the "
            "median gap is "
            f"{1000 * gap_s:.1f} ms: it measures itself as well. Use fewer callers, or a machine with more "
            "to spare"
        )
    if cell.client.cpu > _CPU_SHARE:
        yield (
            f"the client used {cell.client.cpu:.0%} of a processor, and can send no more than that: the "
            "endpoint may take more. Run it on several machines, or without streaming"
        )


def _late_sends(cell: Cell, _window: Window, counted: list[Sample]) -> Iterator[str]:
    late = [sample.sent_s - sample.due_s for sample in counted]
    latencies = [sample.latency_s for sample in counted if sample.failure is None]
    limit_s = max(_LATE_S, _LATE_SHARE * statistics.median(latencies)) if latencies else _LATE_S
    count = sum(each > limit_s for each in late)
    if cell.load.is_open and count:
        yield (
            f"{count} of {len(late)} calls were sent up to {max(late):.2f} s late; latencies count from "
            "when they were due"
        )


def _server_tokens(cell: Cell, _window: Window, _counted: list[Sample]) -> Iterator[str]:
    theirs = (cell.server or {}).get("inf2kit_generated_tokens_total")
    if cell.server is None:
        return
    if theirs is None or theirs < 0 or cell.server.get("inf2kit_engine_restarts", 0) > 0:
        yield "the server's engine ended or was started again during the load, so its counters do not tell"
        return
    ours = sum(sample.generated_tokens for sample in cell.ended)
    # A call that failed, or was cancelled, may have had tokens.
    all_answered = len(cell.ended) == len(cell.samples) and not count_failures(cell.ended)
    if ours > 1.01 * theirs or (all_answered and theirs > 1.01 * ours):
        yield (
            f"the server's /metrics count {theirs:,.0f} new tokens, and the answers {ours:,}: somebody else "
            "called it, or one of the two counts is wrong"
        )


def _kinds(kinds: dict[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in kinds.items())


_CHECKS: dict[str, Callable[[Cell, Window, list[Sample]], Iterator[str]]] = {
    "failures": _failures,
    "few_calls": _few_calls,
    "littles_law": _littles_law,
    "not_steady": _not_steady,
    "no_streaming": _no_streaming,
    "stalls": _stalls,
    "input_lengths": _input_lengths,
    "output_lengths": _output_lengths,
    "token_counts": _token_counts,
    "client_share": _client_share,
    "late_sends": _late_sends,
    "server_tokens": _server_tokens,
}
