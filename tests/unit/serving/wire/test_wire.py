"""The schema, both ways."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inf2kit.errors import RequestError
from inf2kit.serving.wire import Generation, Token, Writer, decode_body, parse_request
from inf2kit.serving.wire.parameters import DEFAULT_MAX_NEW_TOKENS, parse_parameters

LAST = Token(2, "", -0.5, special=True)
DONE = Generation("Hi!", "", "eos_token", 5, 3)


def test_sampling_is_implied_by_its_parameters() -> None:
    assert not parse_parameters({})[0].do_sample
    assert parse_parameters({"temperature": 0.7})[0].do_sample
    assert parse_parameters({"top_k": 5})[0].do_sample
    assert not parse_parameters({"temperature": 0})[0].do_sample
    parameters, warnings = parse_parameters({"do_sample": False, "top_p": 0.5})
    assert not parameters.do_sample
    assert warnings == ["do_sample is false, so top_p had no effect"]


def test_lengths_by_default() -> None:
    assert parse_parameters({})[0].max_new_tokens == DEFAULT_MAX_NEW_TOKENS
    chat = parse_request({"messages": [{"role": "user", "content": "x"}]}, max_prompts=1)
    assert chat.parameters.max_new_tokens is None, "a chat goes on as long as the row allows"
    bounded = parse_request({"messages": [{"role": "user", "content": "x"}], "max_tokens": 7}, max_prompts=1)
    assert bounded.parameters.max_new_tokens == 7


def test_openai_leftovers_are_named() -> None:
    body = {"messages": [{"role": "user", "content": "x"}], "n": 2, "user": None, "sagemaker_base_url": "x"}
    warnings = parse_request(body, max_prompts=1).warnings
    assert len(warnings) == 2
    assert "'n'" in warnings[0]
    assert "'sagemaker_base_url'" in warnings[1]


def test_a_body_full_of_unknown_keys_gets_a_few_short_warnings() -> None:
    strays: dict[str, object] = {f"{n}" + "x" * 10_000: n for n in range(10_000)}
    request = parse_request({"inputs": "x", "parameters": strays, **strays}, max_prompts=1)
    assert len(request.warnings) == 18
    assert sum(map(len, request.warnings)) < 3000
    assert request.warnings[-1] == "9992 more unknown keys were ignored"


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON; charset=UTF-8",
        "application/json; odata=verbose; charset='utf-8'",
        None,
    ],
)
def test_content_types_that_mean_json(content_type: str | None) -> None:
    assert decode_body(b"{}", content_type) == {}


def test_turns_without_content_are_taken_as_clients_send_them_back() -> None:
    messages = [{"role": "system", "content": ""}, {"role": "assistant", "content": None}]
    assert [m["content"] for m in parse_request({"messages": messages}, max_prompts=1).messages] == ["", ""]


@given(st.binary(max_size=64))
def test_any_bytes_give_a_value_or_a_request_error(body: bytes) -> None:
    try:
        decode_body(body, "application/json")
    except RequestError as error:
        assert error.status in (400, 415)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["max_new_tokens", "temperature", "top_k", "top_p", "stop", "seed", "details", "x"])


@given(st.dictionaries(NAMES, JSON_VALUES, max_size=4))
def test_any_parameters_give_a_value_or_a_request_error(given_parameters: dict[str, object]) -> None:
    try:
        parse_request({"inputs": "x", "parameters": given_parameters}, max_prompts=1)
    except RequestError as error:
        assert error.status == 422


@given(JSON_VALUES)
def test_any_body_gives_a_value_or_a_request_error(body: object) -> None:
    for payload in (body, {"inputs": body}, {"messages": body}, {"messages": [body]}):
        try:
            parse_request(payload, max_prompts=1)
        except RequestError as error:
            assert error.status in (400, 422)


def test_answers_in_the_form_of_text_generation_inference() -> None:
    answer = Writer("tgi", details=True).body([Generation("b", "a", "length", 1, 1, tokens=(LAST,))])
    assert answer == [
        {
            "generated_text": "ab",
            "details": {
                "finish_reason": "length",
                "generated_tokens": 1,
                "input_length": 1,
                "seed": None,
                "prefill": [],
                "tokens": [{"id": 2, "text": "", "logprob": -0.5, "special": True}],
            },
        }
    ]


def test_events_of_text_generation_inference() -> None:
    writer = Writer("tgi", warnings=("w",))
    assert writer.first_records() == []
    (middle,) = writer.token_records(1, Token(5, "Hi", None, False))
    (last,) = writer.last_records(3, LAST, DONE)
    assert middle.endswith(b"\n\n")
    assert json.loads(middle[6:])["generated_text"] is None
    value = json.loads(last[6:])
    assert (value["generated_text"], value["details"]["finish_reason"]) == ("Hi!", "eos_token")
    assert value["warnings"] == ["w"]


def test_events_of_openai() -> None:
    writer = Writer("openai", include_usage=True, model="m")
    records = writer.first_records() + writer.token_records(1, Token(5, "Hi", None, False))
    *records, end = records + writer.last_records(3, Token(2, "!", None, False), DONE)
    assert end == b"data: [DONE]\n\n"
    assert all(record.count(b"\n\n") == 1 for record in records), "one record each"
    chunks = [json.loads(record[6:]) for record in records]
    assert len({chunk["id"] for chunk in chunks}) == 1
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks[:-1]]
    assert deltas == [{"role": "assistant", "content": ""}, {"content": "Hi"}, {"content": "!"}, {}]
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert (chunks[-1]["choices"], chunks[-1]["usage"]["total_tokens"]) == ([], 8)
