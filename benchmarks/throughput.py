"""Tokens per second of this kit, of ``generate`` without any server, of the stock way and of the peers."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import callers, servers
from benchmarks.prompts import Prompts
from benchmarks.raw import Raw
from benchmarks.report import Report, Row
from benchmarks.servers import Server

INPUT_TOKENS, NEW_TOKENS, ROWS = 128, 64, 8
MIXED_REQUESTS, SHORTEST, LONGEST = 32, 16, 256


def measure(
    report: Report, raw: Raw, prompts: Prompts, contenders: Sequence[Server], runs: int, dtype: str
) -> None:
    """The three loads, each in rounds in which everyone has a turn.

    Args:
        report: Where the sections go.
        raw: The yardstick, measured in every round.
        prompts: New ones for every run, but the same for everyone in a round.
        contenders: Servers that are up, and stopped.
        runs: Rounds.
        dtype: Of everyone's arithmetic.
    """
    of_dtype = "" if dtype == "float32" else f", {dtype}"
    with report.section(f"{ROWS} callers, {INPUT_TOKENS} tokens in and {NEW_TOKENS} out{of_dtype}") as rows:
        texts = [[prompts.of(INPUT_TOKENS) for _ in range(ROWS)] for _ in range(runs)]
        lengths = [[NEW_TOKENS] * ROWS] * runs
        rows += _rounds(raw, contenders, texts, lengths, ROWS, f"raw generate, static batch of {ROWS}")
    with report.section(f"one caller, {INPUT_TOKENS} tokens in and {NEW_TOKENS} out{of_dtype}") as rows:
        texts = [[prompts.of(INPUT_TOKENS)] for _ in range(runs)]
        lengths = [[NEW_TOKENS]] * runs
        rows += _rounds(raw, contenders, texts, lengths, 1, "raw generate, batch of 1")
    # Without the stock way and transformers serve, which take minutes for what the first load shows.
    title = f"{MIXED_REQUESTS} requests of {SHORTEST} to {LONGEST} new tokens, {ROWS} at a time{of_dtype}"
    with report.section(title) as rows:
        texts = [[prompts.of(INPUT_TOKENS) for _ in range(MIXED_REQUESTS)] for _ in range(runs)]
        lengths = [_mixed(seed) for seed in range(runs)]
        fast = [each for each in contenders if not each.name.startswith(("toolkit", "transformers"))]
        rows += _rounds(raw, fast, texts, lengths, ROWS, f"raw generate, static batches of {ROWS} in order")


def _mixed(seed: int) -> list[int]:
    rng = random.Random(seed)
    return [rng.randint(SHORTEST, LONGEST) for _ in range(MIXED_REQUESTS)]


def _rounds(
    raw: Raw,
    contenders: Sequence[Server],
    texts: Sequence[Sequence[str]],
    lengths: Sequence[Sequence[int]],
    at_a_time: int,
    yardstick: str,
) -> list[Row]:
    reference: list[float] = []
    samples: dict[str, list[float]] = {each.name: [] for each in contenders}
    for prompts, new_tokens in zip(texts, lengths, strict=True):
        wanted = list(zip(prompts, new_tokens, strict=True))
        reference.append(_tokens_per_second(1, _batches(raw, wanted, at_a_time), sum(new_tokens)))
        for server in contenders:
            with server.alone():
                calls = iter([partial(server.generate, text, count) for text, count in wanted])
                samples[server.name].append(_tokens_per_second(at_a_time, calls, sum(new_tokens)))
    rows = [Row(yardstick, reference, "tokens/s")]
    for name, found in samples.items():
        rows.append(Row(name, found, "tokens/s", against="raw", reference=reference))
    return rows


def _batches(raw: Raw, wanted: Sequence[tuple[str, int]], size: int) -> Iterator[Callable[[], int]]:
    for start in range(0, len(wanted), size):
        texts, counts = zip(*wanted[start : start + size], strict=True)
        yield partial(raw.generate, texts, counts)


def _tokens_per_second(at_a_time: int, calls: Iterator[Callable[[], int]], wanted: int) -> float:
    load = callers.run(at_a_time, calls)
    assert not load.failures, load.failures[0]
    assert load.tokens == wanted, f"{load.tokens} tokens instead of {wanted} would make the figure wrong"
    return load.tokens_per_second


def with_all_contenders(
    report: Report, raw: Raw, prompts: Prompts, weights: Path, runs: int, dtype: str
) -> None:
    """Start everyone there is, and measure."""
    with ExitStack() as stack:
        preset = servers.preset_of(dtype, Path(stack.enter_context(TemporaryDirectory(prefix="inf2kit-"))))
        kit, _ = stack.enter_context(servers.kit(preset))
        found = [kit, stack.enter_context(servers.stock(weights, dtype))]
        for peer in (servers.transformers_serve, servers.llama_cpp):
            server = stack.enter_context(peer(weights, dtype))
            if server is None:
                print(f"{peer.__name__} is not there, so it is left out: make bench-peers")
            else:
                found.append(server)
        for server in found:
            with server.alone():  # the first call of a length is slower for some
                callers.run(ROWS, iter([partial(server.generate, prompts.of(32), 4)] * ROWS))
        raw.generate([prompts.of(32)] * ROWS, [4] * ROWS)
        measure(report, raw, prompts, found, runs, dtype)
