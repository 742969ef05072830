"""Logits processors: what changes logits before a token is chosen from them, for all rows.

The order is logit bias, repetition penalty, frequency and presence penalty, minimum of new tokens. The first,
second and last are those of ``transformers.GenerationMixin._get_logits_processor``, in its order; the
penalties of the new text are OpenAI's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inf2kit.serving.engine.row_sampler import RowSampler

Floats = NDArray[np.floating[Any]]


@contextmanager
def processed(values: Floats, rows: Sequence[RowSampler]) -> Iterator[Floats]:
    """Yield processed logits.

    Processors change a few logits of each row. These are changed where they are, and changed back at the end
    of the block: a copy of all costs as much as a third of ``torch.logsumexp``.

    Args:
        values: Logits, shape ``[rows, vocabulary]``.
        rows: One per row of the logits.
    """
    values = np.ascontiguousarray(values)
    scores = values.reshape(-1)  # a view
    replaced: list[tuple[NDArray[np.int64], Floats]] = []
    try:
        for places, change in _changes(rows, values.shape[1]):
            before = scores[places]
            replaced.append((places, before))
            scores[places] = change(before)
        yield values
    finally:
        for places, before in reversed(replaced):
            scores[places] = before


def _changes(
    rows: Sequence[RowSampler], vocabulary: int
) -> Iterator[tuple[NDArray[np.int64], Callable[[Floats], Floats]]]:
    """Yield places in the flat logits, and what replaces the logits there."""
    biased = _Places([row.bias_ids for row in rows], vocabulary)
    if biased:
        biases = np.concatenate([row.biases for row in rows])
        yield biased.places, lambda scores: _add(scores, biases)
    penalised = _Places([row.penalised_ids for row in rows], vocabulary)
    if penalised:
        penalties = penalised.spread([row.parameters.repetition_penalty for row in rows])
        # The product where it is below 0, else the quotient.
        yield (
            penalised.places,
            lambda scores: np.where(scores < 0, scores * penalties, scores / penalties),
        )
    new = _Places([row.new_ids for row in rows], vocabulary)
    if new:
        # OpenAI's definition: mu[j] -= c[j] * frequency + (c[j] > 0) * presence.
        frequencies = new.spread([row.parameters.frequency_penalty for row in rows])
        presences = new.spread([row.parameters.presence_penalty for row in rows])
        counts = np.concatenate([row.counts for row in rows])
        yield new.places, lambda scores: scores - (counts * frequencies + presences)
    banned = _Places([row.banned_ids for row in rows], vocabulary)
    if banned:
        yield banned.places, lambda scores: np.full_like(scores, -np.inf)


def _add(scores: Floats, biases: Floats) -> Floats:
    with np.errstate(over="ignore"):  # a token below all that a float holds is banned
        return np.asarray(scores + biases)


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
