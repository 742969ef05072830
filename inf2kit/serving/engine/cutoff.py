"""Where a warper that adds up probabilities stops, found without sorting the vocabulary.

Top-p drops the least likely tokens as long as their probabilities are within 1 - top_p together. Every n-th
token is looked at first: sums over this sample say between which two values the warper stops, and only the
tokens between them are sorted. The sums of the others are computed exactly and show whether the sample was
right; if it was not, all tokens are sorted. So the result does not depend on the sample, only the time does.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from inf2kit.serving.engine.buffers import buffer
from inf2kit.serving.engine.probabilities import Doubles, Floats, block_sums

#: Every so manieth token of a large vocabulary is in the sample, and at least so many tokens of a small one.
_STRIDE, _LEAST_SAMPLE = 64, 128
#: Standard deviations that the sample's sums may be wrong by.
_DEVIATIONS = 3.5
#: A list that is longer is divided into bins first.
_LONG, _BINS = 1024, 1024

#: The upper end of each exponent of a float32 probability. The last one is 1/128: where one token has nearly
#: all, that token must stay above the bound.
_EDGES = np.exp2(np.arange(120) - 126.0)
_BOUNDS = np.concatenate([[0.0], _EDGES]).astype(np.float32)
#: A sum of terms of up to an edge, each in the sample with a chance of 1 in n, is wrong by the root of this
#: times the sum at most, both divided by n.
_SQUARED_ERRORS = _EDGES * _DEVIATIONS**2

Bools = NDArray[np.bool_]
Ints = NDArray[np.int32]


def sample_stride(vocabulary: int) -> int:
    """Return the distance of two tokens of the sample."""
    return max(1, min(_STRIDE, vocabulary // _LEAST_SAMPLE))


def safe_bounds(sample: Floats, stride: int, droppable: Doubles) -> Floats:
    """Return a power of two for each row: the tokens that are less likely may most likely all be dropped.

    Args:
        sample: Probabilities of every stride-th token, float32, shape ``[rows, sample]``.
        stride: How many tokens one of the sample stands for.
        droppable: The probability that may be dropped of each row.
    """
    rows = len(sample)
    # The bits of a float32 from the 23rd on are its exponent; a probability's is below 128.
    exponents = sample.view(np.int32) >> 23
    exponents += np.arange(0, rows * 128, 128, dtype=np.int32)[:, None]
    sums = np.bincount(exponents.ravel(), sample.ravel(), rows * 128).reshape(rows, 128)
    sums = sums[:, : len(_EDGES)].cumsum(-1)
    sums += np.sqrt(sums * _SQUARED_ERRORS)
    bounds: Floats = _BOUNDS[(sums <= (droppable / stride)[:, None]).sum(-1)]
    return bounds


def cut(merits: Floats, weights: Floats, total: float, droppable: float, *, with_ties: bool) -> None:
    """Set the weights of one row's tokens with the least merit, which are dropped, to 0.

    Args:
        merits: float32, shape ``[padded vocabulary]``.
        weights: float32, of the same shape; may be the merits themselves.
        total: The sum of the weights.
        droppable: Tokens are dropped as long as their weights sum to no more than this; the last one stays.
        with_ties: Whether all tokens with the same merit as the least one that stays stay, too. Otherwise the
            lowest ids of them are dropped first.
    """
    low, high = _bracket(merits, weights, droppable)
    certain = buffer("certain", 1, len(weights))[0]
    if merits is weights:
        torch.threshold(torch.from_numpy(weights), float(high), 0.0, out=certain)
    else:
        np.multiply(weights, merits > high, out=certain.numpy())
    ids = ((merits > low) & (merits <= high)).nonzero()[0]
    between = weights[ids]
    undecided = float(between.sum(dtype=np.float64))
    dropped = total - float(block_sums(certain.numpy()).sum()) - undecided
    if dropped <= droppable < dropped + undecided:
        merits_between = between if merits is weights else merits[ids]
        between *= stays(merits_between, between, droppable - dropped, with_ties=with_ties)
        np.copyto(weights, certain.numpy())
        weights[ids] = between
    else:
        weights *= stays(merits, weights, droppable, with_ties=with_ties)


def _bracket(merits: Floats, weights: Floats, droppable: float) -> tuple[float, float]:
    """Return two merits: the least one that stays is most likely above the first, not above the second."""
    stride = sample_stride(len(merits))
    if merits is weights:
        ordered = ordered_weights = np.sort(merits[::stride])
    else:
        order = merits[::stride].argsort()
        ordered, ordered_weights = merits[::stride][order], weights[::stride][order]
    sums = ordered_weights.cumsum(dtype=np.float64)
    errors = _DEVIATIONS * np.sqrt((ordered_weights * ordered_weights).cumsum(dtype=np.float64))
    least = int(np.count_nonzero(sums + errors <= droppable / stride))
    most = int(np.count_nonzero(sums - errors <= droppable / stride))
    low = float(ordered[least - 1]) if least else -np.inf
    return low, float(ordered[most]) if most < len(ordered) else np.inf


def stays(merits: Floats, weights: Floats, droppable: float, *, with_ties: bool) -> Bools:
    """Return which tokens of a list stay; the list is in ascending order of ids, and has at least one."""
    if len(merits) > _LONG and (bins := _bins(merits, weights)) is not None:
        return _stays_by_bins(bins, merits, weights, droppable, with_ties=with_ties)
    if merits is weights:
        ordered = ordered_weights = np.sort(weights)
    else:
        order = merits.argsort()
        ordered, ordered_weights = merits[order], weights[order]
    sums = ordered_weights.cumsum(dtype=np.float64)
    dropped = min(int(sums.searchsorted(droppable, "right")), len(sums) - 1)
    least = ordered[dropped]
    result: Bools = merits >= least
    if not with_ties:
        surplus = int(np.count_nonzero(result)) - (len(sums) - dropped)
        if surplus:
            result[(merits == least).nonzero()[0][:surplus]] = False
    return result


def _bins(merits: Floats, weights: Floats) -> Ints | None:
    """Return numbers from 0 on that increase with the merits; None if all would be the same."""
    if merits is weights and weights.dtype == np.float32:
        # The bits of a float32 above 0 increase with it; these are the exponent and 7 bits after it.
        bins: Ints = weights.view(np.int32) >> 16
        lowest, highest = bins.min(), bins.max()
        if lowest < highest:
            bins -= lowest
            return bins
    lowest, highest = merits.min(), merits.max()
    if not (lowest < highest and np.isfinite(highest - lowest)):
        return None
    return np.asarray((merits - lowest) * (_BINS / (highest - lowest)), dtype=np.int32)


def _stays_by_bins(
    bins: Ints, merits: Floats, weights: Floats, droppable: float, *, with_ties: bool
) -> Bools:
    """Sort only the tokens that are in the same bin as the least one that stays."""
    sums = np.bincount(bins, weights).cumsum()
    border = min(int(sums.searchsorted(droppable, "right")), len(sums) - 1)
    result: Bools = bins > border
    ids = (bins == border).nonzero()[0]
    if border:
        droppable -= float(sums[border - 1])
    weights_inside = weights[ids]
    merits_inside = weights_inside if merits is weights else merits[ids]
    result[ids] = stays(merits_inside, weights_inside, droppable, with_ties=with_ties)
    return result
