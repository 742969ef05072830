"""The tokens of each row whose value is not below a bound, without sorting the vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

#: Tokens of a group, of which only the best one is looked at first.
_GROUP = 64

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]


def most_selected(vocabulary: int) -> int:
    """Return the largest count for which ``least_of_best`` is a close bound."""
    return vocabulary // _GROUP // 2


def least_of_best(values: Floats, counts: Sequence[int]) -> Floats:
    """Return a value for each row that its best tokens are not below.

    At least n tokens are as good as the n-th best of the groups' best ones. Few more are.

    Args:
        values: float32, shape ``[rows, vocabulary]``.
        counts: The number of best tokens of each row, from 1 to ``most_selected``.
    """
    groups = values.shape[1] // _GROUP
    grouped = torch.from_numpy(values[:, : groups * _GROUP]).reshape(len(values), groups, _GROUP)
    best = torch.topk(grouped.amax(-1), max(counts)).values.numpy()
    return np.asarray(best[np.arange(len(counts)), np.array(counts) - 1])


def lists(values: Floats, bounds: Floats) -> list[tuple[Ints, Floats]]:
    """Return for each row the ids of the values that are not below its bound, and these values."""
    rows, columns = values.shape
    flat = (values >= bounds[:, None]).ravel().nonzero()[0]
    listed = values.ravel()[flat]
    starts = range(0, rows * columns, columns)
    ends = [*flat.searchsorted(starts).tolist(), len(flat)]
    return [
        (flat[begin:end] - start, listed[begin:end])
        for start, begin, end in zip(starts, ends, ends[1:], strict=False)
    ]


def take(values: Floats, rows: Sequence[int]) -> Floats:
    """Return some of the rows, in ascending order; all of them without a copy."""
    return values if len(rows) == len(values) else values[rows]
