"""What the warpers leave of each row, as probabilities of the whole vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from inf2kit.serving.engine.warpers import warp
from inf2kit.serving.wire import Parameters


def distributions(
    processed: np.ndarray[Any, Any], parameters: Sequence[Parameters]
) -> list[np.ndarray[Any, Any]]:
    """Return float64 probabilities of each row of processed logits."""
    vocabulary = processed.shape[1]
    rows = []
    for weights, ids, _ in warp(processed, parameters):
        row = np.zeros(vocabulary)
        if ids is None:
            assert not weights[vocabulary:].any(), "padding has no weight"
            row[:] = weights[:vocabulary]
        else:
            row[ids] = weights
        rows.append(row / row.sum())
    return rows
