"""Logits processors: what changes logits before a token is chosen from them, for all rows.

The order is logit bias, repetition penalty, frequency and presence penalty, minimum of new tokens. The first,
second and last are those of ``transformers.GenerationMixin._get_logits_processor``, in its order; the
penalties of the new text are OpenAI's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inf2kit.serving.engine.buffers import buffer
from inf2kit.serving.engine.row_sampler import RowSampler

Floats = NDArray[np.floating[Any]]


def apply_processors(values: Floats, rows: Sequence[RowSampler]) -> Floats:
    """Return processed logits; the given ones are left as they are.

    The result is in memory that the next call on this thread uses again.

    Args:
        values: Logits, shape ``[rows, vocabulary]``.
        rows: One per row of the logits.
    """
    processed = np.asarray(buffer("logits", *values.shape).numpy())
    np.copyto(processed, values)
    scores = processed.ravel()  # a view
    biased = _Places([row.bias_ids for row in rows], values.shape[1])
    if biased:
        with np.errstate(over="ignore"):  # a token below all that a float holds is banned
            scores[biased.places] += np.concatenate([row.biases for row in rows])
    penalised = _Places([row.penalised_ids for row in rows], values.shape[1])
    if penalised:
        penalties = penalised.spread([row.parameters.repetition_penalty for row in rows])
        seen = scores[penalised.places]
        product, quotient = seen * penalties, seen / penalties
        # The product where it is below 0, else the quotient.
        scores[penalised.places] = np.where(seen < 0, product, quotient)
    new = _Places([row.new_ids for row in rows], values.shape[1])
    if new:
        # OpenAI's definition: mu[j] -= c[j] * frequency + (c[j] > 0) * presence.
        frequencies = new.spread([row.parameters.frequency_penalty for row in rows])
        presences = new.spread([row.parameters.presence_penalty for row in rows])
        scores[new.places] -= np.concatenate([row.counts for row in rows]) * frequencies + presences
    banned = _Places([row.banned_ids for row in rows], values.shape[1])
    if banned:
        scores[banned.places] = -np.inf
    return processed


class _Places:
    """Where ids of all rows are in the flat logits.

    Args:
        ids: Of each row, each once.
        vocabulary: The length of a row.

    Attributes:
        places: Row by row.
    """

    def __init__(self, ids: Sequence[NDArray[np.int64]], vocabulary: int) -> None:
        self._lengths = [len(each) for each in ids]
        self.places = np.concatenate(ids) + np.repeat(np.arange(len(ids)) * vocabulary, self._lengths)

    def __bool__(self) -> bool:
        return len(self.places) > 0

    def spread(self, values: Sequence[float]) -> NDArray[np.float32]:
        """Return each row's value, float32, once for each of its places."""
        return np.repeat(np.array(values, dtype=np.float32), self._lengths)
