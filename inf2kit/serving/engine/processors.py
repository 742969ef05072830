"""Logits processors: what changes logits before a token is chosen from them, for all rows at once.

The order is logit bias, repetition penalty, frequency and presence penalty, minimum of new tokens. The first,
second and last are those of ``transformers.GenerationMixin._get_logits_processor``, in its order; the
penalties of the new text are OpenAI's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inf2kit.serving.engine.row_sampler import RowSampler

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]


def apply_processors(values: Floats, rows: Sequence[RowSampler]) -> Floats:
    """Return processed logits; the given ones are left as they are.

    Args:
        values: Logits, shape ``[rows, vocabulary]``.
        rows: One per row of the logits.
    """
    values = values.copy()
    if any(row.bias_ids for row in rows):
        at, lengths = _places([row.bias_ids for row in rows])
        with np.errstate(over="ignore"):  # a token below all that a float holds is banned
            values[at] += np.concatenate([np.asarray(row.biases, dtype=values.dtype) for row in rows])
    if any(row.penalised_ids for row in rows):
        at, lengths = _places([row.penalised_ids for row in rows])
        penalty = np.repeat(
            np.array([row.parameters.repetition_penalty for row in rows], dtype=values.dtype), lengths
        )
        scores = values[at]
        values[at] = np.where(scores < 0, scores * penalty, scores / penalty)
    if any(row.new_ids for row in rows):
        at, lengths = _places([row.new_ids for row in rows])
        counts = np.concatenate([np.asarray(row.counts, dtype=values.dtype) for row in rows])
        frequency, presence = (
            np.repeat(np.array(penalties, dtype=values.dtype), lengths)
            for penalties in (
                [row.parameters.frequency_penalty for row in rows],
                [row.parameters.presence_penalty for row in rows],
            )
        )
        # OpenAI's definition: mu[j] -= c[j] * frequency + (c[j] > 0) * presence.
        values[at] -= counts * frequency + presence
    for index, row in enumerate(rows):
        if row.banned_ids:
            values[index, list(row.banned_ids)] = -np.inf
    return values


def _places(ids: Sequence[Sequence[int]]) -> tuple[tuple[Ints, Ints], list[int]]:
    """Return the index of ids of each row, each at most once a row, and how many there are in each row."""
    lengths = [len(row_ids) for row_ids in ids]
    rows = np.repeat(np.arange(len(ids)), lengths)
    return (rows, np.concatenate([np.asarray(row_ids, dtype=np.int64) for row_ids in ids])), lengths
