"""Logits to token ids, all rows at once, by transformers' processors and warpers in transformers' order.

The order is repetition penalty, minimum of new tokens, temperature, top-k, top-p, as in
``transformers.GenerationMixin._get_logits_processor``. The code uses numpy, whose argmax over a vocabulary is
ten times faster than torch's: a step on a device takes a few milliseconds only.
"""

from __future__ import annotations

import math
import random
import secrets
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from inf2kit.serving.wire import Parameters

#: top-p counts tokens in bins of a quarter of a nat below the best one; the last bin has all that is lower.
_BINS_PER_NAT, _LAST_BIN = 4, 400

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]


class RowSampler:
    """The state of one row that its choices depend on, besides its logits.

    Every row has its own random numbers, one for each new token, so a request gets the
    same text in any batch.

    Args:
        parameters: The request's parameters.
        prompt_ids: Ids that the repetition penalty counts as seen.
        eos_ids: Ids that are not chosen before ``min_new_tokens``.

    Attributes:
        seed: The seed in use, drawn at random where the request has none; None for greedy search.
        is_greedy: Whether the row takes the best token of the logits as they are.
    """

    def __init__(self, parameters: Parameters, prompt_ids: Sequence[int], eos_ids: Sequence[int]) -> None:
        self.parameters = parameters
        self._eos_ids = eos_ids
        self._new_tokens = 0
        self.seed: int | None = None
        if parameters.do_sample:
            self.seed = secrets.randbits(32) if parameters.seed is None else parameters.seed
        self._random = random.Random(self.seed)  # noqa: S311 - nothing secret
        self._has_penalty = parameters.repetition_penalty != 1.0
        # Ordered, for numpy, and as a set, for a quick test.
        self._seen_ids: list[int] = list(dict.fromkeys(prompt_ids)) if self._has_penalty else []
        self._seen = set(self._seen_ids)
        self.is_greedy = not (parameters.do_sample or self._has_penalty or parameters.min_new_tokens)

    @property
    def banned_ids(self) -> Sequence[int]:
        """Ids that must not come next."""
        return self._eos_ids if self._new_tokens < self.parameters.min_new_tokens else ()

    @property
    def penalised_ids(self) -> Sequence[int]:
        """Ids seen so far, each once; empty without a repetition penalty."""
        return self._seen_ids

    def draw(self) -> float:
        """Return the row's next random number, within 0..1."""
        return self._random.random()

    def record(self, token_id: int) -> None:
        """Record the id that was chosen."""
        self._new_tokens += 1
        if self._has_penalty and token_id not in self._seen:
            self._seen.add(token_id)
            self._seen_ids.append(token_id)


def sample(logits: torch.Tensor, rows: Sequence[RowSampler]) -> list[int]:
    """Choose the next id of each row.

    Args:
        logits: float32, shape ``[rows, vocabulary]``; not changed.
        rows: One per row of the logits.
    """
    values: Floats = logits.numpy()
    if all(row.is_greedy for row in rows):
        best_ids: list[int] = values.argmax(-1).tolist()
        return best_ids
    if any(row.penalised_ids or row.banned_ids for row in rows):
        values = apply_processors(values, rows)
    ids: list[int] = values.argmax(-1).tolist()
    # Damaged weights give logits that are not numbers. Such a row keeps its argmax, and the others continue.
    sampled = [
        index
        for index, row in enumerate(rows)
        if row.parameters.do_sample and math.isfinite(values[index, ids[index]])
    ]
    unbounded = [
        index for index in sampled if rows[index].parameters.top_k <= 0 and rows[index].parameters.top_p >= 1
    ]
    for index in unbounded:
        ids[index] = _draw_from_vocabulary(
            values[index], rows[index].parameters.temperature, rows[index].draw()
        )
    sampled = [index for index in sampled if index not in unbounded]
    if sampled:
        sampled_values = values if len(sampled) == len(rows) else values[sampled]
        segment, candidate_ids, weights = candidates(
            sampled_values, [rows[index].parameters for index in sampled]
        )
        draws = np.array([rows[index].draw() for index in sampled])
        drawn_ids = _draw_from_candidates(segment, candidate_ids, weights, draws)
        for index, token_id in zip(sampled, drawn_ids, strict=True):
            ids[index] = token_id
    return ids


def apply_processors(values: Floats, rows: Sequence[RowSampler]) -> Floats:
    """Apply repetition penalty and minimum of new tokens to a copy of logits ``[rows, vocabulary]``."""
    values = values.copy()
    lengths = [len(row.penalised_ids) for row in rows]
    if any(lengths):
        indices = np.repeat(np.arange(len(rows)), lengths)
        seen = np.concatenate([np.asarray(row.penalised_ids, dtype=np.int64) for row in rows])
        penalty = np.repeat(
            np.array([row.parameters.repetition_penalty for row in rows], dtype=values.dtype), lengths
        )
        scores = values[indices, seen]
        values[indices, seen] = np.where(scores < 0, scores * penalty, scores / penalty)
    for index, row in enumerate(rows):
        if row.banned_ids:
            values[index, list(row.banned_ids)] = -np.inf
    return values


