"""Draws from what top-p, min-p or typical-p leave, without finding out what that is: rejection sampling.

A token is drawn from all of them, and accepted if its warper leaves it. The tokens that the warper prefers to
it tell: the likelier ones for top-p, those nearer to the entropy for typical-p. After a rejection only these
are drawn from, so a few draws are enough however many tokens a warper leaves. FlashInfer does the same:
https://flashinfer.ai/2025/03/10/sampling.html.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from inf2kit.serving.engine.buffers import buffer
from inf2kit.serving.engine.probabilities import Doubles, Floats, Ints, block_sums, draw, probabilities
from inf2kit.serving.engine.row_sampler import RowSampler
from inf2kit.serving.engine.selection import take
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
    ids = np.empty(len(rows), dtype=np.int64)
    undrawn = np.arange(len(rows))
    candidates = Candidates.of(values, best, [row.parameters for row in rows])
    numbers = np.array([row.draw() for row in rows])
    again: dict[int, random.Random] = {}
    while len(undrawn):
        ids[undrawn] = drawn = draw(candidates.weights, candidates.sums, numbers)
        rejected, candidates = candidates.without_rejected(drawn)
        undrawn = undrawn[rejected]
        # The row's own numbers stay one per token: a border that rounding moves does not change later tokens.
        for index, number in zip(undrawn.tolist(), numbers[rejected].tolist(), strict=True):
            again.setdefault(index, random.Random(number))  # noqa: S311 - nothing secret
        numbers = np.array([again[index].random() for index in undrawn.tolist()])
    return ids


@dataclass
class Candidates:
    """The tokens that rows draw from. The first axis of each array has the rows.

    Attributes:
        weights: float32, shape ``[rows, padded vocabulary]``: probabilities, or 0 for tokens that are none.
        sums: Their block sums, shape ``[rows, blocks]``.
        totals: Sums of the probabilities of all tokens, candidates or not.
        droppable: How much of them top-p or typical-p may drop; -1 without both.
        floors: The least probability that min-p leaves.
        middles: The probability that typical-p prefers to all others; 0 without it.
    """

    weights: Floats
    sums: Doubles
    totals: Doubles
    droppable: Doubles
    floors: Floats
    middles: Floats

    @classmethod
    def of(cls, values: Floats, best: Ints, parameters: Sequence[Parameters]) -> Candidates:
        """All tokens of each row."""
        weights = probabilities(values, [row.temperature for row in parameters])
        sums = block_sums(weights)
        left = np.array([min(row.top_p, row.typical_p) for row in parameters])
        min_p = np.array([row.min_p for row in parameters], dtype=np.float32)
        middles = np.zeros(len(parameters), dtype=np.float32)
        typical = [index for index, row in enumerate(parameters) if row.typical_p < 1]
        if typical:
            temperatures = [parameters[index].temperature for index in typical]
            entropies = _entropies(values, weights, best, typical, temperatures)
            middles[typical] = np.exp(-entropies)
        return cls(
            weights,
            sums,
            totals=sums.sum(-1),
            droppable=np.where(left < 1, 1 - left, -1.0),
            floors=min_p * weights[np.arange(len(weights)), best],
            middles=middles,
        )

    def rows(self, indexes: Ints) -> Candidates:
        """Some of the rows; all of them without a copy."""
        return self if len(indexes) == len(self.weights) else self._copy(indexes)

    def _copy(self, indexes: Ints) -> Candidates:
        return Candidates(*(getattr(self, field.name)[indexes] for field in fields(self)))

    def without_rejected(self, drawn: Ints) -> tuple[Ints, Candidates]:
        """Return the indexes of the rows whose token is rejected, and what these rows draw from next.

        Args:
            drawn: An id of each row, a candidate.
        """
        shares = self.weights[np.arange(len(drawn)), drawn]
        # A token that is more than may be dropped is never dropped.
        uncertain = (~((shares > self.droppable) & (shares >= self.floors))).nonzero()[0]
        if not len(uncertain):
            return uncertain, self.rows(uncertain)
        rows, drawn, shares = self.rows(uncertain), drawn[uncertain], shares[uncertain]
        preferred = rows._preferred(shares)
        sums = block_sums(preferred)
        better = sums.sum(-1)
        # How much of the token, and of those that are dropped before it, stays.
        room = rows.totals - better - rows.droppable
        rejected = (room <= 0) | (shares < rows.floors)
        for index in (~rejected & (rows.middles == 0)).nonzero()[0]:
            # Of equally likely tokens, top-p drops the lowest ids first.
            later = rows.weights[index, drawn[index] + 1 :] == shares[index]
            rejected[index] = np.count_nonzero(later) * float(shares[index]) >= room[index]
            if rejected[index]:
                preferred[index, drawn[index] + 1 :][later] = shares[index]
                sums[index] = block_sums(preferred[index])
        rejected &= sums.sum(-1) > 0  # the best token stays
        places = rejected.nonzero()[0]
        # A copy, as the buffer is written to again.
        return uncertain[places], replace(rows, weights=preferred, sums=sums)._copy(places)

    def _preferred(self, shares: Floats) -> Floats:
        """Return the weights, with zeros for the tokens that a row does not prefer to one of these shares."""
        with np.errstate(over="ignore"):  # infinity is as good
            mirrored = self.middles * (self.middles / shares)
        lowest = np.minimum(shares, mirrored, where=self.middles > 0, out=shares.copy())
        # min-p leaves the tokens at its floor.
        lowest = np.where(shares < self.floors, np.nextafter(self.floors, np.float32(0)), lowest)
        weights = torch.from_numpy(self.weights)
        preferred = buffer("preferred", *self.weights.shape)
        torch.gt(weights, torch.from_numpy(lowest)[:, None], out=preferred)
        if self.middles.any():
            highest = np.where(self.middles > 0, np.maximum(shares, mirrored), np.float32(np.inf))
            below = torch.lt(
                weights, torch.from_numpy(highest)[:, None], out=buffer("below", *self.weights.shape)
            )
            preferred *= below
        preferred *= weights
        return np.asarray(preferred.numpy())


def _entropies(
    values: Floats, weights: Floats, best: Ints, indexes: Sequence[int], temperatures: Sequence[float]
) -> Floats:
    """Return the entropies of some rows, in nats."""
    # log(w) is s - log(z) for s = (value - best value) / temperature; the best token's weight is 1 / z.
    best_values = torch.from_numpy(values[indexes, best[indexes]])[:, None]
    vocabulary = values.shape[1]
    products = buffer("products", len(indexes), weights.shape[1])
    scaled = products[:, :vocabulary]
    torch.sub(torch.from_numpy(take(values, indexes, "typical")), best_values, out=scaled)
    if any(temperature != 1 for temperature in temperatures):
        scaled /= torch.tensor(temperatures)[:, None]
    scaled.clamp_(min=-_FARTHEST)  # minus infinity times 0 is no number
    products[:, vocabulary:] = 0
    products *= torch.from_numpy(take(weights, indexes, "typical"))
    expected = block_sums(products.numpy()).sum(-1)
    return np.asarray(-np.log(weights[indexes, best[indexes]]) - expected, dtype=np.float32)
