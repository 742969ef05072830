"""Warpers: which tokens a row draws from, by temperature, top-k, top-p, min-p and typical-p, in this order.

They leave what transformers' own warpers leave, in the order of ``GenerationMixin._get_logits_processor``,
but look at few tokens only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from inf2kit.serving.wire import Parameters

#: top-p counts tokens in bins of a quarter of a nat below the best one; the last bin has all that is lower.
_BINS_PER_NAT, _LAST_BIN = 4, 400
#: Nats by which rounding may move a token below the border of min-p.
_MIN_P_MARGIN = 1e-3

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]


def leaves_all(parameters: Parameters) -> bool:
    """Whether a row draws from the whole vocabulary."""
    return (
        parameters.top_k <= 0
        and parameters.top_p >= 1
        and parameters.min_p <= 0
        and parameters.typical_p >= 1
    )


def candidates(values: Floats, parameters: Sequence[Parameters]) -> tuple[Ints, Ints, Floats]:
    """Return the tokens of each row that its warpers leave.

    Args:
        values: Processed logits, shape ``[rows, vocabulary]``.
        parameters: One per row.

    Returns:
        Row, id and weight of every candidate, each of shape ``[candidates of all rows]``, ordered by row and
        then by id. The weights of a row are proportional to the tokens' probabilities.
    """
    vocabulary = values.shape[1]
    ids: list[Ints] = [np.empty(0, dtype=np.int64)] * len(parameters)
    tail = np.zeros(len(parameters))
    limited = [index for index, row in enumerate(parameters) if 0 < row.top_k < vocabulary]
    for index, best_ids in zip(limited, _top_k(values, limited, parameters), strict=True):
        ids[index] = best_ids
    for index, row in enumerate(parameters):
        if index not in limited:
            ids[index], tail[index] = _superset(values[index], row)
    segment = np.repeat(np.arange(len(parameters)), [len(row_ids) for row_ids in ids])
    flat = np.concatenate(ids)
    temperature = np.array([row.temperature for row in parameters], dtype=values.dtype)
    scaled = values[segment, flat] / temperature[segment]
    best = np.maximum.reduceat(scaled, np.searchsorted(segment, np.arange(len(parameters))))
    weights = np.exp((scaled - best[segment]).astype(np.float64))
    top_p = np.array([row.top_p for row in parameters])
    if (top_p < 1).any():
        stays = _top_p(segment, weights, top_p, tail)
        segment, flat, weights = segment[stays], flat[stays], weights[stays]
    min_p = np.array([row.min_p for row in parameters])
    if (min_p > 0).any():
        # The weight of a row's best token is 1.
        stays = weights >= min_p[segment]
        segment, flat, weights = segment[stays], flat[stays], weights[stays]
    typical = [index for index, row in enumerate(parameters) if row.typical_p < 1]
    if typical:
        stays = np.ones(len(segment), dtype=np.bool_)
        for index in typical:
            start, end = np.searchsorted(segment, [index, index + 1])
            stays[start:end] = _typical_p(weights[start:end], parameters[index].typical_p)
        segment, flat, weights = segment[stays], flat[stays], weights[stays]
    return segment, flat, weights


def _top_k(values: Floats, limited: Sequence[int], parameters: Sequence[Parameters]) -> Iterator[Ints]:
    """Yield the k best ids of each limited row, and ids that tie with the k-th, as in transformers."""
    if not limited:
        return
    top_k = [parameters[index].top_k for index in limited]
    rows = torch.from_numpy(values[limited] if len(limited) < len(values) else values)
    top = torch.topk(rows, min(max(top_k) + 1, values.shape[1]))
    for index, count, best, best_ids in zip(
        limited, top_k, top.values.numpy(), top.indices.numpy(), strict=True
    ):
        # A banned token has no probability: it is never a candidate.
        least = max(best[count - 1], np.finfo(values.dtype).min)
        if best[count] == best[count - 1] or best[count - 1] < least:
            yield np.flatnonzero(values[index] >= least)
        else:
            yield np.sort(best_ids[:count])


def _superset(values: Floats, parameters: Parameters) -> tuple[Ints, float]:
    """Return ids of one row without top-k that include all that its warpers leave.

    Where top-p is the reason, the weight of the others comes with them.

    Counting tokens in bins below the best one avoids sorting the vocabulary: a token more than a bin below
    the one that reaches top-p is dropped, whatever the order within the bins.
    """
    if parameters.top_p >= 1:
        least = -np.inf
        if parameters.min_p > 0 and parameters.typical_p >= 1:
            below = (math.log(parameters.min_p) - _MIN_P_MARGIN) * parameters.temperature
            least = float(values.max()) + below
        return np.flatnonzero((values > -np.inf) & (values >= least)), 0.0
    below = (values.max() - values) / values.dtype.type(parameters.temperature)
    weights = np.exp(-below)
    bins = np.minimum(below * _BINS_PER_NAT, _LAST_BIN).astype(np.intp)
    running = np.cumsum(np.bincount(bins, weights, minlength=_LAST_BIN + 1))
    # One bin more than reaches top-p, as sums in another order differ in their last bits.
    last = np.searchsorted(running, parameters.top_p * running[-1]) + 1
    ids = np.flatnonzero(bins <= last)
    return ids, float(running[-1] - running[min(last, _LAST_BIN)])


def _top_p(segment: Ints, weights: Floats, top_p: Floats, tail: Floats) -> NDArray[np.bool_]:
    """Return which candidates stay: the least likely go as long as they are within 1 - top_p together."""
    order = np.lexsort((weights, segment))
    ends = np.searchsorted(segment, np.arange(len(top_p)), side="right")
    total = np.add.reduceat(weights, np.concatenate([[0], ends[:-1]])) + tail
    running = np.cumsum(weights[order])
    before = np.concatenate([[0.0], running[ends[:-1] - 1]])
    dropped = (running - before[segment] + tail[segment]) / total[segment] <= (1 - top_p)[segment]
    dropped[top_p[segment] >= 1] = False
    dropped[ends - 1] = False  # the best one always stays
    stays = np.empty(len(segment), dtype=np.bool_)
    stays[order] = ~dropped
    return stays


def _typical_p(weights: Floats, mass: float) -> NDArray[np.bool_]:
    """Return which candidates of one row stay: those whose surprise is nearest to the expected one.

    They are taken until their probabilities sum to ``mass``, and with the last one all that are as near.
    """
    logs = np.log(weights / weights.sum(), where=weights > 0, out=np.full(len(weights), -np.inf))
    probabilities = np.exp(logs)
    possible = probabilities > 0
    entropy = -np.sum(probabilities[possible] * logs[possible])
    distances = np.abs(-logs - entropy)
    order = np.argsort(distances, kind="stable")
    taken = int((np.cumsum(probabilities[order]) < mass).sum())
    return np.asarray(distances <= distances[order[min(taken, len(order) - 1)]])