def candidates(values: Floats, parameters: Sequence[Parameters]) -> tuple[Ints, Ints, Floats]:
    """Return the tokens of each row that temperature, top-k and top-p leave.

    Args:
        values: Processed logits, shape ``[rows, vocabulary]``.
        parameters: One per row.

    Returns:
        Row, id and weight of every candidate, each of shape ``[candidates of all rows]``, ordered by row and
        then by id. The weights of a row are proportional to the tokens' probabilities.
    """
    vocabulary = values.shape[1]
    ids: list[Ints] = [np.empty(0, dtype=np.int64)] * len(parameters)
    tail = np.zeros(len(parameters))
    limited = [index for index, row in enumerate(parameters) if 0 < row.top_k < vocabulary]
    for index, best_ids in zip(limited, _top_k(values, limited, parameters), strict=True):
        ids[index] = best_ids
    for index, row in enumerate(parameters):
        if index not in limited:
            ids[index], tail[index] = _top_p_superset(values[index], row)
    segment = np.repeat(np.arange(len(parameters)), [len(row_ids) for row_ids in ids])
    flat = np.concatenate(ids)
    temperature = np.array([row.temperature for row in parameters], dtype=values.dtype)
    scaled = values[segment, flat] / temperature[segment]
    best = np.maximum.reduceat(scaled, np.searchsorted(segment, np.arange(len(parameters))))
    weights = np.exp((scaled - best[segment]).astype(np.float64))
    top_p = np.array([row.top_p for row in parameters])
    if (top_p < 1).any():
        stays = _top_p(segment, weights, top_p, tail)
        segment, flat, weights = segment[stays], flat[stays], weights[stays]
    return segment, flat, weights


def _top_k(values: Floats, limited: Sequence[int], parameters: Sequence[Parameters]) -> Iterator[Ints]:
    """Yield the k best ids of each limited row, and ids that tie with the k-th, as in transformers."""
    if not limited:
        return
    top_k = [parameters[index].top_k for index in limited]
    rows = torch.from_numpy(values[limited] if len(limited) < len(values) else values)
    top = torch.topk(rows, min(max(top_k) + 1, values.shape[1]))
    for index, count, best, best_ids in zip(
        limited, top_k, top.values.numpy(), top.indices.numpy(), strict=True
    ):
        # A banned token has no probability: it is never a candidate.
        least = max(best[count - 1], np.finfo(values.dtype).min)
        if best[count] == best[count - 1] or best[count - 1] < least:
            yield np.flatnonzero(values[index] >= least)
        else:
            yield np.sort(best_ids[:count])


def _top_p_superset(values: Floats, parameters: Parameters) -> tuple[Ints, float]:
    """Return ids of one row without top-k that include all that top-p leaves, and the weight of the others.

    Counting tokens in bins below the best one avoids sorting the vocabulary: a token more than a bin below
    the one that reaches top-p is dropped, whatever the order within the bins.
    """
    if parameters.top_p >= 1:
        return np.flatnonzero(values > -np.inf), 0.0
    below = (values.max() - values) / values.dtype.type(parameters.temperature)
    weights = np.exp(-below)
    bins = np.minimum(below * _BINS_PER_NAT, _LAST_BIN).astype(np.intp)
    running = np.cumsum(np.bincount(bins, weights, minlength=_LAST_BIN + 1))
    # One bin more than reaches top-p, as sums in another order differ in their last bits.
    last = np.searchsorted(running, parameters.top_p * running[-1]) + 1
    ids = np.flatnonzero(bins <= last)
    return ids, float(running[-1] - running[min(last, _LAST_BIN)])


def _top_p(segment: Ints, weights: Floats, top_p: Floats, tail: Floats) -> NDArray[np.bool_]:
    """Return which candidates stay: the least likely go as long as they are within 1 - top_p together."""
    order = np.lexsort((weights, segment))
    ends = np.searchsorted(segment, np.arange(len(top_p)), side="right")
    total = np.add.reduceat(weights, np.concatenate([[0], ends[:-1]])) + tail
    running = np.cumsum(weights[order])
    before = np.concatenate([[0.0], running[ends[:-1] - 1]])
    dropped = (running - before[segment] + tail[segment]) / total[segment] <= (1 - top_p)[segment]
    dropped[top_p[segment] >= 1] = False
    dropped[ends - 1] = False  # the best one always stays
    stays = np.empty(len(segment), dtype=np.bool_)
    stays[order] = ~dropped
    return stays


def _draw_from_candidates(segment: Ints, ids: Ints, weights: Floats, draws: Floats) -> list[int]:
    """Choose one id per row: the one at its random number, when the row's weights lie side by side, by id.

    The order is by id and not by probability, so that a difference in the last bit of a logit moves a border
    by as much, and does not make two tokens change places.
    """
    running = np.cumsum(weights)
    ends = np.searchsorted(segment, np.arange(len(draws)), side="right")
    before = np.concatenate([[0.0], running[ends[:-1] - 1]])
    drawn = np.searchsorted(running, before + draws * (running[ends - 1] - before), side="right")
    # Rounding may place a draw next to 1 after the row's last token.
    return [int(ids[index]) for index in np.minimum(drawn, ends - 1)]


def _draw_from_vocabulary(values: Floats, temperature: float, draw: float) -> int:
    """Choose an id of a row without top-k and top-p, without a list of candidates."""
    weights = np.exp((values - values.max()) / values.dtype.type(temperature))
    running = np.cumsum(weights, dtype=np.float64)
    token_id = int(np.searchsorted(running, draw * running[-1], side="right"))
    # Rounding may place a draw next to 1 after the last token.
    return token_id if token_id < len(values) else int(np.flatnonzero(weights)[-1])


def logprobs(logits: torch.Tensor, ids: Sequence[int]) -> list[float | None]:
    """Return the natural logarithm of each chosen token's probability in the model's own distribution.

    Args:
        logits: float32, shape ``[rows, vocabulary]``, unprocessed.
        ids: One chosen id per row.
    """
    values = torch.log_softmax(logits, dim=-1)[torch.arange(len(ids)), torch.tensor(ids)]
    return [value if math.isfinite(value) else None for value in values.tolist()]
