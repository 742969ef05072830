"""Warpers: which tokens a row draws from, by temperature, top-k, top-p, min-p and typical-p, in this order.

They leave what transformers' own warpers leave, in the order of ``GenerationMixin._get_logits_processor``.
What reads all logits is done for all rows at once. Where few tokens are left, a row goes on with a list of
them; where many are, with the whole vocabulary and zeros for those that are dropped. Which of both depends on
the row alone, so that it draws the same in any batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from inf2kit.serving.engine.buffers import buffer
from inf2kit.serving.engine.cutoff import cut, safe_bounds, sample_stride, stays
from inf2kit.serving.engine.probabilities import Doubles, Floats, block_sums, probabilities
from inf2kit.serving.engine.selection import least_of_best, lists, most_selected, take
from inf2kit.serving.wire import Parameters

#: A row that may keep more than one token in so many has no list.
_MOST_LISTED = 8
#: How much a bound is lower than what rounding may make of it.
_MARGIN = 1e-3
#: The share of what typical-p drops that is left out of its head, as it drops likely tokens, too.
_TYPICAL_TAIL = 0.7

Ints = NDArray[np.int64]


class Remaining(NamedTuple):
    """The tokens that a row draws from.

    Attributes:
        weights: Proportional to the tokens' probabilities, 0 for those that are dropped: of a list, or of the
            padded vocabulary in float32.
        ids: The ids of the list in ascending order, or None for the whole vocabulary.
        sums: The block sums of the whole vocabulary's weights; empty for a list.
    """

    weights: Floats
    ids: Ints | None
    sums: Doubles = np.empty(0)


def warp(values: Floats, parameters: Sequence[Parameters]) -> list[Remaining]:
    """Return what the warpers of each row leave.

    Args:
        values: Processed logits, shape ``[rows, vocabulary]``; each row has a finite best value.
        parameters: One per row.
    """
    bounds = _bounds_of_logits(values, parameters)
    if bounds is None:
        return _warp_probabilities(values, parameters)
    limited = [index for index, bound in enumerate(bounds) if bound > -math.inf]
    others = [index for index, bound in enumerate(bounds) if bound == -math.inf]
    of_limited = _warp_logits(
        take(values, limited), bounds[limited], [parameters[index] for index in limited]
    )
    remaining = dict(zip(limited, of_limited, strict=True))
    if others:
        of_others = _warp_probabilities(values[others], [parameters[index] for index in others])
        remaining.update(zip(others, of_others, strict=True))
    return [remaining[index] for index in range(len(parameters))]


def _bounds_of_logits(values: Floats, parameters: Sequence[Parameters]) -> Floats | None:
    """Return a logit that each row's remaining tokens are not below, by a small top-k or by min-p alone.

    It is minus infinity where neither leaves few tokens; None if that is so in each row.
    """
    most = most_selected(values.shape[1])
    limited = [index for index, row in enumerate(parameters) if 0 < row.top_k <= most]
    by_min_p = [index for index, row in enumerate(parameters) if _has_min_p_alone(row)]
    if not limited and not by_min_p:
        return None
    bounds = np.full(len(parameters), -np.inf, dtype=np.float32)
    if limited:
        least = least_of_best(take(values, limited), [parameters[index].top_k for index in limited])
        # A banned token has no probability: it is never a candidate.
        bounds[limited] = np.maximum(least, np.finfo(np.float32).min)
    for index in by_min_p:
        row = parameters[index]
        sample = values[index, :: sample_stride(values.shape[1])]
        bound = values[index].max() + np.float32((math.log(row.min_p) - _MARGIN) * row.temperature)
        if np.count_nonzero(sample >= bound) * _MOST_LISTED <= len(sample):
            bounds[index] = bound
    return bounds


def _warp_logits(values: Floats, bounds: Floats, parameters: Sequence[Parameters]) -> list[Remaining]:
    """List the tokens of rows whose logits are bounded, and apply all warpers to the lists."""
    remaining = []
    for (ids, logits), row in zip(lists(values, bounds), parameters, strict=True):
        if 0 < row.top_k < len(ids):
            # Those that tie with the k-th stay, as in transformers.
            stay = logits >= np.partition(logits, -row.top_k)[-row.top_k]
            ids, logits = ids[stay], logits[stay]
        scaled = logits / np.float32(row.temperature)
        weights = np.exp(scaled - scaled.max(), dtype=np.float64)
        droppable = (1 - row.top_p) * float(weights.sum()) if row.top_p < 1 else 0.0
        remaining.append(Remaining(_warp_list(weights, row, droppable), ids))
    return remaining


def _warp_probabilities(values: Floats, parameters: Sequence[Parameters]) -> list[Remaining]:
    """Do the same for rows whose options need the probabilities of all tokens."""
    weights = probabilities(values, [row.temperature for row in parameters])
    unbounded = [_leaves_all(row) for row in parameters]
    sums = block_sums(weights) if any(unbounded) else None
    remaining = []
    for index, (row, head) in enumerate(zip(parameters, _heads(weights, parameters), strict=True)):
        if sums is not None and unbounded[index]:
            remaining.append(Remaining(weights[index], None, sums[index]))
        elif head and (rest := _warp_head(head, weights[index], row)) is not None:
            remaining.append(Remaining(rest, head.ids))
        else:
            _warp_row(weights[index], row, values[index])
            remaining.append(Remaining(weights[index], None, block_sums(weights[index])))
    return remaining


class _Head(NamedTuple):
    """The tokens of one row that are at least as likely as a bound.

    Attributes:
        bound: What the others are below.
        ids: The ids in ascending order.
        shares: The probabilities.
    """

    bound: float
    ids: Ints
    shares: Floats


def _heads(weights: Floats, parameters: Sequence[Parameters]) -> Sequence[_Head | None]:
    """Return the tokens of each row that most likely include all that remain; None where these are many."""
    rows = [index for index, row in enumerate(parameters) if _may_have_head(row)]
    heads: list[_Head | None] = [None] * len(parameters)
    if not rows:
        return heads
    stride = sample_stride(weights.shape[1])
    sample = np.ascontiguousarray(take(weights[:, ::stride], rows))
    lowest = safe_bounds(sample, stride, np.array([_tail(parameters[index]) for index in rows]))
    few = (sample >= lowest[:, None]).sum(-1) * _MOST_LISTED <= sample.shape[1]
    if not few.any():
        return heads
    bounds = np.full(len(parameters), np.inf, dtype=np.float32)
    bounds[rows] = np.where(few, lowest, np.inf)
    return [
        _Head(bound, ids, shares) if bound < math.inf else None
        for bound, (ids, shares) in zip(bounds.tolist(), lists(weights, bounds), strict=True)
    ]


def _may_have_head(row: Parameters) -> bool:
    return row.top_k <= 0 and (row.top_p < 1 or (row.typical_p < 1 and row.min_p <= 0))


def _tail(row: Parameters) -> float:
    """Return the probability of the tokens that a row's head may leave out."""
    return 1 - row.top_p if row.top_p < 1 else (1 - row.typical_p) * _TYPICAL_TAIL


