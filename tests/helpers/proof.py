"""Proving a generated text right, token by token, with transformers' own forward pass.

If every token is what the model chooses behind the tokens before it, the whole is what it generates alone.
One forward pass over prompt and text gives all the logits at once, so that a proof costs little, and a
token that is not the best one is shown to be a tie, or is a fault, whatever follows it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from inf2kit.serving.wire import Parameters

#: Float32 arithmetic in another order moves a logit of magnitude 20 by about 1e-5 a layer; two logits this
#: near each other may change places.
NEAR_TIE = 1e-3
#: The same of a probability, of which a draw may fall on the other side.
NEAR_BORDER = 3e-4
NEAR_TOP_P = 1e-4


class Proof:
    """Knows one model.

    Args:
        weights: Its directory.
        eos_ids: Ids that ``min_new_tokens`` holds back.
    """

    def __init__(self, weights: Path, eos_ids: Sequence[int]) -> None:
        self._model = AutoModelForCausalLM.from_pretrained(weights, torch_dtype=torch.float32).eval()
        self._eos_ids = list(eos_ids)

    @torch.inference_mode()
    def near_ties(
        self,
        prompt: Sequence[int],
        new: Sequence[int],
        parameters: Parameters,
        logprobs: Sequence[float | None] = (),
    ) -> int:
        """How many of the new tokens were near-ties; an AssertionError where one was simply wrong."""
        ids = torch.tensor([[*prompt, *new[:-1]]])
        logits = self._model(ids, logits_to_keep=len(new)).logits[0]
        draws = random.Random(parameters.seed)
        ties = 0
        for step, token_id in enumerate(new):
            before = torch.tensor([[*prompt, *new[:step]]])
            scores = chain(parameters, len(prompt), self._eos_ids, warp=False)(before, logits[step][None])[0]
            if parameters.do_sample:
                draw = draws.random()
                if _drawn(scores, parameters, draw) != token_id:
                    assert _nearly_drawn(scores, parameters, draw, token_id), (step, token_id, parameters)
                    ties += 1
            elif int(scores.argmax()) != token_id:
                assert float(scores.max() - scores[token_id]) < NEAR_TIE, (step, token_id, parameters)
                ties += 1
            if logprobs:
                logprob = logprobs[step]
                assert logprob is not None
                assert abs(logprob - float(torch.log_softmax(logits[step], -1)[token_id])) < NEAR_TIE
        return ties


def chain(
    parameters: Parameters, prompt_length: int, eos_ids: list[int], *, warp: bool = True
) -> LogitsProcessorList:
    """transformers' processors, and warpers where asked for, in the order in which ``generate`` has them."""
    processors = LogitsProcessorList()
    if parameters.repetition_penalty != 1.0:
        processors.append(RepetitionPenaltyLogitsProcessor(parameters.repetition_penalty))
    if parameters.min_new_tokens:
        processors.append(
            MinNewTokensLengthLogitsProcessor(prompt_length, parameters.min_new_tokens, eos_ids, device="cpu")
        )
    return LogitsProcessorList([*processors, *warpers(parameters)]) if warp else processors


def warpers(parameters: Parameters) -> LogitsProcessorList:
    """transformers' warpers in its order."""
    found = LogitsProcessorList()
    if parameters.temperature != 1.0:
        found.append(TemperatureLogitsWarper(parameters.temperature))
    if parameters.top_k:
        found.append(TopKLogitsWarper(parameters.top_k))
    if parameters.top_p < 1.0:
        found.append(TopPLogitsWarper(parameters.top_p))
    return found


def _borders(scores: torch.Tensor, parameters: Parameters) -> torch.Tensor:
    """The tokens side by side by id: where each one ends, the last one at 1."""
    warped = warpers(parameters)(torch.empty((1, 0), dtype=torch.long), scores[None].clone())[0]
    return torch.softmax(warped.double(), -1).cumsum(-1)


def _drawn(scores: torch.Tensor, parameters: Parameters, draw: float) -> int:
    return int(torch.searchsorted(_borders(scores, parameters), torch.tensor(draw).double(), right=True))


def _nearly_drawn(scores: torch.Tensor, parameters: Parameters, draw: float, token_id: int) -> bool:
    """Whether a change as small as rounding makes the draw fall on this token."""
    for nearby in _nearby(parameters):
        ends = _borders(scores, nearby)
        start = float(ends[token_id - 1]) if token_id else 0.0
        if (
            start < float(ends[token_id])
            and start - NEAR_BORDER <= draw <= float(ends[token_id]) + NEAR_BORDER
        ):
            return True
    return False


def _nearby(parameters: Parameters) -> Iterator[Parameters]:
    """The same, and with one token more or less at the border of top-k or top-p."""
    yield parameters
    if parameters.top_k:
        yield replace(parameters, top_k=parameters.top_k + 1)
        yield replace(parameters, top_k=max(parameters.top_k - 1, 1))
    if parameters.top_p < 1:
        yield replace(parameters, top_p=min(parameters.top_p + NEAR_TOP_P, 1.0))
        yield replace(parameters, top_p=parameters.top_p - NEAR_TOP_P)
