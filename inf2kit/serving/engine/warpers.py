"""Warpers: which tokens a row draws from, by temperature, top-k, top-p, min-p and typical-p, in this order.

They leave what transformers' own warpers leave, in the order of ``GenerationMixin._get_logits_processor``.
Here, that is a list of tokens for each row. ``rejection`` does without lists where it can.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from inf2kit.serving.engine.probabilities import Doubles, Floats, Ints
from inf2kit.serving.engine.selection import best, most_selected, take
from inf2kit.serving.wire import Parameters

#: How much a bound is lower than what rounding may make of it.
_MARGIN = 1e-3

Bools = NDArray[np.bool_]


class Lists(NamedTuple):
    """What is left of some rows.

    Attributes:
        rows: Their indexes.
        ids: Shape ``[rows, tokens]``, in ascending order but for the end of shorter lists.
        weights: Of the same shape, proportional to the tokens' probabilities; 0 for those that are dropped,
            and at the end of shorter lists.
    """

    rows: Sequence[int]
    ids: Ints
    weights: Doubles


def warp(values: Floats, parameters: Sequence[Parameters]) -> list[Lists]:
    """Return what the warpers leave: of all rows with a small top-k together, and of each other row.

    Args:
        values: Processed logits, shape ``[rows, vocabulary]``; each row has a finite best value.
        parameters: One per row.
    """
    vocabulary = values.shape[1]
    small = [index for index, row in enumerate(parameters) if 0 < row.top_k <= most_selected(vocabulary)]
    lists = []
    if small:
        options = [parameters[index] for index in small]
        selected = best(take(values, small, "small top-k"), [row.top_k for row in options])
        ids, logits = _padded(*selected, len(small))
        # Those that tie with the k-th stay, as in transformers.
        least = np.sort(logits)[np.arange(len(small)), [-row.top_k for row in options]]
        logits[logits < least[:, None]] = -np.inf
        lists.append(Lists(small, ids, _warp(logits, options)))
    for index in sorted({*range(len(parameters))}.difference(small)):
        ids, dropped = _possible(values[index], parameters[index])
        weights = _warp(values[index, ids][None], [parameters[index]], dropped)
        lists.append(Lists([index], ids[None], weights))
    return lists


def _padded(rows: Ints, ids: Ints, logits: Floats, count: int) -> tuple[Ints, Floats]:
    """Lay lists of different lengths, in the order of rows, into arrays of shape ``[count, tokens]``."""
    starts = rows.searchsorted(np.arange(count))
    places = np.arange(len(rows)) - starts[rows]
    padded_ids = np.zeros((count, places.max() + 1), dtype=np.int64)
    padded_logits = np.full(padded_ids.shape, -np.inf, dtype=np.float32)
    padded_ids[rows, places], padded_logits[rows, places] = ids, logits
    return padded_ids, padded_logits


def _possible(logits: Floats, row: Parameters) -> tuple[Ints, float]:
    """Return the ids of one row that may remain, and the weight that top-p drops of others."""
    weights = np.exp((logits - logits.max()) / np.float32(row.temperature))
    if 0 < row.top_k < len(logits):
        weights *= logits >= np.partition(logits, -row.top_k)[-row.top_k]
    least = row.min_p
    if row.top_p < 1:
        # All tokens together that are less likely than this are not more than top-p drops.
        least = (1 - row.top_p) * float(weights.sum(dtype=np.float64)) / len(weights)
    possible = weights > least * (1 - _MARGIN)
    dropped = weights.sum(where=~possible, dtype=np.float64) if row.top_p < 1 else 0.0
    return possible.nonzero()[0], float(dropped)


def _warp(logits: Floats, parameters: Sequence[Parameters], dropped: float = 0.0) -> Doubles:
    """Return the weights of lists, with zeros for the tokens that the warpers after top-k drop.

    Args:
        logits: float32, shape ``[rows, tokens]``, minus infinity for what is not in a list.
        parameters: One per row.
        dropped: The weight that top-p drops of other tokens, where the best one's is 1.
    """
    scaled = logits / np.array([row.temperature for row in parameters], dtype=np.float32)[:, None]
    weights = np.exp(scaled - scaled.max(-1, keepdims=True), dtype=np.float64)
    top_p = np.array([row.top_p for row in parameters])
    if (top_p < 1).any():
        totals = weights.sum(-1) + dropped
        weights *= _stay(weights, weights, np.where(top_p < 1, (1 - top_p) * totals - dropped, -1))
    weights *= weights >= np.array([row.min_p for row in parameters])[:, None]  # the best one's weight is 1
    typical_p = np.array([row.typical_p for row in parameters])
    if (typical_p < 1).any():
        shares = weights / weights.sum(-1, keepdims=True)
        logs = np.log(shares, where=shares > 0, out=np.full_like(shares, -np.inf))
        entropies = -np.multiply(shares, logs, where=shares > 0, out=np.zeros_like(shares)).sum(-1)
        merits = -np.abs(logs + entropies[:, None])
        weights *= _stay(merits, shares, np.where(typical_p < 1, 1 - typical_p, -1), with_ties=True)
    return np.asarray(weights)


def _stay(merits: Doubles, weights: Doubles, droppable: Doubles, *, with_ties: bool = False) -> Bools:
    """Return which tokens of lists stay when those with the least merit are dropped.

    Args:
        merits: Shape ``[rows, tokens]``, in ascending order of ids.
        weights: Of the same shape.
        droppable: Of each row: tokens are dropped while their weights sum to no more; the last one stays.
        with_ties: Whether all tokens with the same merit as the least one that stays stay, too. Otherwise the
            lowest ids of them are dropped first.
    """
    order = merits.argsort(kind="stable")
    sums = np.take_along_axis(weights, order, -1).cumsum(-1)
    counts = np.minimum((sums <= droppable[:, None]).sum(-1), merits.shape[1] - 1)
    if with_ties:
        rows = np.arange(len(merits))
        return np.asarray(merits >= merits[rows, order[rows, counts]][:, None])
    stay = np.empty(merits.shape, dtype=np.bool_)
    np.put_along_axis(stay, order, np.arange(merits.shape[1]) >= counts[:, None], -1)
    return stay
