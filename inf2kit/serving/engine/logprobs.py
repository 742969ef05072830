"""Log-probabilities of tokens in the model's own distribution, before processors and warpers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch


def logprobs(logits: torch.Tensor, ids: Sequence[int]) -> list[float | None]:
    """Return the natural logarithm of each chosen token's probability; None where that is no number.

    Args:
        logits: float32, shape ``[rows, vocabulary]``, unprocessed.
        ids: One chosen id per row.
    """
    values = torch.log_softmax(logits, dim=-1)[torch.arange(len(ids)), torch.tensor(ids)]
    return [value if math.isfinite(value) else None for value in values.tolist()]


def top_logprobs(logits: torch.Tensor, counts: Sequence[int]) -> list[list[tuple[int, float]]]:
    """Return the most likely tokens of each row with their log-probabilities, best first.

    Args:
        logits: float32, shape ``[rows, vocabulary]``, unprocessed.
        counts: Number of tokens per row, at least one of them above 0. Where several tokens are equally
            likely, the lowest ids come first, as in greedy search.
    """
    most = min(max(counts), logits.shape[1])
    best = torch.topk(logits, most).values.numpy()
    logs = torch.log_softmax(logits, dim=-1).numpy()
    rows: list[list[tuple[int, float]]] = []
    for values, row_best, row_logs, count in zip(logits.numpy(), best, logs, counts, strict=True):
        ids = np.flatnonzero(values >= row_best[min(count, most) - 1])
        ids = ids[np.argsort(-values[ids], kind="stable")][:count]
        pairs = [(int(token_id), float(row_logs[token_id])) for token_id in ids]
        rows.append([(token_id, value) for token_id, value in pairs if math.isfinite(value)])
    return rows
