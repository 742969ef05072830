"""Check a generated text token by token against transformers' own forward pass.

If each token is what the model chooses after the tokens before it, the text is what the model
generates alone. One forward pass over prompt and text gives all logits at once, so a check is cheap. A token
that is not the best one is either a near-tie or a fault, whatever follows it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM
from transformers.generation.logits_process import (
    LogitsProcessor,
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from inf2kit.serving.wire import Parameters

#: Float32 arithmetic in another order moves a logit of magnitude 20 by about 1e-5 a layer: two logits this
#: near to each other may swap.
NEAR_TIE = 1e-3
#: The same for a probability: a draw this near to the border of a token may fall on either side.
NEAR_BORDER = 3e-4
NEAR_TOP_P = 1e-4


class ReferenceModel:
    """A model as transformers runs it, in float32.

    Args:
        weights: Directory of the model.
        eos_ids: Token ids that ``min_new_tokens`` suppresses.
    """

    def __init__(self, weights: Path, eos_ids: Sequence[int]) -> None:
        self._model = AutoModelForCausalLM.from_pretrained(weights, torch_dtype=torch.float32).eval()
        self._eos_ids = list(eos_ids)

    @torch.inference_mode()
    def compute_logits(self, texts: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[torch.Tensor]:
        """Compute the logits of the new tokens of several texts, each a prompt and its new tokens.

        One pass over texts of similar length costs a fraction of a pass each. They are padded at their end,
        which no token before it attends to.
        """
        rows = [[*prompt, *new[:-1]] for prompt, new in texts]
        length = max(map(len, rows))
        hidden = self._model.model(torch.tensor([row + [0] * (length - len(row)) for row in rows]))[0]
        return [
            self._model.lm_head(hidden[number, len(prompt) - 1 : len(prompt) - 1 + len(new)])
            for number, (prompt, new) in enumerate(texts)
        ]

    @torch.inference_mode()
    def count_near_ties(
        self,
        prompt: Sequence[int],
        new: Sequence[int],
        parameters: Parameters,
        logprobs: Sequence[float | None] = (),
        logits: torch.Tensor | None = None,
    ) -> int:
        """Count the new tokens that were near-ties.

        Args:
            prompt: Token ids of the prompt.
            new: Generated token ids.
            parameters: Parameters of the request.
            logprobs: Log-probability of each new token, as the endpoint reported it; checked where given.
            logits: Of the new tokens, where ``compute_logits`` has computed them already.

        Raises:
            AssertionError: A token was wrong by more than rounding.
        """
        logits = self.compute_logits([(prompt, new)])[0] if logits is None else logits
        draws = random.Random((parameters.seed or 0) % 2**64)
        ties = 0
        for step, token_id in enumerate(new):
            before = torch.tensor([[*prompt, *new[:step]]])
            scores = build_processors(parameters, len(prompt), self._eos_ids, warp=False)(
                before, logits[step][None]
            )[0]
            if parameters.do_sample:
                number = draws.random()
                if _drawn(scores, parameters, number) != token_id:
                    assert _nearly_drawn(scores, parameters, number, token_id), (step, token_id, parameters)
                    ties += 1
            elif int(scores.argmax()) != token_id:
                assert float(scores.max() - scores[token_id]) < NEAR_TIE, (step, token_id, parameters)
                ties += 1
            if logprobs:
                logprob = logprobs[step]
                assert logprob is not None
                assert abs(logprob - float(torch.log_softmax(logits[step], -1)[token_id])) < NEAR_TIE
        return ties


def build_processors(
    parameters: Parameters, prompt_length: int, eos_ids: list[int], *, warp: bool = True
) -> LogitsProcessorList:
    """Build transformers' logits processors, and with ``warp`` its warpers, in the order of ``generate``."""
    processors = LogitsProcessorList()
    if parameters.logit_bias:
        biases = {(token_id,): float(bias) for token_id, bias in parameters.logit_bias}
        processors.append(SequenceBiasLogitsProcessor(biases))
    if parameters.repetition_penalty != 1.0:
        processors.append(RepetitionPenaltyLogitsProcessor(parameters.repetition_penalty))
    if parameters.presence_penalty or parameters.frequency_penalty:
        processors.append(PenaltiesOfOpenAI(parameters, prompt_length))
    if parameters.min_new_tokens:
        ends = sorted({*eos_ids, *parameters.stop_token_ids})
        processors.append(
            MinNewTokensLengthLogitsProcessor(prompt_length, parameters.min_new_tokens, ends, device="cpu")
        )
    return LogitsProcessorList([*processors, *build_warpers(parameters)]) if warp else processors


