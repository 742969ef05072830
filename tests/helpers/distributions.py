"""What a row's options leave, as probabilities of the whole vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from inf2kit.serving.engine.probabilities import block_sums, probabilities
from inf2kit.serving.engine.rejection import Candidates, is_drawn
from inf2kit.serving.engine.warpers import warp
from inf2kit.serving.wire import Parameters


def distributions(
    processed: np.ndarray[Any, Any], parameters: Sequence[Parameters]
) -> list[np.ndarray[Any, Any]]:
    """Return float64 probabilities of each row of processed logits."""
    return [_distribution(values[None], row) for values, row in zip(processed, parameters, strict=True)]


def _distribution(values: np.ndarray[Any, Any], row: Parameters) -> np.ndarray[Any, Any]:
    weights = np.zeros(values.shape[1])
    if is_drawn(row):
        candidates = all_candidates(values[0], row)
        weights[:] = candidates.weights[: values.shape[1]]
        assert not candidates.weights[values.shape[1] :].any(), "padding has no weight"
        weights *= accepted(candidates)[: values.shape[1]]
    else:
        (lists,) = warp(values, [row])
        weights[lists.ids[0]] = lists.weights[0]
    return np.asarray(weights / weights.sum())


def all_candidates(values: np.ndarray[Any, Any], row: Parameters) -> Candidates:
    """The tokens of one row, of which none is rejected yet."""
    weights = probabilities(values[None], [row.temperature])[0].copy()
    return Candidates.of(values, int(values.argmax()), weights, block_sums(weights), row)


def accepted(candidates: Candidates, asked: np.ndarray[Any, Any] | None = None) -> np.ndarray[Any, Any]:
    """Return which tokens of one row would be accepted. After a rejection, just these can still be drawn.

    Args:
        candidates: Of a row.
        asked: The ids that are asked for; all by default.
    """
    weights = candidates.weights
    possible = weights.nonzero()[0] if asked is None else asked
    stay = np.zeros(len(weights), dtype=bool)
    least = np.copy(weights)  # what is left after every rejection that there can be
    for token_id in possible:
        rest = candidates.without_rejected(token_id)
        stay[token_id] = rest is None
        if rest is not None:
            assert not rest.weights[token_id], "it is not drawn again"
            assert ((rest.weights == 0) | (rest.weights == weights)).all()
            np.minimum(least, rest.weights, out=least)
    assert (least[stay] == weights[stay]).all(), "what is accepted can still be drawn"
    return stay
