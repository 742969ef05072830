"""Beyond the static sequence: the perplexity of a long text in a row that is refilled when it is full."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import torch

from benchmarks.baseline import Baseline
from benchmarks.prompts import Prompts, english_text
from benchmarks.report import Report, Row
from inf2kit.serving.shapes import StaticShapes

_TOKENS = 3000
_SHAPES = StaticShapes.resolve(1, 1024)


def measure_perplexity(report: Report, baseline: Baseline, prompts: Prompts, runs: int) -> None:
    """Measure the perplexity of the tokens after the first full row, with three ways to continue it."""
    began = time.perf_counter()
    text = english_text()
    ids = prompts.tokenizer(text)["input_ids"]
    step = len(ids) // runs
    samples: dict[str, list[float]] = {}
    for run in range(runs):
        part = ids[run * step : run * step + _TOKENS]
        whole = _log_likelihoods(baseline, part, 0)
        ways = {
            "full-length run, nothing forgotten": whole[_SHAPES.sequence_length - 1 :],
            "overflow 'sinks': first 4 tokens and the most recent": _refilled(baseline, part, _SHAPES.window),
            "plain truncation: the most recent tokens only": _refilled(baseline, part, _most_recent),
        }
        for name, values in ways.items():
            assert len(values) == _TOKENS - _SHAPES.sequence_length
            samples.setdefault(name, []).append(math.exp(-sum(values) / len(values)))
    full = next(iter(samples.values()))
    title = f"perplexity of tokens {_SHAPES.sequence_length:,} to {_TOKENS:,} of a text, rows of 1,024"
    with report.section(title, began) as rows:
        for name, values in samples.items():
            rows.append(Row(name, values, "", against="full", reference=full, decimals=2))


def _most_recent(ids: Sequence[int]) -> list[int]:
    return list(ids[-len(_SHAPES.window(ids)) :])


def _refilled(
    baseline: Baseline, ids: Sequence[int], window: Callable[[Sequence[int]], list[int]]
) -> list[float]:
    """Return the log-likelihoods of all tokens after the first full row, with the engine's refills."""
    log_likelihoods: list[float] = []
    done = _SHAPES.sequence_length
    while done < len(ids):
        context = window(ids[:done])
        # The row is full when it has no room for its last token, so there is one token more.
        new_ids = ids[done : done + _SHAPES.sequence_length + 1 - len(context)]
        log_likelihoods += _log_likelihoods(baseline, [*context, *new_ids], len(context) - 1)
        done += len(new_ids)
    return log_likelihoods


@torch.inference_mode()
def _log_likelihoods(baseline: Baseline, ids: Sequence[int], start: int) -> list[float]:
    """Return the log-likelihood of each token after position ``start``, given all tokens before it."""
    hidden = baseline.model.model(torch.tensor([list(ids)])).last_hidden_state[0]
    log_likelihoods: list[float] = []
    for begin in range(start, len(ids) - 1, 512):
        end = min(begin + 512, len(ids) - 1)
        logits = torch.log_softmax(baseline.model.lm_head(hidden[begin:end]), -1)
        log_likelihoods += logits[torch.arange(end - begin), torch.tensor(ids[begin + 1 : end + 1])].tolist()
    return log_likelihoods
