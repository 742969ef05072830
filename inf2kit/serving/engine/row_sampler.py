"""What one row's choices depend on besides its logits: options, random numbers, and the tokens so far."""

from __future__ import annotations

import random
import secrets
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from inf2kit.serving.wire import Parameters

#: Seeds are 64-bit integers, as in OpenAI's schema.
_SEED_BITS = 64
_NO_IDS = np.empty(0, dtype=np.int64)


class RowSampler:
    """The state of one row.

    Every row has its own random numbers, one for each new token, so a request gets the
    same text in any batch.

    Args:
        parameters: The request's parameters.
        prompt_ids: Ids that the repetition penalty counts as seen.
        banned_ids: Ids that are not chosen before ``min_new_tokens``: those that would end the text.

    Attributes:
        seed: The seed in use, drawn at random where the request has none; None for greedy search.
        is_greedy: Whether the row takes the best token of the logits as they are.
        draws: Whether the row takes a random token of those that its options leave.
        bias_ids: Ids of ``logit_bias``, each once.
        biases: What is added to their logits.
    """

    def __init__(self, parameters: Parameters, prompt_ids: Sequence[int], banned_ids: Sequence[int]) -> None:
        self.parameters = parameters
        self._banned_ids = np.array(banned_ids, dtype=np.int64)
        self._new_tokens = 0
        self.seed: int | None = None
        if parameters.do_sample:
            self.seed = random_seed() if parameters.seed is None else parameters.seed
        self._random = _random_numbers(self.seed or 0)
        # A top_p of 0 leaves nothing but the best token.
        self.draws = parameters.do_sample and parameters.top_p > 0
        bias = dict(parameters.logit_bias)
        self.bias_ids = np.array(list(bias), dtype=np.int64)
        self.biases = np.array(list(bias.values()), dtype=np.float32)
        self._has_penalty = parameters.repetition_penalty != 1.0
        self._counts_new = parameters.presence_penalty != 0 or parameters.frequency_penalty != 0
        self._seen = _CountedIds(prompt_ids if self._has_penalty else ())
        self._new = _CountedIds(())
        self._has_processors = bool(bias) or self._has_penalty or self._counts_new
        self.is_greedy = not (parameters.do_sample or self._has_processors or parameters.min_new_tokens)

    @property
    def penalised_ids(self) -> NDArray[np.int64]:
        """Ids seen so far, each once; empty without a repetition penalty."""
        return self._seen.ids

    @property
    def new_ids(self) -> NDArray[np.int64]:
        """Ids of the new text, each once; empty without presence and frequency penalty."""
        return self._new.ids

    @property
    def counts(self) -> NDArray[np.float32]:
        """How often each of them is in the new text."""
        return self._new.counts

    @property
    def banned_ids(self) -> NDArray[np.int64]:
        """Ids that must not come next."""
        return self._banned_ids if self._new_tokens < self.parameters.min_new_tokens else _NO_IDS

    @property
    def changes_logits(self) -> bool:
        """Whether the row's logits are processed before its next token is chosen."""
        return self._has_processors or self._new_tokens < self.parameters.min_new_tokens

    def draw(self) -> float:
        """Return the row's next random number, within 0..1."""
        return self._random.random()

    def record(self, token_id: int) -> None:
        """Record the id that was chosen."""
        self._new_tokens += 1
        if self._has_penalty:
            self._seen.add(token_id)
        if self._counts_new:
            self._new.add(token_id)


class _CountedIds:
    """Ids, each once, and how often each was added, as arrays that grow."""

    def __init__(self, ids: Sequence[int]) -> None:
        self._places: dict[int, int] = {}
        self._ids = np.empty(max(64, 2 * len(ids)), dtype=np.int64)
        self._counts = np.zeros(len(self._ids), dtype=np.float32)
        for token_id in ids:
            self.add(token_id)

    @property
    def ids(self) -> NDArray[np.int64]:
        return self._ids[: len(self._places)]

    @property
    def counts(self) -> NDArray[np.float32]:
        return self._counts[: len(self._places)]

    def add(self, token_id: int) -> None:
        place = self._places.setdefault(token_id, len(self._places))
        if place == len(self._ids):
            self._ids = np.concatenate([self._ids, np.empty_like(self._ids)])
            self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
        self._ids[place] = token_id
        self._counts[place] += 1


def random_seed() -> int:
    """Return a seed for a request without one."""
    return secrets.randbits(32)


def seed_of_answer(seed: int, number: int) -> int:
    """Return the seed of one of several answers to a prompt: the seeds after the first one, modulo 2**64.

    A request with that seed gives the same answer; so -1, which would be a random one, is 2**64 - 1.
    """
    if number == 0:
        return seed
    half = 1 << (_SEED_BITS - 1)
    following = (seed + number + half) % (1 << _SEED_BITS) - half
    return (1 << _SEED_BITS) - 1 if following == -1 else following


def _random_numbers(seed: int) -> random.Random:
    # random.Random ignores a seed's sign, so a negative one is taken modulo 2**64, as torch takes it.
    return random.Random(seed % (1 << _SEED_BITS))  # noqa: S311 - nothing secret
