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
    for scores, row in zip(processed, rows, strict=True):
        if len(row.bias_ids):
            with np.errstate(over="ignore"):  # a token below all that a float holds is banned
                scores[row.bias_ids] += row.biases
        if len(row.penalised_ids):
            penalty = np.float32(row.parameters.repetition_penalty)
            seen = scores[row.penalised_ids]
            # The product where it is below 0, else the quotient.
            lower_or_higher = np.minimum if penalty > 1 else np.maximum
            scores[row.penalised_ids] = lower_or_higher(seen * penalty, seen / penalty)
        if len(row.new_ids):
            # OpenAI's definition: mu[j] -= c[j] * frequency + (c[j] > 0) * presence.
            frequency = np.float32(row.parameters.frequency_penalty)
            presence = np.float32(row.parameters.presence_penalty)
            scores[row.new_ids] -= row.counts * frequency + presence
        if len(row.banned_ids):
            scores[row.banned_ids] = -np.inf
    return processed
