"""Tokens per second of this kit, of ``generate`` without any server, of the stock way and of the peers."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import callers, servers
from benchmarks.baseline import Baseline
from benchmarks.prompts import Prompts
from benchmarks.report import Report, Row
from benchmarks.servers import Server

INPUT_TOKENS, NEW_TOKENS, ROWS = 128, 64, 8
MIXED_REQUESTS, SHORTEST, LONGEST = 32, 16, 256
_SAMPLED = {"do_sample": True, "temperature": servers.TEMPERATURE, "top_p": servers.TOP_P, "top_k": 0}


@dataclass(frozen=True)
class _Load:
    """What is sent in each round.

    Attributes:
        title: The section's title.
        yardstick: The name of the row of ``generate`` without a server.
        callers: Calls at a time, and rows of a static batch.
        lengths: New tokens of the calls of each round.
        sampled: Whether tokens are sampled.
    """

    title: str
    yardstick: str
    callers: int
    lengths: Sequence[Sequence[int]]
    sampled: bool = False


def measure(
    report: Report, baseline: Baseline, prompts: Prompts, contenders: Sequence[Server], runs: int, dtype: str
) -> None:
    """Measure five loads, each in rounds in which every contender has a turn.

    Args:
        report: Where the sections go.
        baseline: Measured in every round.
        prompts: Makes prompts: new ones for every round, the same for all contenders of a round.
        contenders: Servers, which are stopped between their turns.
        runs: Number of rounds.
        dtype: The precision that all contenders compute in.
    """
    suffix = "" if dtype == "float32" else f", {dtype}"
    drawn = f", temperature {servers.TEMPERATURE} and top-p {servers.TOP_P}"
    even, mixed = [[NEW_TOKENS] * ROWS] * runs, [_mixed_lengths(seed) for seed in range(runs)]
    eight = f"{ROWS} callers, {INPUT_TOKENS} tokens in and {NEW_TOKENS} out"
    one = f"one caller, {INPUT_TOKENS} tokens in and {NEW_TOKENS} out"
    many = f"{MIXED_REQUESTS} requests of {SHORTEST} to {LONGEST} new tokens, {ROWS} at a time"
    static, batches = (
        f"raw generate, static batch of {ROWS}",
        f"raw generate, static batches of {ROWS} in order",
    )
    # The stock way and transformers serve are left out of the others: they take minutes, and the first load
    # shows them. transformers serve samples as its first request does.
    fast = [server for server in contenders if not server.name.startswith(("toolkit", "transformers"))]
    loads = [
        (_Load(eight + suffix, static, ROWS, even), contenders),
        (_Load(eight + drawn + suffix, f"{static}, sampled", ROWS, even, sampled=True), fast),
        (_Load(one + suffix, "raw generate, batch of 1", 1, [[NEW_TOKENS]] * runs), contenders),
        (_Load(many + suffix, batches, ROWS, mixed), fast),
        (_Load(many + drawn + suffix, f"{batches}, sampled", ROWS, mixed, sampled=True), fast),
    ]
    for load, servers_of_load in loads:
        with report.section(load.title) as rows:
            texts = [[prompts.make(INPUT_TOKENS) for _ in lengths] for lengths in load.lengths]
            rows += _run_rounds(baseline, servers_of_load, load, texts)


def _mixed_lengths(seed: int) -> list[int]:
    rng = random.Random(seed)
    return [rng.randint(SHORTEST, LONGEST) for _ in range(MIXED_REQUESTS)]


def _run_rounds(
    baseline: Baseline, contenders: Sequence[Server], load: _Load, texts: Sequence[Sequence[str]]
) -> list[Row]:
    reference: list[float] = []
    samples: dict[str, list[float]] = {server.name: [] for server in contenders}
    greedy: list[float] = []
    for prompts, new_tokens in zip(texts, load.lengths, strict=True):
        requests, tokens = list(zip(prompts, new_tokens, strict=True)), sum(new_tokens)
        options = _SAMPLED if load.sampled else None
        batches = _batches(baseline, requests, load.callers, options)
        reference.append(_tokens_per_second(1, batches, tokens, load.yardstick))
        for server in contenders:
            with server.alone():
                samples[server.name].append(_serve(server, requests, load.callers, sampled=load.sampled))
                if load.sampled and server is contenders[0]:
                    greedy.append(_serve(server, requests, load.callers, sampled=False))
    note = "one sample" if len(reference) == 1 else ""
    rows = [Row(load.yardstick, reference, "tokens/s", note=note)]
    for name, speeds in samples.items():
        rows.append(Row(name, speeds, "tokens/s", against="raw", reference=reference, note=note))
    if greedy:
        ours = contenders[0].name
        rows.append(Row(f"{ours}, against its greedy search", samples[ours], "tokens/s", "greedy", greedy))
    if llama_cpp := next((name for name in samples if name.startswith("llama.cpp")), None):
        ours, theirs = contenders[0].name, samples[llama_cpp]
        rows.append(Row(f"{ours}, against llama.cpp", samples[ours], "tokens/s", "llama.cpp", theirs))
    return rows


def _serve(server: Server, requests: Sequence[tuple[str, int]], at_a_time: int, *, sampled: bool) -> float:
    calls = iter([partial(server.generate, text, count, sampled) for text, count in requests])
    return _tokens_per_second(at_a_time, calls, sum(count for _, count in requests), server.name)


def _batches(
    baseline: Baseline, requests: Sequence[tuple[str, int]], size: int, options: dict[str, Any] | None
) -> Iterator[Callable[[], int]]:
    for start in range(0, len(requests), size):
        texts, counts = zip(*requests[start : start + size], strict=True)
        yield partial(baseline.generate, texts, counts, options)


def _tokens_per_second(at_a_time: int, calls: Iterator[Callable[[], int]], tokens: int, name: str) -> float:
    load = callers.run(at_a_time, calls)
    assert not load.failures, f"{name}: {load.failures[0]}"
    # Fewer came where a text met its deadline: something else ran on the machine.
    assert load.tokens == tokens, (
        f"{name}: {load.tokens} tokens instead of {tokens} would make the figure wrong"
    )
    return load.tokens_per_second


def measure_all(
    report: Report, baseline: Baseline, prompts: Prompts, weights: Path, runs: int, dtype: str
) -> None:
    """Start all contenders that are installed, and measure them."""
    with ExitStack() as stack:
        preset = servers.write_preset(dtype, Path(stack.enter_context(TemporaryDirectory(prefix="inf2kit-"))))
        inf2kit_server, _ = stack.enter_context(servers.local_endpoint(preset))
        contenders = [inf2kit_server, stack.enter_context(servers.stock_toolkit(weights, dtype))]
        for peer in (servers.transformers_serve, servers.llama_cpp):
            server = stack.enter_context(peer(weights, dtype))
            if server is None:
                print(f"{peer.__name__} is not installed and left out; build it with make bench-peers")
            else:
                contenders.append(server)
        for server in contenders:
            with server.alone():  # some are slower at the first call of a length
                callers.run(ROWS, iter([partial(server.generate, prompts.make(32), 4, False)] * ROWS))
        baseline.generate([prompts.make(32)] * ROWS, [4] * ROWS)
        measure(report, baseline, prompts, contenders, runs, dtype)
