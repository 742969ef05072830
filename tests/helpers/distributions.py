"""What a row's options leave, as probabilities of the whole vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from inf2kit.serving.engine.rejection import Candidates, is_drawn
from inf2kit.serving.engine.warpers import warp
from inf2kit.serving.wire import Parameters

_AT_ONCE = 64


def distributions(
    processed: np.ndarray[Any, Any], parameters: Sequence[Parameters]
) -> list[np.ndarray[Any, Any]]:
    """Return float64 probabilities of each row of processed logits."""
    return [_distribution(values[None], row) for values, row in zip(processed, parameters, strict=True)]


def _distribution(values: np.ndarray[Any, Any], row: Parameters) -> np.ndarray[Any, Any]:
    weights = np.zeros(values.shape[1])
    if is_drawn(row):
        candidates = all_candidates(values, row)
        weights[:] = candidates.weights[0, : values.shape[1]]
        assert not candidates.weights[0, values.shape[1] :].any(), "padding has no weight"
        weights *= accepted(candidates)[: values.shape[1]]
    else:
        (lists,) = warp(values, [row])
        weights[lists.ids[0]] = lists.weights[0]
    return weights / weights.sum()


def all_candidates(values: np.ndarray[Any, Any], row: Parameters) -> Candidates:
    """The tokens of one row, of which none is rejected yet."""
    return Candidates.of(values, values.argmax(-1), [row])


def accepted(candidates: Candidates, asked: np.ndarray[Any, Any] | None = None) -> np.ndarray[Any, Any]:
    """Return which tokens of one row would be accepted. After a rejection, just these can still be drawn.

    Args:
        candidates: Of one row.
        asked: The ids that are asked for; all by default.
    """
    weights = candidates.weights[0].copy()
    possible = weights.nonzero()[0] if asked is None else asked
    stay = np.zeros(len(weights), dtype=bool)
    remaining = []
    for start in range(0, len(possible), _AT_ONCE):
        ids = possible[start : start + _AT_ONCE]
        rejected, rest = candidates.rows(np.zeros(len(ids), dtype=np.int64)).without_rejected(ids)
        stay[np.delete(ids, rejected)] = True
        remaining.append(rest.weights)
        assert not rest.weights[np.arange(len(rejected)), ids[rejected]].any(), "it is not drawn again"
    left = np.concatenate(remaining)
    assert (left[:, stay] == weights[stay]).all(), "what is accepted can still be drawn"
    assert ((left == 0) | (left == weights)).all()
    return stay
