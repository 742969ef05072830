"""The cost of choosing tokens, as a ratio to one ``torch.logsumexp`` over the same logits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from collections.abc import Sequence as Rows
from pathlib import Path
from typing import Any

import torch

from benchmarks.engine import make_request
from benchmarks.prompts import Prompts, english_text
from benchmarks.report import Report, Row
from inf2kit.serving.engine.backend.base import PrefillChunk, StepOutput
from inf2kit.serving.engine.backend.cpu.backend import CpuBackend
from inf2kit.serving.engine.next_tokens import NextToken, choose_tokens
from inf2kit.serving.engine.sequence import Sequence
from inf2kit.serving.engine.tokenizer import PlainDecoder
from inf2kit.serving.shapes import StaticShapes
from inf2kit.serving.wire import Parameters

#: Llama 2's vocabulary and Llama 3's.
_VOCABULARIES = (32_000, 128_256)
_ROWS = (4, 8, 32, 48)
#: Steps with other logits, so that the processor's cache does not hold them already.
_STEPS = 3
#: Each figure is the fastest of this many steps, which alternate with logsumexp.
_LEAST_ROUNDS, _ROUNDS_S = 9, 0.25
#: How far each copy of recorded logits is below the one before it, where a vocabulary is larger.
_COPY_STEP = 5.0

_SAMPLED: dict[str, Any] = {"do_sample": True, "seed": 1}
_PENALTIES: dict[str, Any] = {"repetition_penalty": 1.2, "presence_penalty": 0.5, "frequency_penalty": 0.2}
_BIAS: dict[str, Any] = {"logit_bias": tuple((token_id, 1.0) for token_id in range(100, 200))}
_MODES: dict[str, list[dict[str, Any]]] = {
    "greedy": [{}],
    "temperature 0.7": [{**_SAMPLED, "temperature": 0.7}],
    "top-p 0.9": [{**_SAMPLED, "top_p": 0.9}],
    "top-k 50": [{**_SAMPLED, "top_k": 50}],
    "top-k 50, top-p 0.9, temperature 0.7": [{**_SAMPLED, "top_k": 50, "top_p": 0.9, "temperature": 0.7}],
    "min-p 0.05": [{**_SAMPLED, "min_p": 0.05}],
    "typical-p 0.95": [{**_SAMPLED, "typical_p": 0.95}],
    "penalties, greedy": [_PENALTIES],
    "penalties, top-p 0.9, temperature 0.7": [{**_SAMPLED, **_PENALTIES, "top_p": 0.9, "temperature": 0.7}],
    "100 biases, min tokens, top-p 0.9": [{**_SAMPLED, **_BIAS, "min_new_tokens": 10**6, "top_p": 0.9}],
    "greedy, logprobs": [{"logprobs": True}],
    "top-p 0.9, temperature 0.7, 5 top logprobs": [
        {**_SAMPLED, "top_p": 0.9, "temperature": 0.7, "logprobs": True, "top_n_tokens": 5}
    ],
}
_MODES["mixed: row by row one of the above"] = [options for mode in _MODES.values() for options in mode]


def measure_sampling(report: Report, weights: Path, prompts: Prompts) -> None:
    """Measure every mode on random logits and on logits of the embedded model, with one thread and more."""
    threads_before = torch.get_num_threads()
    tokenizer = PlainDecoder(prompts.tokenizer)
    recorded = _record(weights, prompts)
    kinds = {
        "logits of the embedded model": lambda rows, ids: [_tiled(step, rows, ids) for step in recorded],
        "random logits, deviation 3": lambda rows, ids: _random(rows, ids, 3.0),
        "random logits, deviation 1": lambda rows, ids: _random(rows, ids, 1.0),
    }
    try:
        for kind, logits_of in kinds.items():
            for threads in sorted({1, threads_before}):
                torch.set_num_threads(threads)
                title = f"choosing tokens, {kind}, {threads} {'thread' if threads == 1 else 'threads'}"
                with report.section(title) as lines:
                    for vocabulary in _VOCABULARIES:
                        lines.extend(_measure_modes(vocabulary, logits_of, tokenizer))
    finally:
        torch.set_num_threads(threads_before)


def _measure_modes(vocabulary: int, logits_of: Any, tokenizer: PlainDecoder) -> Iterator[Row]:
    took: dict[str, list[tuple[float, float]]] = {mode: [] for mode in _MODES}
    for rows in _ROWS:
        steps = logits_of(rows, vocabulary)
        for mode, options in _MODES.items():
            sequences = [_sequence(tokenizer, row, options[row % len(options)]) for row in range(rows)]
            took[mode].append(_fastest(steps, sequences))
    for mode, pairs in took.items():
        ratios = ", ".join(
            f"{chosen / plain:.2f} at {rows}" for rows, (chosen, plain) in zip(_ROWS, pairs, strict=True)
        )
        chosen, plain = pairs[_ROWS.index(32)]
        yield Row(
            f"{mode}, 32 rows of {vocabulary:,}",
            [1e3 * chosen],
            "ms",
            against="logsumexp",
            reference=[1e3 * plain],
            note=f"by rows: {ratios}",
            decimals=2,
        )


def _fastest(steps: Rows[torch.Tensor], sequences: Rows[Sequence]) -> tuple[float, float]:
    """Return the seconds of a step and of logsumexp, each the fastest of many that alternate.

    With one thread they are the thread's processor time, which other processes do not add to.
    """
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    choosing, plain = float("inf"), float("inf")
    end, rounds = time.perf_counter() + _ROUNDS_S, 0
    while rounds < _LEAST_ROUNDS or time.perf_counter() < end:
        logits = steps[rounds % len(steps)]
        began = clock()
        torch.logsumexp(logits, dim=-1)
        between = clock()
        tokens = choose_tokens(StepOutput(logits), sequences)
        ended = clock()
        plain, choosing = min(plain, between - began), min(choosing, ended - between)
        for sequence, token in zip(sequences, tokens, strict=True):
            if not isinstance(token, NextToken):
                raise token
            sequence.sampler.record(token.id)
        rounds += 1
    return choosing, plain


def _sequence(tokenizer: PlainDecoder, row: int, options: dict[str, Any]) -> Sequence:
    parameters = Parameters(max_new_tokens=None, ignore_eos=True, **options)
    request = make_request(range(row, row + 500), parameters)
    request.with_logprobs = parameters.logprobs
    return Sequence(row, request, StaticShapes.resolve(row + 1, 2048), tokenizer, frozenset([2]))


def _record(weights: Path, prompts: Prompts) -> list[torch.Tensor]:
    """Return logits that the embedded model computes in an English text, a row for each place."""
    backend = CpuBackend(weights, StaticShapes.resolve(8, 2048), "float32")
    backend.load()
    ids = prompts.tokenizer(english_text()[: 40 * 1000])["input_ids"]
    most = max(_ROWS)
    for row in range(8):
        backend.prefill([PrefillChunk(row, ids[row * 600 : row * 600 + 100])])
    rows = []
    for place in range(-(-_STEPS * most // 8)):
        step = backend.decode(list(range(8)), [ids[row * 600 + 100 + place] for row in range(8)])
        rows.append(step.logits.clone())
    return list(torch.cat(rows)[: _STEPS * most].split(most))


def _tiled(step: torch.Tensor, rows: int, vocabulary: int) -> torch.Tensor:
    """Cut logits to a smaller vocabulary, or fill a larger one with copies, each less likely."""
    copies = -(-vocabulary // step.shape[1])
    wide = torch.cat([step[:rows] - _COPY_STEP * copy for copy in range(copies)], dim=1)
    return wide[:, :vocabulary].contiguous()


def _random(rows: int, vocabulary: int, deviation: float) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(rows)
    return [torch.randn(rows, vocabulary, generator=generator) * deviation for _ in range(_STEPS)]
