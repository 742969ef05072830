"""Every option has an effect on the answer, or is a no-op by its definition: none is taken and dropped."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import pytest

from inf2kit.rehearsal.local.state import EndpointState
from inf2kit.serving.wire import Parameters
from tests.helpers.local_endpoint import EndpointCaller

PROMPTS = ("Once upon a time", "The sea")
SEEDS = (1, 2, 3)
#: With a bias of 100 only these tokens are ever chosen, so that a text repeats itself and penalties show.
FEW_TOKENS: dict[str, Any] = {"logit_bias": {str(token_id): 100 for token_id in range(500, 520)}}
END_OF_SEQUENCE = "2"


@dataclass(frozen=True)
class Effect:
    """What an option does.

    Attributes:
        changed: Values that change the answer.
        unchanged: Values that change nothing, by the option's definition.
        base: The other options of the request.
        body: Other keys of the body.
    """

    changed: tuple[object, ...]
    unchanged: tuple[object, ...] = ()
    base: dict[str, object] = field(default_factory=dict)


SAMPLED: dict[str, object] = {"do_sample": True}
FIRST_TOKEN_ENDS: dict[str, object] = {**SAMPLED, "logit_bias": {END_OF_SEQUENCE: 100}}

EFFECTS: dict[str, Effect] = {
    "max_new_tokens": Effect((1, 5, "5"), (12,)),
    "min_new_tokens": Effect((3, 12), (0,), FIRST_TOKEN_ENDS),
    "ignore_eos": Effect((True, "true"), (False,), {**FIRST_TOKEN_ENDS, "details": "counts"}),
    "do_sample": Effect((True,), (False, None)),
    "temperature": Effect((0, 0.1, 2.0, 100.0, "0.1"), (1, 1.0, None), SAMPLED),
    "top_k": Effect((1, 3, 50), (0, -1, 10**9, None), SAMPLED),
    "top_p": Effect((0, 0.01, 0.2, 0.5), (1, 1.0, None), SAMPLED),
    "min_p": Effect((0.5, 1.0), (0, None), SAMPLED),
    "typical_p": Effect((0.01, 0.2), (1.0, None), SAMPLED),
    "repetition_penalty": Effect((0.5, 10), (1, None), {**SAMPLED, **FEW_TOKENS}),
    "presence_penalty": Effect((-2, 2), (0, None), {**SAMPLED, **FEW_TOKENS, "max_new_tokens": 40}),
    "frequency_penalty": Effect((-2, 2), (0, None), {**SAMPLED, **FEW_TOKENS, "max_new_tokens": 40}),
    "logit_bias": Effect(({"500": 100}, {"500": 20.5}), ({}, {"500": 0}, None), SAMPLED),
    "seed": Effect((5, -5, 2**63 - 1), (), SAMPLED),
    "overflow": Effect(("sinks",), ("stop", None), {"max_new_tokens": 300, "ignore_eos": True}),
    "truncate": Effect((1, 2), (100, None)),
    "n": Effect((2, 3), (1, None), SAMPLED),
    "return_full_text": Effect((True,), (False, None)),
    "details": Effect((True, "counts"), (False, None)),
    "top_n_tokens": Effect((1, 3), (0, None), {"details": True}),
    "decoder_input_details": Effect((True,), (False, None), {"details": True}),
}
#: Options whose values depend on the text, and an option of another form; each has a test of its own below.
OTHERS = {"stop", "stop_token_ids", "include_stop_str_in_output", "logprobs"}


@pytest.fixture
def caller(eager: EndpointState) -> EndpointCaller:
    """boto3 for the endpoint that takes no time."""
    return EndpointCaller(eager)


def answers(caller: EndpointCaller, options: dict[str, object]) -> list[Any]:
    """The answers to all prompts, with several seeds unless the options have one."""
    seeds = [options["seed"]] if "seed" in options else SEEDS
    bodies = [
        {"inputs": prompt, "parameters": {"max_new_tokens": 12, **options, "seed": seed}}
        for prompt in PROMPTS
        for seed in seeds
    ]
    return [[without_warnings(item) for item in caller.invoke(body)] for body in bodies]


def without_warnings(item: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in item.items() if key != "warnings"}


def test_every_option_is_in_the_table() -> None:
    assert EFFECTS.keys() | OTHERS == {option.name for option in fields(Parameters)}


@pytest.mark.parametrize("name", EFFECTS)
def test_an_option_has_its_effect(caller: EndpointCaller, name: str) -> None:
    effect = EFFECTS[name]
    before = answers(caller, effect.base)
    for value in effect.unchanged:
        assert answers(caller, {**effect.base, name: value}) == before, f"{name}={value!r} is a no-op"
    seen = [before]
    for value in effect.changed:
        after = answers(caller, {**effect.base, name: value})
        assert after != before, f"{name}={value!r} has no effect"
        seen.append(after)


def test_stops_end_the_text_where_they_appear(caller: EndpointCaller) -> None:
    ((whole,),) = answers(caller, {**SAMPLED, "seed": 1, "details": True})[:1]
    text, tokens = whole["generated_text"], whole["details"]["tokens"]
    stop = text[8:11]
    ((stopped,),) = answers(caller, {**SAMPLED, "seed": 1, "stop": [stop]})[:1]
    assert stopped["generated_text"] == text[: text.index(stop)]
    ((with_stop,),) = answers(
        caller, {**SAMPLED, "seed": 1, "stop": stop, "include_stop_str_in_output": True}
    )[:1]
    assert with_stop["generated_text"] == text[: text.index(stop) + len(stop)]
    ((by_id,),) = answers(
        caller, {**SAMPLED, "seed": 1, "stop_token_ids": [tokens[4]["id"]], "details": True}
    )[:1]
    assert [token["id"] for token in by_id["details"]["tokens"]] == [token["id"] for token in tokens[:5]]
    assert by_id["details"]["finish_reason"] == "stop_sequence"


def test_logprobs_are_in_a_chat_that_asks_for_them(caller: EndpointCaller) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3, "seed": 1}
    for more, tops in (({}, None), ({"logprobs": True}, 0), ({"logprobs": True, "top_logprobs": 2}, 2)):
        (choice,) = caller.invoke({**body, **more})["choices"]
        if tops is None:
            assert choice["logprobs"] is None
            continue
        content = choice["logprobs"]["content"]
        assert len(content) == 3
        assert [len(token["top_logprobs"]) for token in content] == [tops] * 3
        assert "".join(token["token"] for token in content) == choice["message"]["content"]
