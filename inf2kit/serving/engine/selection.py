"""The best tokens of each row, without sorting the vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from inf2kit.serving.engine.buffers import buffer

#: Tokens of a group, of which only the best one is looked at first.
_GROUP = 64

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]


def most_selected(vocabulary: int) -> int:
    """Return the largest count for which ``best`` looks at few tokens."""
    return vocabulary // _GROUP // 2


def best(values: Floats, counts: Sequence[int]) -> tuple[Ints, Ints, Floats]:
    """Return the best tokens of each row, and a few more, in the order of rows and ids.

    At least n tokens are as good as the n-th best of the groups' best ones. All that are as good as it are
    returned: they are in the groups whose best one is.

    Args:
        values: float32, shape ``[rows, vocabulary]``.
        counts: The number of best tokens of each row, from 1 to ``most_selected``.

    Returns:
        Their rows, ids and values.
    """
    groups = values.shape[1] // _GROUP
    grouped = values[:, : groups * _GROUP].reshape(len(values), groups, _GROUP)
    maxima = torch.from_numpy(grouped).amax(-1)
    bounds = torch.topk(maxima, max(counts)).values.numpy()[np.arange(len(counts)), np.array(counts) - 1]
    group_rows, group_numbers = (maxima.numpy() >= bounds[:, None]).nonzero()
    in_groups = grouped[group_rows, group_numbers]
    places, columns = (in_groups >= bounds[group_rows, None]).nonzero()
    rows, ids = group_rows[places], group_numbers[places] * _GROUP + columns
    if groups * _GROUP < values.shape[1]:
        last_rows, columns = (values[:, groups * _GROUP :] >= bounds[:, None]).nonzero()
        rows, ids = np.append(rows, last_rows), np.append(ids, columns + groups * _GROUP)
        order = rows.argsort(kind="stable")
        rows, ids = rows[order], ids[order]
    return rows, ids, values[rows, ids]


def take(values: Floats, rows: Sequence[int], name: str) -> Floats:
    """Return some of the rows, in ascending order; all of them without a copy.

    Args:
        values: float32, shape ``[rows, columns]``.
        rows: Indexes.
        name: Of the buffer that a copy is in.
    """
    if len(rows) == len(values):
        return values
    copy = buffer(name, len(rows), values.shape[1])
    torch.index_select(torch.from_numpy(values), 0, torch.tensor(rows), out=copy)
    return np.asarray(copy.numpy())
