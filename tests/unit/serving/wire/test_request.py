"""Requests: what is accepted, what is refused and what is named in a warning."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inf2kit.errors import RequestError
from inf2kit.serving.wire import Chat, decode_body, drop_ignored_values, parse_request

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["max_new_tokens", "temperature", "top_k", "top_p", "stop", "seed", "details", "x"])


def test_openai_leftovers_are_named() -> None:
    body = {"messages": [{"role": "user", "content": "x"}], "user": None, "sagemaker_base_url": "x"}
    warnings = parse_request(body, max_prompts=1).warnings
    assert len(warnings) == 1
    assert "'sagemaker_base_url'" in warnings[0]


def test_a_body_full_of_unknown_keys_gets_a_few_short_warnings() -> None:
    unknown: dict[str, object] = {f"{n}" + "x" * 10_000: n for n in range(10_000)}
    request = parse_request({"inputs": "x", "parameters": unknown, **unknown}, max_prompts=1)
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
    (chat,) = parse_request({"messages": messages}, max_prompts=1).prompts
    assert isinstance(chat, Chat)
    assert [message["content"] for message in chat.messages] == ["", ""]


@pytest.mark.parametrize("question", [{"inputs": "x"}, {"messages": [{"role": "user", "content": "x"}]}])
def test_the_request_says_whether_it_streams(question: dict[str, object]) -> None:
    for value, expected in ((True, True), (False, False), (None, False)):
        assert parse_request({**question, "stream": value}, max_prompts=1).stream is expected
    assert parse_request(question, max_prompts=1).stream is False
    for value in ("true", 1, []):
        with pytest.raises(RequestError, match=r"'stream' is .*; it must be true or false"):
            parse_request({**question, "stream": value}, max_prompts=1)


def test_a_stream_takes_one_text() -> None:
    assert parse_request({"inputs": ["x"], "stream": True}, max_prompts=2).stream
    with pytest.raises(RequestError, match="'stream' takes one text, 'inputs' has 2"):
        parse_request({"inputs": ["x", "y"], "stream": True}, max_prompts=2)


def test_values_of_ignored_keys_are_dropped_and_the_request_stays_the_same() -> None:
    large = "x" * 10_000
    message = {"role": "user", "content": "hello", "name": large}
    for body in (
        {"inputs": "hello", "parameters": {"top_k": 3, "unknown": large}, "unknown": large, "stream": True},
        {"messages": [message], "max_tokens": 3, "stop": None, "tools": large, "stream_options": None},
    ):
        request = parse_request(body, max_prompts=1)
        slim = drop_ignored_values(body, request)
        assert len(json.dumps(slim)) < 500
        assert parse_request(slim, max_prompts=1) == request


@given(st.binary(max_size=64))
def test_any_bytes_give_a_value_or_a_request_error(body: bytes) -> None:
    try:
        decode_body(body, "application/json")
    except RequestError as error:
        assert error.status in (400, 415)


@given(st.dictionaries(NAMES, JSON_VALUES, max_size=4))
def test_any_parameters_give_a_value_or_a_request_error(parameters: dict[str, object]) -> None:
    try:
        parse_request({"inputs": "x", "parameters": parameters}, max_prompts=1)
    except RequestError as error:
        assert error.status == 422


@given(JSON_VALUES)
def test_any_body_gives_a_value_or_a_request_error(body: object) -> None:
    for payload in (body, {"inputs": body}, {"messages": body}, {"messages": [body]}):
        try:
            parse_request(payload, max_prompts=1)
        except RequestError as error:
            assert error.status in (400, 422)
