"""Logits to ids, all rows at once: transformers' processors and warpers, in transformers' order.

The order is repetition penalty, minimum of new tokens, temperature, top-k, top-p, as in
``transformers.GenerationMixin._get_logits_processor``. numpy, as its argmax over a vocabulary is ten times
faster than torch's, and a step on a device takes a few milliseconds only.
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

#: How finely top-p counts tokens by their distance from the best one, and from where on they count alike.
_STEPS_PER_NAT, _LAST_STEP = 4, 400

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]


class RowSampling:
    """What one row's choices depend on, besides its logits.

    Every row has random numbers of its own, one for each new token, so what a request gets does not depend
    on its company.

    Args:
        parameters: Of the request.
        prompt_ids: The repetition penalty counts them as seen.
        eos_ids: Not chosen before ``min_new_tokens``.

    Attributes:
        seed: The seed in use, drawn at random where the request gave none; None for greedy search.
        plain: Whether the best token is all that is asked for.
    """

    def __init__(self, parameters: Parameters, prompt_ids: Sequence[int], eos_ids: Sequence[int]) -> None:
        self.parameters = parameters
        self._eos_ids = eos_ids
        self._new = 0
        self._random: random.Random | None = None
        self.seed: int | None = None
        if parameters.do_sample:
            self.seed = secrets.randbits(32) if parameters.seed is None else parameters.seed
            self._random = random.Random(self.seed)  # noqa: S311 - nothing secret
        self._penalised = parameters.repetition_penalty != 1.0
        self._seen: list[int] = list(dict.fromkeys(prompt_ids)) if self._penalised else []
        self._known = set(self._seen)
        self.plain = not (parameters.do_sample or self._penalised or parameters.min_new_tokens)

    @property
    def banned(self) -> Sequence[int]:
        """Ids that must not come next."""
        return self._eos_ids if self._new < self.parameters.min_new_tokens else ()

    @property
    def penalised(self) -> Sequence[int]:
        """Ids seen so far, each once, where there is a penalty for them."""
        return self._seen

    def draw(self) -> float:
        """The row's next random number, within 0..1."""
        assert self._random is not None  # noqa: S101
        return self._random.random()

    def took(self, token_id: int) -> None:
        """Note the id that was chosen."""
        self._new += 1
        if self._penalised and token_id not in self._known:
            self._known.add(token_id)
            self._seen.append(token_id)


def choose(logits: torch.Tensor, rows: Sequence[RowSampling]) -> list[int]:
    """The next id of each row.

    Args:
        logits: float32, shape ``[rows, vocabulary]``; left as they are.
        rows: One per row of the logits.
    """
    values: Floats = logits.numpy()
    if all(row.plain for row in rows):
        best: list[int] = values.argmax(-1).tolist()
        return best
    if any(row.penalised or row.banned for row in rows):
        values = processed(values, rows)
    chosen: list[int] = values.argmax(-1).tolist()
    # Logits that are no numbers, from damaged weights, must not end the other rows' texts.
    sampled = [
        index
        for index, row in enumerate(rows)
        if row.parameters.do_sample and math.isfinite(values[index, chosen[index]])
    ]
    free = [
        index for index in sampled if rows[index].parameters.top_k <= 0 and rows[index].parameters.top_p >= 1
    ]
    for index in free:
        chosen[index] = _anywhere(values[index], rows[index].parameters.temperature, rows[index].draw())
    sampled = [index for index in sampled if index not in free]
    if sampled:
        among = [rows[index] for index in sampled]
        rows_of = values if len(sampled) == len(rows) else values[sampled]
        segment, ids, weights = candidates(rows_of, [row.parameters for row in among])
        draws = np.array([row.draw() for row in among])
        for index, token_id in zip(sampled, _drawn(segment, ids, weights, draws), strict=True):
            chosen[index] = token_id
    return chosen


def _anywhere(values: Floats, temperature: float, draw: float) -> int:
    """One id of a row that neither top-k nor top-p bounds: as ``_drawn``, without a list of the whole row."""
    weights = np.exp((values - values.max()) / values.dtype.type(temperature))
    running = np.cumsum(weights, dtype=np.float64)
    found = int(np.searchsorted(running, draw * running[-1], side="right"))
    # Rounding may put a draw next to 1 behind the last token.
    return found if found < len(values) else int(np.flatnonzero(weights)[-1])


def processed(values: Floats, rows: Sequence[RowSampling]) -> Floats:
    """Logits ``[rows, vocabulary]`` after repetition penalty and minimum of new tokens, as a copy."""
    values = values.copy()
    lengths = [len(row.penalised) for row in rows]
    if any(lengths):
        at = np.repeat(np.arange(len(rows)), lengths)
        seen = np.concatenate([np.asarray(row.penalised, dtype=np.int64) for row in rows])
        penalty = np.repeat(
            np.array([row.parameters.repetition_penalty for row in rows], dtype=values.dtype), lengths
        )
        scores = values[at, seen]
        values[at, seen] = np.where(scores < 0, scores * penalty, scores / penalty)
    for index, row in enumerate(rows):
        if row.banned:
            values[index, list(row.banned)] = -np.inf
    return values


