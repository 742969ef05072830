"""Every text of an engine, in whatever company, is what the model generates alone.

Most requests go to the first layers of the embedded model: nonsense, and computed in the same way. They go to
one engine, and again to two engines with a thread each. The others go to the whole model.
"""

from __future__ import annotations

import http.client
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

import inf2kit
from inf2kit import toml
from inf2kit.rehearsal.local.state import EndpointState
from inf2kit.serving.engine.metrics import parse_engine_samples
from inf2kit.serving.wire.parameters import parse_parameters
from tests.helpers.local_endpoint import EndpointCaller
from tests.helpers.reference_model import ReferenceModel
from tests.helpers.servers import PATIENCE_S

#: The requests to each model, the tokens of those that are longer than the others, and the callers.
REQUESTS = {"whole": 48, "first layers": 208, "first layers, two engines": 256}
LONG = {"whole": [], "first layers": [700, 1500], "first layers, two engines": [700, 1500]}
CALLERS = {"whole": 8, "first layers": 8, "first layers, two engines": 16}
CHOICES: list[dict[str, object]] = [
    {},
    {"repetition_penalty": 1.2},
    {"min_new_tokens": 6, "repetition_penalty": 0.9},
    {"stop": ["the", "\n"]},
    {"do_sample": True},
    {"temperature": 0.7, "top_k": 50, "top_p": 0.9},
    {"top_p": 0.8},
    {"top_k": 5, "repetition_penalty": 1.1, "min_new_tokens": 4},
    {"presence_penalty": 1.5, "frequency_penalty": 0.7},
    {"do_sample": True, "min_p": 0.05, "frequency_penalty": -0.3},
    {"do_sample": True, "typical_p": 0.8, "temperature": 1.2},
    {"logit_bias": {"260": 4.0, "28": -100}, "stop_token_ids": [30], "min_new_tokens": 2},
]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("model", REQUESTS)
def test_mixed_requests_in_random_order_equal_their_alone_runs(
    model: str,
    served: EndpointState,
    start: Callable[..., EndpointState],
    weights: Path,
    small_weights: Path,
    tmp_path: Path,
    figure: Callable[[str], None],
) -> None:
    """Half of the answers of two engines are streamed."""
    state, folder = served, weights
    if model != "whole":
        preset, name, folder = "smollm2-135m-local", "first-layers", small_weights
        if "two engines" in model:
            preset, name = write_preset(tmp_path, engines=2), "first-layers-twice"
        state = start(preset, name=name, weights=folder)
    caller = EndpointCaller(state)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rng = random.Random(5)
    requests = _requests(tokenizer, rng, REQUESTS[model], LONG[model])

    def answer(request: tuple[str, dict[str, object], float]) -> Any:
        text, parameters, pause_s = request
        time.sleep(pause_s)  # an arrival pattern, nothing is waited for
        if "two engines" in model and len(text) % 2:
            return streamed(caller, text, parameters)
        return caller.generate(text, details=True, **parameters)[0]

    with ThreadPoolExecutor(CALLERS[model]) as pool:
        answers = list(pool.map(answer, requests))
    reference = ReferenceModel(folder, [tokenizer.eos_token_id])
    prompts = [tokenizer(text)["input_ids"] for text, _, _ in requests]
    texts = [[token["id"] for token in result["details"]["tokens"]] for result in answers]
    logits = _compute_logits(reference, list(zip(prompts, texts, strict=True)))
    tied: set[int] = set()
    for index, ((_, values, _), result) in enumerate(zip(requests, answers, strict=True)):
        prompt, new = prompts[index], texts[index]
        parameters, _warnings = parse_parameters(values)
        logprobs = [token["logprob"] for token in result["details"]["tokens"]]
        ties = reference.count_near_ties(prompt, new, parameters, logprobs, logits[index])
        context = prompt[-4:]
        # A stop id has no text, like an end-of-sequence token.
        shown = new[:-1] if new[-1] in parameters.stop_token_ids else new
        whole = tokenizer.decode([*context, *shown], skip_special_tokens=True)
        written = whole[len(tokenizer.decode(context)) :]
        if result["details"]["finish_reason"] == "stop_sequence" and parameters.stop:
            starts = [written.find(stop) for stop in parameters.stop]
            written = written[: min(start for start in starts if start >= 0)]
        assert result["generated_text"] == written
        tied |= {index} if ties else set()
    tokens = sum(map(len, texts))
    figure(
        f"exactness, {model}: {len(requests)} requests of 1 to {max(map(len, prompts)):,} tokens, greedy and "
        f"seeded, {CALLERS[model]} callers: {tokens} tokens, {len(requests) - len(tied)} texts as alone, "
        f"{len(tied)} with a proven near-tie"
    )
    assert len(tied) <= len(requests) / 32, "so many ties are no accident"
    if "two engines" in model:
        assert min(count_finished(state).values()) > len(requests) / 3, "both engines had a share of them"
    again = rng.sample(range(len(requests)), 6)
    for index in again:
        alone = answer((*requests[index][:2], 0.0))
        if alone["generated_text"] != answers[index]["generated_text"]:
            new = [token["id"] for token in alone["details"]["tokens"]]
            prompt = tokenizer(requests[index][0])["input_ids"]
            ties = reference.count_near_ties(prompt, new, parse_parameters(requests[index][1])[0])
            assert ties or index in tied


