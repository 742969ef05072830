"""Probabilities of whole rows, and draws from them without a list of tokens.

A row's probabilities are summed in blocks. A draw finds its block by the sums, and then its token within the
block. Each sum depends on its own block only, so that a row's draw is the same in any batch and with any
number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from inf2kit.serving.engine.buffers import buffer

#: Tokens of a block. 32,000 and 128,256 are multiples of it; other vocabularies are padded.
BLOCK = 256

Floats = NDArray[np.floating[Any]]
Doubles = NDArray[np.float64]


def probabilities(values: Floats, temperatures: Sequence[float]) -> Floats:
    """Return softmax(values / temperatures), float32, with zeros up to a whole number of blocks.

    The result is in memory that the next call on this thread uses again.

    Args:
        values: Processed logits, shape ``[rows, vocabulary]``; each row has a finite best value.
        temperatures: One per row.
    """
    rows, vocabulary = values.shape
    logits = torch.from_numpy(values)
    result = buffer("probabilities", rows, vocabulary + -vocabulary % BLOCK)
    if result.shape[1] > vocabulary or any(value != 1 for value in temperatures):
        torch.div(logits, torch.tensor(temperatures)[:, None], out=result[:, :vocabulary])
        result[:, vocabulary:] = -torch.inf
        logits = result
    torch.softmax(logits, dim=-1, out=result)
    return np.asarray(result.numpy())


def block_sums(weights: Floats) -> Doubles:
    """Return the sum of each block.

    Args:
        weights: float32, shape ``[padded vocabulary]`` or ``[rows, padded vocabulary]``.
    """
    blocks = torch.from_numpy(weights).view(*weights.shape[:-1], -1, BLOCK)
    return blocks.sum(-1).numpy().astype(np.float64)


def draw(weights: Floats, sums: Doubles, number: float) -> int:
    """Choose one id: the one at a random number, when the weights lie side by side, by id.

    Args:
        weights: float32, shape ``[padded vocabulary]``, proportional to the tokens' probabilities.
        sums: The weights' block sums.
        number: Within 0..1.
    """
    running = sums.cumsum()
    target = number * running[-1]
    block = _place(running, target)
    before = running[block - 1] if block else 0.0
    inside = weights[block * BLOCK : (block + 1) * BLOCK].cumsum(dtype=np.float64)
    # The sum of a block is rounded to float32, its running sum is not: the share of the block is what counts.
    share = (target - before) / (running[block] - before)
    return block * BLOCK + _place(inside, share * inside[-1])


def draw_from_list(ids: NDArray[np.int64], weights: Floats, number: float) -> int:
    """Do the same for a list of tokens in ascending order."""
    running = weights.cumsum(dtype=np.float64)
    return int(ids[_place(running, number * running[-1])])


def _place(running: Doubles, target: float) -> int:
    """Return the first index whose running sum is above the target."""
    place = int(running.searchsorted(target, "right"))
    # Rounding may place a number next to 1 after the last token that has a weight.
    return place if place < len(running) else int(running.searchsorted(running[-1]))
