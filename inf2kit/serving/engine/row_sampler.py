"""What one row's choices depend on besides its logits: options, random numbers, and the tokens so far."""

from __future__ import annotations

import random
import secrets
from collections.abc import Sequence

from inf2kit.serving.wire import Parameters

#: Seeds are 64-bit integers, as in OpenAI's schema.
_SEED_BITS = 64


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
        penalised_ids: Ids seen so far, each once; empty without a repetition penalty.
        new_ids: Ids of the new text, each once; empty without presence and frequency penalty.
        counts: How often each of them is in the new text.
    """

    def __init__(self, parameters: Parameters, prompt_ids: Sequence[int], banned_ids: Sequence[int]) -> None:
        self.parameters = parameters
        self._banned_ids = banned_ids
        self._new_tokens = 0
        self.seed: int | None = None
        if parameters.do_sample:
            self.seed = random_seed() if parameters.seed is None else parameters.seed
        self._random = _random_numbers(self.seed or 0)
        # A top_p of 0 leaves nothing but the best token.
        self.draws = parameters.do_sample and parameters.top_p > 0
        bias = dict(parameters.logit_bias)
        self.bias_ids, self.biases = list(bias), list(bias.values())
        self._has_penalty = parameters.repetition_penalty != 1.0
        # Ordered, for numpy, and as a set, for a quick test.
        self.penalised_ids: list[int] = list(dict.fromkeys(prompt_ids)) if self._has_penalty else []
        self._seen = set(self.penalised_ids)
        self._counts_new = parameters.presence_penalty != 0 or parameters.frequency_penalty != 0
        self.new_ids: list[int] = []
        self.counts: list[int] = []
        self._places: dict[int, int] = {}
        self._has_processors = bool(bias) or self._has_penalty or self._counts_new
        self.is_greedy = not (parameters.do_sample or self._has_processors or parameters.min_new_tokens)

    @property
    def banned_ids(self) -> Sequence[int]:
        """Ids that must not come next."""
        return self._banned_ids if self._new_tokens < self.parameters.min_new_tokens else ()

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
        if self._has_penalty and token_id not in self._seen:
            self._seen.add(token_id)
            self.penalised_ids.append(token_id)
        if self._counts_new:
            place = self._places.setdefault(token_id, len(self.new_ids))
            if place == len(self.new_ids):
                self.new_ids.append(token_id)
                self.counts.append(0)
            self.counts[place] += 1


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
