"""Tokens per second of this kit, of ``generate`` without any server, of the stock way and of the peers."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import callers, servers
from benchmarks.baseline import Baseline
from benchmarks.prompts import Prompts
from benchmarks.report import Report, Row
from benchmarks.servers import Server

INPUT_TOKENS, NEW_TOKENS, ROWS = 128, 64, 8
MIXED_REQUESTS, SHORTEST, LONGEST = 32, 16, 256


def measure(
    report: Report, baseline: Baseline, prompts: Prompts, contenders: Sequence[Server], runs: int, dtype: str
) -> None:
    """Measure three loads, each in rounds in which every contender has a turn.

    Args:
        report: Where the sections go.
        baseline: Measured in every round.
        prompts: Makes prompts: new ones for every round, the same for all contenders of a round.
        contenders: Servers, which are stopped between their turns.
        runs: Number of rounds.
        dtype: The precision that all contenders compute in.
    """
    dtype_suffix = "" if dtype == "float32" else f", {dtype}"
    with report.section(
        f"{ROWS} callers, {INPUT_TOKENS} tokens in and {NEW_TOKENS} out{dtype_suffix}"
    ) as rows:
        texts = [[prompts.make(INPUT_TOKENS) for _ in range(ROWS)] for _ in range(runs)]
        lengths = [[NEW_TOKENS] * ROWS] * runs
        rows += _run_rounds(
            baseline, contenders, texts, lengths, ROWS, f"raw generate, static batch of {ROWS}"
        )
    with report.section(f"one caller, {INPUT_TOKENS} tokens in and {NEW_TOKENS} out{dtype_suffix}") as rows:
        texts = [[prompts.make(INPUT_TOKENS)] for _ in range(runs)]
        lengths = [[NEW_TOKENS]] * runs
        rows += _run_rounds(baseline, contenders, texts, lengths, 1, "raw generate, batch of 1")
    # The stock way and transformers serve are left out: they take minutes, and the first load shows them.
    title = f"{MIXED_REQUESTS} requests of {SHORTEST} to {LONGEST} new tokens, {ROWS} at a time{dtype_suffix}"
    with report.section(title) as rows:
        texts = [[prompts.make(INPUT_TOKENS) for _ in range(MIXED_REQUESTS)] for _ in range(runs)]
        lengths = [_mixed_lengths(seed) for seed in range(runs)]
        fast = [server for server in contenders if not server.name.startswith(("toolkit", "transformers"))]
        rows += _run_rounds(
            baseline, fast, texts, lengths, ROWS, f"raw generate, static batches of {ROWS} in order"
        )


def _mixed_lengths(seed: int) -> list[int]:
    rng = random.Random(seed)
    return [rng.randint(SHORTEST, LONGEST) for _ in range(MIXED_REQUESTS)]


def _run_rounds(
    baseline: Baseline,
    contenders: Sequence[Server],
    texts: Sequence[Sequence[str]],
    lengths: Sequence[Sequence[int]],
    at_a_time: int,
    yardstick: str,
) -> list[Row]:
    reference: list[float] = []
    samples: dict[str, list[float]] = {server.name: [] for server in contenders}
    for prompts, new_tokens in zip(texts, lengths, strict=True):
        requests = list(zip(prompts, new_tokens, strict=True))
        reference.append(_tokens_per_second(1, _batches(baseline, requests, at_a_time), sum(new_tokens)))
        for server in contenders:
            with server.alone():
                calls = iter([partial(server.generate, text, count) for text, count in requests])
                samples[server.name].append(_tokens_per_second(at_a_time, calls, sum(new_tokens)))
    rows = [Row(yardstick, reference, "tokens/s")]
    for name, speeds in samples.items():
        rows.append(Row(name, speeds, "tokens/s", against="raw", reference=reference))
    return rows


def _batches(
    baseline: Baseline, requests: Sequence[tuple[str, int]], size: int
) -> Iterator[Callable[[], int]]:
    for start in range(0, len(requests), size):
        texts, counts = zip(*requests[start : start + size], strict=True)
        yield partial(baseline.generate, texts, counts)


def _tokens_per_second(at_a_time: int, calls: Iterator[Callable[[], int]], tokens: int) -> float:
    load = callers.run(at_a_time, calls)
    assert not load.failures, load.failures[0]
    assert load.tokens == tokens, f"{load.tokens} tokens instead of {tokens} would make the figure wrong"
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
                callers.run(ROWS, iter([partial(server.generate, prompts.make(32), 4)] * ROWS))
        baseline.generate([prompts.make(32)] * ROWS, [4] * ROWS)
        measure(report, baseline, prompts, contenders, runs, dtype)
