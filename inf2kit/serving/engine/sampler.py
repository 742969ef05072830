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

from inf2kit.serving.engine.processors import apply_processors
from inf2kit.serving.engine.row_sampler import RowSampler
from inf2kit.serving.engine.warpers import candidates, leaves_all

#: In place of an id, for a row whose options leave no token.
NO_TOKEN = -1

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]


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
    unbounded = [index for index in sampled if leaves_all(rows[index].parameters)]
    for index in unbounded:
        ids[index] = _draw_from_vocabulary(
            values[index], rows[index].parameters.temperature, rows[index].draw()
        )
    sampled = [index for index in sampled if index not in unbounded]
    if sampled:
        sampled_values = values if len(sampled) == len(rows) else values[sampled]
        segment, candidate_ids, weights = candidates(
            sampled_values, [rows[index].parameters for index in sampled]
        )
        draws = np.array([rows[index].draw() for index in sampled])
        drawn_ids = _draw_from_candidates(segment, candidate_ids, weights, draws)
        for index, token_id in zip(sampled, drawn_ids, strict=True):
            ids[index] = token_id
    return [NO_TOKEN if top == -math.inf else token_id for token_id, top in zip(ids, best, strict=True)]


def _draw_from_candidates(segment: Ints, ids: Ints, weights: Floats, draws: Floats) -> list[int]:
    """Choose one id per row: the one at its random number, when the row's weights lie side by side, by id.

    The order is by id and not by probability, so that a difference in the last bit of a logit moves a border
    by as much, and does not make two tokens change places.
    """
    running = np.cumsum(weights)
    ends = np.searchsorted(segment, np.arange(len(draws)), side="right")
    before = np.concatenate([[0.0], running[ends[:-1] - 1]])
    drawn = np.searchsorted(running, before + draws * (running[ends - 1] - before), side="right")
    # Rounding may place a draw next to 1 after the row's last token.
    return [int(ids[index]) for index in np.minimum(drawn, ends - 1)]


def _draw_from_vocabulary(values: Floats, temperature: float, draw: float) -> int:
    """Choose an id of a row that draws from the whole vocabulary, without a list of candidates."""
    weights = np.exp((values - values.max()) / values.dtype.type(temperature))
    running = np.cumsum(weights, dtype=np.float64)
    token_id = int(np.searchsorted(running, draw * running[-1], side="right"))
    # Rounding may place a draw next to 1 after the last token.
    return token_id if token_id < len(values) else int(np.flatnonzero(weights)[-1])
