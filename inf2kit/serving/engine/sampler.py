"""Logits to token ids, all rows at once: processors, then warpers, then a draw for each row.

The code uses numpy, whose argmax over a vocabulary is ten times faster than torch's: a step on a device takes
a few milliseconds only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from inf2kit.serving.engine.probabilities import draw_from_lists
from inf2kit.serving.engine.processors import processed
from inf2kit.serving.engine.rejection import draw_from_rows, is_drawn
from inf2kit.serving.engine.row_sampler import RowSampler
from inf2kit.serving.engine.selection import take
from inf2kit.serving.engine.warpers import warp

#: In place of an id, for a row whose options leave no token.
NO_TOKEN = -1

Floats = NDArray[np.floating[Any]]


def sample(logits: torch.Tensor, rows: Sequence[RowSampler]) -> list[int]:
    """Choose the next id of each row, or ``NO_TOKEN`` where every token is banned.

    Args:
        logits: float32, shape ``[rows, vocabulary]``; the same afterwards.
        rows: One per row of the logits.
    """
    values: Floats = logits.numpy()
    if all(row.is_greedy for row in rows):
        best_ids: list[int] = values.argmax(-1).tolist()
        return best_ids
    if any(row.changes_logits for row in rows):
        with processed(values, rows) as values:
            return _choose(values, rows)
    return _choose(values, rows)


def _choose(values: Floats, rows: Sequence[RowSampler]) -> list[int]:
    best = values.argmax(-1)
    best_values = values[np.arange(len(rows)), best]
    ids = best.copy()
    # Damaged weights give logits that are not numbers. Such a row keeps its argmax, and the others continue.
    sampled = [index for index, row in enumerate(rows) if row.draws and np.isfinite(best_values[index])]
    drawn = [index for index in sampled if is_drawn(rows[index].parameters)]
    if drawn:
        ids[drawn] = draw_from_rows(
            take(values, drawn, "drawn"), best[drawn], [rows[index] for index in drawn]
        )
    listed = [index for index in sampled if not is_drawn(rows[index].parameters)]
    if listed:
        parameters = [rows[index].parameters for index in listed]
        for lists in warp(take(values, listed, "listed"), parameters):
            indexes = [listed[row] for row in lists.rows]
            numbers = np.array([rows[index].draw() for index in indexes])
            ids[indexes] = draw_from_lists(lists.ids, lists.weights, numbers)
    ids[best_values == -np.inf] = NO_TOKEN
    chosen_ids: list[int] = ids.tolist()
    return chosen_ids