def candidates(values: Floats, parameters: Sequence[Parameters]) -> tuple[Ints, Ints, Floats]:
    """The tokens that temperature, top-k and top-p leave of each row.

    Args:
        values: Processed logits, shape ``[rows, vocabulary]``.
        parameters: One per row.

    Returns:
        Row, id and weight of every token left, each of shape ``[tokens left in all rows]``, by row and then
        by id. The weights of a row are proportional to the tokens' probabilities.
    """
    vocabulary = values.shape[1]
    ids: list[Ints] = [np.empty(0, dtype=np.int64)] * len(parameters)
    tail = np.zeros(len(parameters))
    limited = [index for index, each in enumerate(parameters) if 0 < each.top_k < vocabulary]
    for index, kept in zip(limited, _top_k(values, limited, parameters), strict=True):
        ids[index] = kept
    for index, each in enumerate(parameters):
        if index not in limited:
            ids[index], tail[index] = _likely(values[index], each)
    segment = np.repeat(np.arange(len(parameters)), [len(each) for each in ids])
    flat = np.concatenate(ids)
    temperature = np.array([each.temperature for each in parameters], dtype=values.dtype)
    scaled = values[segment, flat] / temperature[segment]
    best = np.maximum.reduceat(scaled, np.searchsorted(segment, np.arange(len(parameters))))
    weights = np.exp((scaled - best[segment]).astype(np.float64))
    top_p = np.array([each.top_p for each in parameters])
    if (top_p < 1).any():
        stays = _top_p(segment, weights, top_p, tail)
        segment, flat, weights = segment[stays], flat[stays], weights[stays]
    return segment, flat, weights


def _top_k(values: Floats, limited: Sequence[int], parameters: Sequence[Parameters]) -> Iterator[Ints]:
    """The ids of the k best of each of some rows, and of what is as good as the k-th, as in transformers."""
    if not limited:
        return
    top_k = [parameters[index].top_k for index in limited]
    rows = torch.from_numpy(values[limited] if len(limited) < len(values) else values)
    top = torch.topk(rows, min(max(top_k) + 1, values.shape[1]))
    for index, count, best, found in zip(
        limited, top_k, top.values.numpy(), top.indices.numpy(), strict=True
    ):
        # A banned token has no probability: it is never a candidate.
        least = max(best[count - 1], np.finfo(values.dtype).min)
        if best[count] == best[count - 1] or best[count - 1] < least:
            yield np.flatnonzero(values[index] >= least)
        else:
            yield np.sort(found[:count])


def _likely(values: Floats, parameters: Parameters) -> tuple[Ints, float]:
    """The ids of one row that top-p may leave, and the weight of the others, where there is no top-k.

    It spares sorting a vocabulary: tokens are counted into steps of a quarter of a nat below the best one,
    and what lies a step below the one that reaches top-p goes whatever its order.
    """
    if parameters.top_p >= 1:
        return np.flatnonzero(values > -np.inf), 0.0
    below = (values.max() - values) / values.dtype.type(parameters.temperature)
    weights = np.exp(-below)
    steps = np.minimum(below * _STEPS_PER_NAT, _LAST_STEP).astype(np.intp)
    running = np.cumsum(np.bincount(steps, weights, minlength=_LAST_STEP + 1))
    # A step more than reaches it, as sums in another order differ in their last bits.
    last = np.searchsorted(running, parameters.top_p * running[-1]) + 1
    likely = np.flatnonzero(steps <= last)
    return likely, float(running[-1] - running[min(last, _LAST_STEP)])


def _top_p(segment: Ints, weights: Floats, top_p: Floats, tail: Floats) -> NDArray[np.bool_]:
    """Which tokens stay: from the least likely up, those go that are within 1 - top_p together."""
    order = np.lexsort((weights, segment))
    ends = np.searchsorted(segment, np.arange(len(top_p)), side="right")
    total = np.add.reduceat(weights, np.concatenate([[0], ends[:-1]])) + tail
    running = np.cumsum(weights[order])
    before = np.concatenate([[0.0], running[ends[:-1] - 1]])
    gone = (running - before[segment] + tail[segment]) / total[segment] <= (1 - top_p)[segment]
    gone[top_p[segment] >= 1] = False
    gone[ends - 1] = False  # the best one always stays
    kept = np.empty(len(segment), dtype=np.bool_)
    kept[order] = ~gone
    return kept


def _drawn(segment: Ints, ids: Ints, weights: Floats, draws: Floats) -> list[int]:
    """One id per row: where its random number falls when the row's tokens lie side by side, by id.

    By id and not by probability: then logits that differ in their last bit move a border by as much, and do
    not make two tokens change places.
    """
    running = np.cumsum(weights)
    ends = np.searchsorted(segment, np.arange(len(draws)), side="right")
    before = np.concatenate([[0.0], running[ends[:-1] - 1]])
    found = np.searchsorted(running, before + draws * (running[ends - 1] - before), side="right")
    # Rounding may put a draw next to 1 behind the row's last token.
    return [int(ids[index]) for index in np.minimum(found, ends - 1)]


def logprobs(logits: torch.Tensor, ids: Sequence[int]) -> list[float | None]:
    """Natural logarithm of each row's chosen token's probability in the model's own distribution.

    Args:
        logits: float32, shape ``[rows, vocabulary]``, unprocessed.
        ids: The chosen ids.
    """
    values = torch.log_softmax(logits, dim=-1)[torch.arange(len(ids)), torch.tensor(ids)]
    return [value if math.isfinite(value) else None for value in values.tolist()]
