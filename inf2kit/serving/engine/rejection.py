"""Draws from what top-p, min-p or typical-p leave, without finding out what that is: rejection sampling.

A token is drawn from all of them, and accepted if its warper leaves it. The tokens that the warper prefers to
it tell: the likelier ones for top-p, those nearer to the entropy for typical-p. After a rejection only these
are drawn from, so a few draws are enough however many tokens a warper leaves. FlashInfer does the same:
https://flashinfer.ai/2025/03/10/sampling.html.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from inf2kit.serving.engine.buffers import buffer
from inf2kit.serving.engine.probabilities import Doubles, Floats, Ints, block_sums, draw, probabilities
from inf2kit.serving.engine.row_sampler import RowSampler
from inf2kit.serving.wire import Parameters

#: A float32 probability is 0 where a logit is farther than this below the best one.
_FARTHEST = 110.0


def is_drawn(row: Parameters) -> bool:
    """Whether a row's options are those that are known here."""
    return row.top_k <= 0 and (row.typical_p >= 1 or (row.top_p >= 1 and row.min_p <= 0))


def draw_from_rows(values: Floats, best: Ints, rows: Sequence[RowSampler]) -> Ints:
    """Return an id of each row.

    Args:
        values: Processed logits, shape ``[rows, vocabulary]``; each row has a finite best value.
        best: The ids of the best values.
        rows: One per row, with options that ``is_drawn`` accepts.
    """
    parameters = [row.parameters for row in rows]
    weights = probabilities(values, [row.temperature for row in parameters])
    sums = block_sums(weights)
    numbers = np.array([row.draw() for row in rows])
    ids = draw(weights, sums, numbers)
    every = np.arange(len(rows))
    shares = weights[every, ids]
    droppable = np.array([_droppable(row) for row in parameters])
    floors = np.array([row.min_p for row in parameters], dtype=np.float32) * weights[every, best]
    # Most tokens of peaked distributions need no second look.
    uncertain = (~((shares > droppable) & (shares >= floors))).nonzero()[0]
    for index in uncertain.tolist():
        candidates = Candidates.of(values[index], best[index], weights[index], sums[index], parameters[index])
        again: random.Random | None = None
        while (rest := candidates.without_rejected(ids[index])) is not None:
            # The row's own numbers stay one per token: a border that rounding moves changes no later token.
            again = again or random.Random(numbers[index])  # noqa: S311 - nothing secret
            candidates = rest
            ids[index] = candidates.draw(again.random())
    return ids


@dataclass
class Candidates:
    """The tokens that a row draws from. Row by row they stay in the processor's cache.

    Attributes:
        weights: float32, shape ``[padded vocabulary]``: probabilities, or 0 for tokens that are none.
        sums: Their block sums.
        total: The sum of the probabilities of all tokens, candidates or not.
        droppable: How much of them top-p or typical-p may drop; -1 without both.
        floor: The least probability that min-p leaves.
        middle: The probability that typical-p prefers to all others; 0 without it.
        rejections: Tokens that were rejected before.
    """

    weights: Floats
    sums: Doubles
    total: float
    droppable: float
    floor: np.float32
    middle: np.float32
    rejections: int = 0

    @classmethod
    def of(cls, values: Floats, best: int, weights: Floats, sums: Doubles, row: Parameters) -> Candidates:
        """All tokens of a row.

        Args:
            values: Processed logits, shape ``[vocabulary]``.
            best: The id of the best value.
            weights: As in the attributes.
            sums: As in the attributes.
            row: The row's options.
        """
        middle = np.float32(0)
        if row.typical_p < 1:
            middle = np.exp(-_entropy(values, best, weights, row.temperature))
        floor = np.float32(row.min_p) * weights[best]
        return cls(weights, sums, float(sums.sum()), _droppable(row), floor, middle)

    def draw(self, number: float) -> int:
        """Choose a candidate by a random number within 0..1."""
        return int(draw(self.weights[None], self.sums[None], np.array([number]))[0])

    def without_rejected(self, token_id: int) -> Candidates | None:
        """Return what is left to draw from if a candidate is rejected, and None if it is accepted."""
        share = self.weights[token_id]
        if share > self.droppable and share >= self.floor:
            return None  # a token that is more than may be dropped is never dropped
        preferred = self._preferred(share)
        sums = block_sums(preferred)
        # How much of the token, and of those that are dropped before it, stays.
        room = self.total - sums.sum() - self.droppable
        rejected = room <= 0 or share < self.floor
        if not rejected and not self.middle:
            # Of equally likely tokens, top-p drops the lowest ids first.
            later = self.weights[token_id + 1 :] == share
            rejected = np.count_nonzero(later) * float(share) >= room
            if rejected:
                preferred[token_id + 1 :][later] = share
                sums = block_sums(preferred)
        if not rejected or not sums.any():  # the best token stays
            return None
        return replace(self, weights=preferred, sums=sums, rejections=self.rejections + 1)

    def _preferred(self, share: np.float32) -> Floats:
        """Return the weights, with zeros for the tokens that the row does not prefer to one of this share."""
        lowest, highest = share, np.float32(np.inf)
        if self.middle:
            with np.errstate(over="ignore"):  # infinity is as good
                mirrored = self.middle * (self.middle / share)
            lowest, highest = min(share, mirrored), max(share, mirrored)
        elif share < self.floor:
            # min-p leaves the tokens at its floor.
            lowest = np.nextafter(self.floor, np.float32(0))
        weights = torch.from_numpy(self.weights)
        # In turn: the weights may be those that the last rejection has left.
        preferred = buffer("preferred", 2, len(weights))[self.rejections % 2]
        torch.gt(weights, float(lowest), out=preferred)
        if highest < np.inf:
            preferred *= torch.lt(weights, float(highest), out=buffer("below", 1, len(weights))[0])
        preferred *= weights
        return np.asarray(preferred.numpy())


def _droppable(row: Parameters) -> float:
    left = min(row.top_p, row.typical_p)
    return 1 - left if left < 1 else -1.0


def _entropy(values: Floats, best: int, weights: Floats, temperature: float) -> np.float32:
    """Return the entropy of a row, in nats."""
    # log(w) is s - log(z) for s = (value - best value) / temperature; the best token's weight is 1 / z.
    products = buffer("products", 1, len(weights))[0]
    scaled = products[: len(values)]
    torch.sub(torch.from_numpy(values), float(values[best]), out=scaled)
    if temperature != 1:
        scaled /= temperature
    scaled.clamp_(min=-_FARTHEST)  # minus infinity times 0 is no number
    products[len(values) :] = 0
    products *= torch.from_numpy(weights)
    expected = block_sums(products.numpy()).sum()
    return np.float32(-np.log(weights[best]) - expected)