def _leaves_all(row: Parameters) -> bool:
    return row.top_k <= 0 and row.top_p >= 1 and row.min_p <= 0 and row.typical_p >= 1


def _has_min_p_alone(row: Parameters) -> bool:
    return row.min_p > 0 and row.top_k <= 0 and row.top_p >= 1 and row.typical_p >= 1


def _warp_head(head: _Head, weights: Floats, row: Parameters) -> Floats | None:
    """Return the probabilities of a head, with zeros for the tokens that the warpers drop.

    Args:
        head: The head.
        weights: The probabilities of all tokens.
        row: The parameters.

    Returns:
        None if tokens that are not in the head may remain.
    """
    tail = 1 - float(head.shares.sum(dtype=np.float64))
    if row.top_p < 1:
        droppable = 1 - row.top_p - tail
        return _warp_list(head.shares, row, droppable) if droppable >= 0 else None
    droppable = 1 - row.typical_p - tail
    if droppable < 0:
        return None
    entropy = -_logs(weights)[1]
    merits = -np.abs(np.log(head.shares) + entropy)
    stay = stays(merits, head.shares, droppable, with_ties=True)
    # All others are farther from the entropy than the bound is.
    return head.shares * stay if merits[stay].min() > math.log(head.bound) + entropy else None


def _logs(weights: Floats) -> tuple[Floats, np.float32]:
    """Return the logarithms of one row's weights, and the sum of the weights times their logarithms.

    The logarithms are in memory that the next call on this thread uses again.
    """
    logs, products = buffer("logs", 2, len(weights)).numpy()
    np.maximum(weights, np.finfo(np.float32).tiny, out=logs)
    np.log(logs, out=logs)
    np.multiply(logs, weights, out=products)
    return logs, np.float32(block_sums(products).sum())


def _warp_row(weights: Floats, row: Parameters, values: Floats) -> None:
    """Set the weights of the tokens that the warpers drop to 0, in a row of the whole vocabulary."""
    if 0 < row.top_k < len(values):
        merits = np.full(len(weights), -np.inf, dtype=np.float32)
        merits[: len(values)] = values
        best = np.ones(len(weights), dtype=np.float32)
        cut(merits, best, len(best), len(best) - row.top_k, with_ties=True)
        weights *= best
    if row.top_p < 1:
        total = float(block_sums(weights).sum()) if row.top_k > 0 else 1.0
        cut(weights, weights, total, (1 - row.top_p) * total, with_ties=False)
    if row.min_p > 0:
        weights *= weights >= np.float32(row.min_p) * weights.max()
    if row.typical_p < 1:
        total = float(block_sums(weights).sum())
        # The entropy of w / total is log(total) - sum(w log w) / total; a surprise is log(total) - log(w).
        logs, product = _logs(weights)
        logs -= product / np.float32(total)
        merits = np.negative(np.abs(logs, out=logs), out=logs)
        cut(merits, weights, total, (1 - row.typical_p) * total, with_ties=True)


def _warp_list(weights: Floats, row: Parameters, droppable: float) -> Floats:
    """Return the weights of a list, with zeros for the tokens that top-p, min-p and typical-p drop.

    Args:
        weights: Of the list, at least one.
        row: The parameters.
        droppable: The weight that top-p may drop of the list.
    """
    if row.top_p < 1:
        weights = weights * stays(weights, weights, droppable, with_ties=False)
    if row.min_p > 0:
        weights = weights * (weights >= row.min_p * weights.max())
    if row.typical_p < 1:
        remaining = weights.nonzero()[0]
        shares = weights[remaining] / weights.sum(dtype=np.float64)
        logs = np.log(shares)
        merits = -np.abs(logs - (shares * logs).sum())
        weights = np.zeros_like(weights)
        weights[remaining] = shares * stays(merits, shares, 1 - row.typical_p, with_ties=True)
    return weights