def build_warpers(parameters: Parameters) -> LogitsProcessorList:
    """Build transformers' warpers in the order of ``generate``."""
    warpers = LogitsProcessorList()
    if parameters.temperature != 1.0:
        warpers.append(TemperatureLogitsWarper(parameters.temperature))
    if parameters.top_k:
        warpers.append(TopKLogitsWarper(parameters.top_k))
    if parameters.top_p < 1.0:
        warpers.append(TopPLogitsWarper(parameters.top_p))
    if parameters.min_p:
        warpers.append(MinPLogitsWarper(parameters.min_p))
    if parameters.typical_p < 1.0:
        warpers.append(TypicalLogitsWarper(parameters.typical_p))
    return warpers


class PenaltiesOfOpenAI(LogitsProcessor):
    """Presence and frequency penalty, token by token as OpenAI defines them; transformers has neither."""

    def __init__(self, parameters: Parameters, prompt_length: int) -> None:
        self._parameters = parameters
        self._prompt_length = prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return the scores after ``mu[j] -= c[j] * frequency + (c[j] > 0) * presence``."""
        scores = scores.clone()
        for row, ids in enumerate(input_ids.tolist()):
            new = ids[self._prompt_length :]
            for token_id in set(new):
                scores[row, token_id] -= new.count(token_id) * self._parameters.frequency_penalty
                scores[row, token_id] -= self._parameters.presence_penalty
        return scores


def _drawn(scores: torch.Tensor, parameters: Parameters, number: float) -> int:
    (token_id,) = _reachable(scores, parameters, number, near=0.0)
    return token_id


def _nearly_drawn(scores: torch.Tensor, parameters: Parameters, number: float, token_id: int) -> bool:
    """Whether a change no larger than rounding makes the draw fall on this token."""
    return any(
        token_id in _reachable(scores, nearby, number, near=NEAR_BORDER) for nearby in _nearby(parameters)
    )


def _reachable(scores: torch.Tensor, parameters: Parameters, number: float, near: float) -> set[int]:
    """The tokens that numbers this near to those of the row fall on.

    Tokens lie side by side by id. A small top-k leaves a list, from which one is drawn. Other rows draw from
    all tokens, and again where the warpers drop what they drew: from those that the warper prefers to it.
    """
    warped = build_warpers(parameters)(torch.empty((1, 0), dtype=torch.long), scores[None].clone())[0]
    left = torch.softmax(warped.double(), -1)
    if parameters.top_k or (parameters.typical_p < 1 and (parameters.top_p < 1 or parameters.min_p)):
        return set(_around(left, number, near))
    shares = torch.softmax(scores.double() / parameters.temperature, -1)
    merits = shares
    if parameters.typical_p < 1:
        surprises = -shares.log()
        merits = -(surprises - torch.special.entr(shares).sum()).abs()
    floor = float(parameters.min_p * shares.max())
    later = random.Random(number)
    numbers = [number, *(later.random() for _ in range(50))]

    def follow(weights: torch.Tensor, turn: int) -> Iterator[int]:
        for token_id in _around(weights, numbers[turn], near):
            if left[token_id] > 0:
                yield token_id
                continue
            preferred = merits > merits[token_id]
            if shares[token_id] < floor:
                preferred &= shares >= floor
            yield from follow(weights * preferred, turn + 1)

    return set(follow(shares, 0))


def _around(weights: torch.Tensor, number: float, near: float) -> list[int]:
    """The tokens whose intervals, each as long as its weight, are this near to the number."""
    ends = (weights / weights.sum()).cumsum(-1)
    limits = torch.tensor([number - near, number + near], dtype=torch.float64)
    limits = limits.clamp(0, float(ends[-1]) * (1 - 1e-15))
    first, last = torch.searchsorted(ends, limits, right=True).tolist()
    return [token_id for token_id in range(first, last + 1) if weights[token_id] > 0]


def _nearby(parameters: Parameters) -> Iterator[Parameters]:
    """The parameters as they are, and with one token more or less at the border of a warper."""
    yield parameters
    if parameters.top_k:
        yield replace(parameters, top_k=parameters.top_k + 1)
        yield replace(parameters, top_k=max(parameters.top_k - 1, 1))
    if parameters.top_p < 1:
        yield replace(parameters, top_p=min(parameters.top_p + NEAR_TOP_P, 1.0))
        yield replace(parameters, top_p=parameters.top_p - NEAR_TOP_P)
    for name in ("min_p", "typical_p"):
        value = getattr(parameters, name)
        if 0 < value < 1:
            yield replace(parameters, **{name: value * (1 - NEAR_TOP_P)})
            yield replace(parameters, **{name: min(value * (1 + NEAR_TOP_P), 1.0)})
