"""Past the static sequence: the perplexity of a long text with a row that is refilled when it is full."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import torch

from benchmarks.prompts import Prompts, english
from benchmarks.raw import Raw
from benchmarks.report import Report, Row
from inf2kit.serving.shapes import StaticShapes

_TOKENS = 3000
_SHAPES = StaticShapes.resolve(1, 1024)


def perplexity(report: Report, raw: Raw, prompts: Prompts, runs: int) -> None:
    """Of the same tokens each time: those behind the first full row of a long text."""
    began = time.perf_counter()
    text = english()
    ids = prompts.tokenizer(text)["input_ids"]
    step = len(ids) // runs
    samples: dict[str, list[float]] = {}
    for run in range(runs):
        part = ids[run * step : run * step + _TOKENS]
        whole = _log_likelihoods(raw, part, 0)
        ways = {
            "full-length run, nothing forgotten": whole[_SHAPES.sequence_length - 1 :],
            "overflow 'sinks': first 4 tokens and the most recent": _refilled(raw, part, _SHAPES.window),
            "plain truncation: the most recent tokens only": _refilled(raw, part, _most_recent),
        }
        for name, values in ways.items():
            assert len(values) == _TOKENS - _SHAPES.sequence_length
            samples.setdefault(name, []).append(math.exp(-sum(values) / len(values)))
    full = next(iter(samples.values()))
    title = f"perplexity of tokens {_SHAPES.sequence_length:,} to {_TOKENS:,} of a text, rows of 1,024"
    with report.section(title, began) as rows:
        for name, found in samples.items():
            rows.append(Row(name, found, "", against="full", reference=full, decimals=2))


def _most_recent(ids: Sequence[int]) -> list[int]:
    return list(ids[-len(_SHAPES.window(ids)) :])


def _refilled(raw: Raw, ids: Sequence[int], window: Callable[[Sequence[int]], list[int]]) -> list[float]:
    """Log-likelihoods of all tokens behind the first full row, as the engine's rows see them."""
    found: list[float] = []
    done = _SHAPES.sequence_length
    while done < len(ids):
        kept = window(ids[:done])
        # A row is full when it has no room for its last token, which came one later.
        coming = ids[done : done + _SHAPES.sequence_length + 1 - len(kept)]
        found += _log_likelihoods(raw, [*kept, *coming], len(kept) - 1)
        done += len(coming)
    return found


@torch.inference_mode()
def _log_likelihoods(raw: Raw, ids: Sequence[int], start: int) -> list[float]:
    """Of each token behind position ``start``, given all before it."""
    hidden = raw.model.model(torch.tensor([list(ids)])).last_hidden_state[0]
    found: list[float] = []
    for begin in range(start, len(ids) - 1, 512):
        end = min(begin + 512, len(ids) - 1)
        logits = torch.log_softmax(raw.model.lm_head(hidden[begin:end]), -1)
        found += logits[torch.arange(end - begin), torch.tensor(ids[begin + 1 : end + 1])].tolist()
    return found
