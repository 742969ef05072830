"""Logits to token ids, all rows at once: processors, then warpers, then a draw for each row.

The code uses numpy, whose argmax over a vocabulary is ten times faster than torch's: a step on a device takes
a few milliseconds only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from inf2kit.serving.engine.probabilities import draw, draw_from_list
from inf2kit.serving.engine.processors import apply_processors
from inf2kit.serving.engine.row_sampler import RowSampler
from inf2kit.serving.engine.selection import take
from inf2kit.serving.engine.warpers import warp

#: In place of an id, for a row whose options leave no token.
NO_TOKEN = -1

Floats = NDArray[np.floating[Any]]


def sample(logits: torch.Tensor, rows: Sequence[RowSampler]) -> list[int]:
    """Choose the next id of each row, or ``NO_TOKEN`` where every token is banned.

    Args:
        logits: float32, shape ``[rows, vocabulary]``; not changed.
        rows: One per row of the logits.
    """
    values: Floats = logits.numpy()
    if all(row.is_greedy for row in rows):
        best_ids: list[int] = values.argmax(-1).tolist()
        return best_ids
    if any(row.changes_logits for row in rows):
        values = apply_processors(values, rows)
    ids: list[int] = values.argmax(-1).tolist()
    best: list[float] = values[np.arange(len(rows)), ids].tolist()
    # Damaged weights give logits that are not numbers. Such a row keeps its argmax, and the others continue.
    sampled = [index for index, row in enumerate(rows) if row.draws and math.isfinite(best[index])]
    if sampled:
        remaining = warp(take(values, sampled), [rows[index].parameters for index in sampled])
        for index, (weights, of_list, sums) in zip(sampled, remaining, strict=True):
            number = rows[index].draw()
            if of_list is None:
                ids[index] = draw(weights, sums, number)
            else:
                ids[index] = draw_from_list(of_list, weights, number)
    return [NO_TOKEN if top == -math.inf else token_id for token_id, top in zip(ids, best, strict=True)]
