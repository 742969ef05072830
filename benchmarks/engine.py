"""The engine alone: its own cost of a step, and how many prefills it should run between two steps."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.prompts import Prompts
from benchmarks.report import Report, Row
from inf2kit.serving.engine.backend.base import Backend, PrefillChunk, StepOutput
from inf2kit.serving.engine.backend.cpu.backend import CpuBackend
from inf2kit.serving.engine.request import Request
from inf2kit.serving.engine.scheduler import Scheduler
from inf2kit.serving.engine.tokenizer import PlainDecoder
from inf2kit.serving.shapes import StaticShapes
from inf2kit.serving.wire import Parameters

#: Seconds of a decode step of Llama 2 7B at 4 rows on inf2.48xlarge: (end to end - encoding) / new tokens in
#: the published tables, "7B latency" at 256 tokens.
PUBLISHED_STEP_S = 0.0071
LLAMA2_VOCABULARY = 32_000


class NullBackend(Backend):
    """Computes nothing, so that only the engine's own time remains."""

    def __init__(self, rows: int) -> None:
        super().__init__(StaticShapes.resolve(rows, 2048))
        self._logits = [torch.randn(rows, LLAMA2_VOCABULARY) * 3 for _ in range(8)]
        self._turn = 0

    def load(self) -> None:
        """Do nothing."""

    def _prefill(self, chunks: Sequence[PrefillChunk], starts: Sequence[int]) -> StepOutput:
        return self._step(len(chunks))

    def _decode(self, rows: Sequence[int], ids: Sequence[int], positions: Sequence[int]) -> StepOutput:
        return self._step(len(rows))

    def _step(self, rows: int) -> StepOutput:
        # Different logits at every step: the same ones would stay in the processor's cache.
        self._turn = (self._turn + 1) % len(self._logits)
        return StepOutput(self._logits[self._turn][:rows])


def make_request(ids: Sequence[int], parameters: Parameters, *, with_tokens: bool = False) -> Request:
    """Create a request whose callbacks do nothing."""
    return Request(
        prompt_ids=ids,
        parameters=parameters,
        max_new_tokens=parameters.max_new_tokens or 1,
        deadline=time.monotonic() + 3600,
        on_token=lambda *_: None,
        on_end=lambda *_: None,
        on_error=lambda _: None,
        with_tokens=with_tokens,
        with_logprobs=with_tokens,
    )


def measure_overhead(report: Report, prompts: Prompts, runs: int) -> None:
    """Measure a decode step without a model, and compare it with a published step of a real device."""
    kinds: dict[str, dict[str, object]] = {
        "greedy": {},
        "greedy, streams": {},
        "greedy with logprobs, streams": {},
        "repetition penalty": {"repetition_penalty": 1.2},
        "top-k 50, top-p 0.9": {"do_sample": True, "top_k": 50, "top_p": 0.9, "temperature": 0.7},
        "top-p 0.9": {"do_sample": True, "top_p": 0.9},
        "temperature alone": {"do_sample": True, "temperature": 0.7},
    }
    tokenizer = PlainDecoder(prompts.tokenizer)
    with report.section("engine's own time per decode step, null backend, vocabulary of 32,000") as rows:
        for kind, values in kinds.items():
            parameters = Parameters(max_new_tokens=2000, ignore_eos=True, **values)  # type: ignore[arg-type]
            for count in (4, 8, 48):
                samples = [
                    1e6
                    * _null_step(
                        tokenizer,
                        count,
                        parameters,
                        with_tokens="streams" in kind,
                        with_logprobs="logprobs" in kind,
                    )
                    for _ in range(max(runs, 3))
                ]
                share = statistics.median(samples) / 1e6 / PUBLISHED_STEP_S
                note = f"{share:.1%} of the published {PUBLISHED_STEP_S * 1e3:.1f} ms" if count == 4 else ""
                rows.append(Row(f"{kind}, {count} rows", samples, "µs", note=note, decimals=0))


def _null_step(
    tokenizer: PlainDecoder, rows: int, parameters: Parameters, *, with_tokens: bool, with_logprobs: bool
) -> float:
    scheduler = Scheduler(NullBackend(rows), tokenizer, frozenset([2]), queue_size=0)
    requests = [make_request([1, 2, 3], parameters, with_tokens=with_tokens) for _ in range(rows)]
    for request in requests:
        request.with_logprobs = with_logprobs
    scheduler.submit(requests)
    for _ in range(rows + 5):
        scheduler.step()
    steps = 100
    began = time.perf_counter()
    for _ in range(steps):
        scheduler.step()
    return (time.perf_counter() - began) / steps


def measure_prefills_per_step(report: Report, weights: Path, prompts: Prompts, runs: int) -> None:
    """Measure throughput and the stall of running rows, by the prefills between two decode steps."""
    began = time.perf_counter()
    backend = CpuBackend(weights, StaticShapes.resolve(8, 2048), "float32")
    backend.load()
    tokenizer = PlainDecoder(prompts.tokenizer)
    choices = (1, 2, 4, 8)
    speed: dict[int, list[float]] = {count: [] for count in choices}
    gaps: dict[int, list[float]] = {count: [] for count in choices}
    for run in range(-1, runs):  # the first round is not counted
        ids = [prompts.tokenizer(prompts.make(128))["input_ids"] for _ in range(16)]
        if run < 0:
            _closed_loop(backend, tokenizer, ids[:8], 1)
            continue
        for count in choices[run % 4 :] + choices[: run % 4]:
            tokens_per_second, gap = _closed_loop(backend, tokenizer, ids, count)
            speed[count].append(tokens_per_second)
            gaps[count].append(gap)
    with report.section("prefills between two decode steps: 16 texts at once", began) as rows:
        for count in choices:
            against = {"against": "1", "reference": speed[1]} if count > 1 else {}
            rows.append(Row(f"{count}: speed", speed[count], "tokens/s", **against))  # type: ignore[arg-type]
        for count in choices:
            rows.append(Row(f"{count}: worst gap of a running row", gaps[count], "s", decimals=2))


def _closed_loop(
    backend: Backend, tokenizer: PlainDecoder, prompt_ids: Sequence[Sequence[int]], prefills_per_step: int
) -> tuple[float, float]:
    times: list[list[float]] = [[] for _ in prompt_ids]
    left = len(prompt_ids)

    def ended(*_: object) -> None:
        nonlocal left
        left -= 1

    scheduler = Scheduler(
        backend, tokenizer, frozenset(), queue_size=len(prompt_ids), prefills_per_step=prefills_per_step
    )
    for index, ids in enumerate(prompt_ids):
        request = make_request(ids, Parameters(max_new_tokens=8 + 8 * (index % 8), ignore_eos=True))
        request.on_token = lambda *_, index=index: times[index].append(time.perf_counter())
        request.on_end = ended
        scheduler.submit([request])
    began = time.perf_counter()
    while left:
        scheduler.step()
    seconds = time.perf_counter() - began
    tokens = sum(8 + 8 * (index % 8) for index in range(len(prompt_ids)))
    gap = max(later - earlier for row in times for earlier, later in itertools.pairwise(row))
    return tokens / seconds, gap
