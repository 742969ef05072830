"""Requests of all options in one batch: each text is what transformers computes for it alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

import inf2kit
from inf2kit.serving.engine.events import WholeAnswer
from inf2kit.serving.wire.parameters import parse_parameters
from tests.helpers.reference_model import ReferenceModel

OPTIONS: list[dict[str, Any]] = [
    {"presence_penalty": 1.5, "frequency_penalty": 0.7},
    {"do_sample": True, "seed": 1, "min_p": 0.05, "frequency_penalty": -0.3},
    {"do_sample": True, "seed": -5, "typical_p": 0.8, "temperature": 1.2},
    {"logit_bias": {"260": 4.0, "28": -100}, "stop_token_ids": [30, 198], "min_new_tokens": 4},
    {"do_sample": True, "seed": 2**63 - 1, "top_p": 0.9, "top_k": 50, "n": 3, "presence_penalty": -1},
    {"repetition_penalty": 1.3, "frequency_penalty": 0.5, "logit_bias": {"198": -5}},
    {"truncate": 3, "do_sample": True, "seed": 4},
    {},
]
PROMPTS = ["The capital of France is", "Once upon a time, there was", "def main():\n", "1 2 3 4 5 6 7"]


def test_mixed_options_equal_their_alone_runs(small_weights: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(small_weights)
    model = inf2kit.load(small_weights, batch_size=8, sequence_length=128)
    requests = [(prompt, options) for prompt in PROMPTS for options in OPTIONS]

    def answer(request: tuple[str, dict[str, Any]]) -> Any:
        text, options = request
        whole = WholeAnswer()
        parameters = {"max_new_tokens": 10, "top_n_tokens": 2, "details": True, **options}
        for event in model._engine.call({"inputs": text, "parameters": parameters}):
            whole.add(event)
        return whole.body()

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(answer, requests))
    reference = ReferenceModel(small_weights, [tokenizer.eos_token_id])
    ties = compared = 0
    for (text, options), choices in zip(requests, answers, strict=True):
        parameters, _ = parse_parameters(options)
        prompt = tokenizer(text)["input_ids"][-(parameters.truncate or 100) :]
        assert len(choices) == parameters.n
        for choice in choices:
            details = choice["details"]
            ids = [token["id"] for token in details["tokens"]]
            assert details["input_length"] == len(prompt)
            seeded = {**options, "seed": details["seed"]} if parameters.do_sample else options
            chosen, _ = parse_parameters(seeded)
            logprobs = [token["logprob"] for token in details["tokens"]]
            ties += reference.count_near_ties(prompt, ids, chosen, logprobs)
            compared += 1
    assert compared == 40
    assert ties <= 2, "so many ties are no accident"
