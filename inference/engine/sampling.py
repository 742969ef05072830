"""Logits to an id, for one row: transformers' own processors and warpers, in transformers' order."""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence

import torch
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from inf2kit.wire import Parameters


class Sampler:
    """Chooses the next id of one row.

    Every row has its own random numbers, so what a request gets does not depend on its company.

    Attributes:
        seed: The seed in use, drawn at random where the request gave none; None for greedy search.
    """

    def __init__(self, parameters: Parameters, prompt_ids: Sequence[int], eos_ids: Sequence[int]) -> None:
        self._processors = LogitsProcessorList()
        self._needs_ids = False
        if parameters.repetition_penalty != 1.0:
            self._processors.append(RepetitionPenaltyLogitsProcessor(parameters.repetition_penalty))
            self._needs_ids = True
        if parameters.min_new_tokens > 0 and eos_ids:
            self._processors.append(
                MinNewTokensLengthLogitsProcessor(
                    len(prompt_ids), parameters.min_new_tokens, list(eos_ids), device="cpu"
                )
            )
            self._needs_ids = True
        self.seed: int | None = None
        self._random: torch.Generator | None = None
        if parameters.do_sample:
            if parameters.temperature != 1.0:
                self._processors.append(TemperatureLogitsWarper(parameters.temperature))
            if parameters.top_k > 0:
                self._processors.append(TopKLogitsWarper(parameters.top_k))
            if parameters.top_p < 1.0:
                self._processors.append(TopPLogitsWarper(parameters.top_p))
            self.seed = secrets.randbits(32) if parameters.seed is None else parameters.seed
            self._random = torch.Generator().manual_seed(self.seed)

    def choose(self, logits: torch.Tensor, ids: Sequence[int]) -> int:
        """The next id.

        Args:
            logits: float32, shape ``[vocabulary]``.
            ids: The row's ids so far, prompt and new ones.
        """
        if self._processors:
            seen = torch.tensor([ids]) if self._needs_ids else torch.empty((1, 0), dtype=torch.long)
            logits = self._processors(seen, logits.unsqueeze(0))[0]
        if self._random is None:
            return int(torch.argmax(logits))
        probabilities = torch.softmax(logits, dim=-1)
        return int(torch.multinomial(probabilities, 1, generator=self._random))


def logprob(logits: torch.Tensor, token_id: int) -> float | None:
    """Natural logarithm of a token's probability in the model's own distribution."""
    value = float(logits[token_id] - torch.logsumexp(logits, dim=-1))
    return value if math.isfinite(value) else None
