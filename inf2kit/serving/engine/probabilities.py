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
Ints = NDArray[np.int64]


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
        weights: float32, shape ``[..., padded vocabulary]``.
    """
    blocks = torch.from_numpy(weights).view(*weights.shape[:-1], -1, BLOCK)
    return blocks.sum(-1).numpy().astype(np.float64)


def draw(weights: Floats, sums: Doubles, numbers: Doubles) -> Ints:
    """Choose one id of each row: the one at its number, when the weights lie side by side, by id.

    Args:
        weights: float32, shape ``[rows, padded vocabulary]``, proportional to the tokens' probabilities.
        sums: The weights' block sums, shape ``[rows, blocks]``.
        numbers: A random number of each row, within 0..1.
    """
    rows = np.arange(len(weights))
    running = sums.cumsum(-1)
    targets = numbers * running[:, -1]
    blocks = _places(running, targets)
    before = np.where(blocks > 0, running[rows, blocks - 1], 0.0)
    inside = weights.reshape(len(weights), -1, BLOCK)[rows, blocks].cumsum(-1, dtype=np.float64)
    # The sum of a block is rounded to float32, its running sum is not: the share of the block is what counts.
    shares = (targets - before) / (running[rows, blocks] - before)
    return np.asarray(blocks * BLOCK + _places(inside, shares * inside[:, -1]))


def draw_from_lists(ids: Ints, weights: Doubles, numbers: Doubles) -> Ints:
    """Do the same for lists of tokens, both of shape ``[rows, tokens]``."""
    running = weights.cumsum(-1)
    return np.asarray(ids[np.arange(len(ids)), _places(running, numbers * running[:, -1])])


def _places(running: Doubles, targets: Doubles) -> Ints:
    """Return the first index of each row whose running sum is above the row's target."""
    places = np.count_nonzero(running <= targets[:, None], axis=-1)
    # Rounding may place a number next to 1 after the last token that has a weight.
    last = np.count_nonzero(running < running[:, -1:], axis=-1)
    return np.asarray(np.minimum(places, last))
