"""Log-probabilities of tokens in the model's own distribution, before processors and warpers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from inf2kit.serving.engine.buffers import buffer
from inf2kit.serving.engine.selection import Floats, best, most_selected


def logprobs(
    logits: torch.Tensor, ids: Sequence[int], counts: Sequence[int]
) -> tuple[list[float | None], list[list[tuple[int, float]]]]:
    """Return the logarithm of each chosen token's probability, and each row's most likely tokens.

    Args:
        logits: float32, shape ``[rows, vocabulary]``, unprocessed.
        ids: One chosen id per row.
        counts: Number of most likely tokens per row.

    Returns:
        One natural logarithm per row, None where that is no number; and ids with logarithms for each row, the
        best first. Where several tokens are equally likely, the lowest ids come first, as in greedy search.
    """
    rows, vocabulary = logits.shape
    logs = torch.log_softmax(logits, dim=-1, out=buffer("logprobs", rows, vocabulary)).numpy()
    chosen = logs[np.arange(rows), ids].tolist()
    top = _top(logits, logs, counts) if any(counts) else [[] for _ in counts]
    return [value if math.isfinite(value) else None for value in chosen], top


def _top(logits: torch.Tensor, logs: Floats, counts: Sequence[int]) -> list[list[tuple[int, float]]]:
    vocabulary = logits.shape[1]
    at_least_one = [min(max(count, 1), vocabulary) for count in counts]
    if max(at_least_one) <= most_selected(vocabulary):
        rows, ids, values = best(logits.numpy(), at_least_one)
    else:
        rows, ids = np.indices(logits.shape).reshape(2, -1)
        values = logits.numpy().ravel()
    order = np.lexsort((-values, rows))  # stable, so equal values stay in the order of their ids
    rows, ids = rows[order], ids[order]
    pairs = list(zip(ids.tolist(), logs[rows, ids].tolist(), strict=True))
    starts = rows.searchsorted(np.arange(len(counts))).tolist()
    return [
        [pair for pair in pairs[start : start + min(count, vocabulary)] if math.isfinite(pair[1])]
        for start, count in zip(starts, counts, strict=True)
    ]