def write_preset(folder: Path, *, engines: int) -> str:
    """The local preset with so many engines, in a file."""
    preset = inf2kit.load_preset("smollm2-135m-local")
    compute = replace(preset.compute, data_parallel_size=engines)
    path = folder / "engines.toml"
    path.write_text(toml.dumps(replace(preset, compute=compute).to_dict()), encoding="utf-8")
    return str(path)


def streamed(caller: EndpointCaller, text: str, parameters: dict[str, object]) -> Any:
    """A stream's tokens and end, as a whole answer has them."""
    events = caller.stream(text, **parameters)
    details = {**events[-1]["details"], "tokens": [event["token"] for event in events]}
    return {"generated_text": events[-1]["generated_text"], "details": details}


def count_finished(state: EndpointState) -> dict[str, float]:
    """The texts that each engine has ended, by its number."""
    connection = http.client.HTTPConnection("127.0.0.1", state.gateway_port, timeout=PATIENCE_S)
    connection.request("GET", "/metrics")
    samples = parse_engine_samples(connection.getresponse().read().decode())
    connection.close()
    return {
        engine: value for (name, engine), value in samples.items() if name == "inf2kit_finished_texts_total"
    }


def _compute_logits(reference: ReferenceModel, texts: list[tuple[list[int], list[int]]]) -> list[Any]:
    """The logits of all new tokens, computed for eight texts of similar length at once."""
    order = sorted(range(len(texts)), key=lambda index: len(texts[index][0]) + len(texts[index][1]))
    logits: dict[int, Any] = {}
    for start in range(0, len(order), 8):
        batch = order[start : start + 8]
        logits |= zip(batch, reference.compute_logits([texts[index] for index in batch]), strict=True)
    return [logits[index] for index in range(len(texts))]


def _requests(
    tokenizer: Any, rng: random.Random, count: int, long: list[int]
) -> list[tuple[str, dict[str, object], float]]:
    """Text, parameters and a pause, in random order; nine of ten are shorter than 30 tokens."""
    words = [word for word in Path(__file__).read_text(encoding="utf-8").split() if word.isalpha()]
    lengths = [*long, *(rng.randint(1, 30) for _ in range(count * 9 // 10))]
    lengths += [rng.randint(60, 300) for _ in range(count - len(lengths))]
    requests = []
    for index, length in enumerate(lengths):
        ids: list[int] = []
        while len(ids) < length:
            ids += tokenizer(" " + rng.choice(words) + f" {rng.randrange(100)}")["input_ids"]
        parameters = {
            "max_new_tokens": rng.choice([1, 2, 4, 8, 16]),
            "ignore_eos": rng.random() < 0.3,
            **CHOICES[index % len(CHOICES)],
        }
        if any(key in parameters for key in ("do_sample", "temperature", "top_k", "top_p", "min_p")):
            parameters["seed"] = rng.randrange(2**32)
        requests.append((tokenizer.decode(ids[:length]), parameters, rng.choice([0.0, 0.0, 0.05, 0.3])))
    rng.shuffle(requests)
    return requests
