"""Requests of the three schemas: what is accepted, what is refused and what is named in a warning."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inf2kit.errors import RequestError
from inf2kit.serving.wire import Form, check_form, drop_ignored_values, parse_request, request_form
from inf2kit.serving.wire.option import FORMS
from inf2kit.serving.wire.options import TABLES

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from([*TABLES["tgi"], *TABLES["chat"], "x"])
MESSAGE = {"role": "user", "content": "x"}
QUESTIONS: list[dict[str, Any]] = [{"inputs": "x"}, {"messages": [MESSAGE]}, {"prompt": "x"}]


def test_openai_leftovers_are_named() -> None:
    body = {"messages": [MESSAGE], "unheard_of": None, "sagemaker_base_url": "x"}
    (warning,) = parse_request(body, max_prompts=1).warnings
    assert "'sagemaker_base_url'" in warning


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_misspelt_option_is_named_with_a_suggestion(question: dict[str, Any]) -> None:
    (warning,) = parse_request({**question, "temprature": 1}, max_prompts=1).warnings
    assert "did you mean 'temperature'?" in warning


def test_misspelt_parameters_are_named_with_a_suggestion() -> None:
    (warning,) = parse_request({"inputs": "x", "Parameters": {"seed": 1}}, max_prompts=1).warnings
    assert "did you mean 'parameters'?" in warning


def test_a_body_full_of_unknown_keys_gets_a_few_short_warnings() -> None:
    unknown: dict[str, object] = {f"{n}" + "x" * 10_000: n for n in range(10_000)}
    messages = [
        {**MESSAGE, **unknown},
        {"role": "user", "content": [{"type": "text", "text": "x", **unknown}]},
    ]
    for body in (
        {"inputs": "x", "parameters": unknown, **unknown},
        {"messages": messages, **unknown},
        {"inputs": messages, "parameters": unknown},
    ):
        request = parse_request(body, max_prompts=1)
        assert len(request.warnings) <= 18
        assert sum(map(len, request.warnings)) < 3000
        assert request.warnings[8].endswith(" more unknown keys were ignored")


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_request_says_whether_it_streams(question: dict[str, object]) -> None:
    for value, expected in ((True, True), (False, False), (None, False), ("true", True), ("False", False)):
        assert parse_request({**question, "stream": value}, max_prompts=1).stream is expected
    assert parse_request(question, max_prompts=1).stream is False
    for value in ("yes", 1, []):
        with pytest.raises(RequestError, match=r"'stream' is .*; it must be true or false"):
            parse_request({**question, "stream": value}, max_prompts=1)


def test_a_stream_of_inputs_takes_one_text() -> None:
    assert parse_request({"inputs": ["x"], "stream": True}, max_prompts=2).stream
    with pytest.raises(RequestError, match="'stream' takes one text, and this call has 2"):
        parse_request({"inputs": ["x", "y"], "stream": True}, max_prompts=2)
    request = parse_request({"prompt": ["x", "y"], "n": 2, "stream": True, "temperature": 1}, max_prompts=4)
    assert (request.stream, request.texts) == (True, 4)


@pytest.mark.parametrize(
    ("body", "form"),
    [
        ({"inputs": 5}, "tgi"),
        ({"messages": []}, "chat"),
        ({"prompt": None}, "completion"),
        ({"messages": [], "prompt": None}, "chat"),
        ({"messages": [], "inputs": "x"}, None),
        ({}, None),
        ([], None),
    ],
)
def test_the_form_is_known_before_the_body_is_valid(body: object, form: Form | None) -> None:
    assert request_form(body) == form


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": "x", "max_new_tokens": 5},
        {"inputs": "x", "parameters": {"max_tokens": 5}},
        {"messages": [MESSAGE], "parameters": {"max_new_tokens": 5}},
        {"prompt": "x", "parameters": {"max_new_tokens": 5}},
        {"inputs": "x", "parameters": {"max_new_tokens": 5, "stream": False}, "stream": None},
    ],
)
def test_an_option_is_an_option_wherever_it_stands(body: dict[str, Any]) -> None:
    request = parse_request(body, max_prompts=1)
    assert (request.parameters.max_new_tokens, request.warnings) == (5, ())
    with pytest.raises(RequestError, match="two values"):
        parse_request({**body, "max_tokens": 6}, max_prompts=1)


@pytest.mark.parametrize(
    ("form", "body", "code"),
    [
        ("chat", {"messages": [MESSAGE]}, None),
        ("chat", {"messages": [MESSAGE], "prompt": None, "inputs": None}, None),
        ("chat", {"messages": None}, None),
        ("completion", {"prompt": "x"}, None),
        ("chat", {"prompt": "x"}, "invalid_body"),
        ("chat", {"messages": [MESSAGE], "inputs": ""}, "invalid_body"),
        ("completion", {"messages": [MESSAGE]}, "invalid_body"),
        ("completion", {"model": "m"}, "missing_inputs"),
        ("chat", [], "invalid_body"),
        ("chat", None, "invalid_body"),
    ],
)
def test_a_route_of_openais_takes_its_own_schema(form: Form, body: object, code: str | None) -> None:
    if code is None:
        check_form(body, form)
        return
    with pytest.raises(RequestError) as refused:
        check_form(body, form)
    assert (refused.value.status, refused.value.code) == (400, code)


@pytest.mark.parametrize(
    ("prompt", "count"), [("x", 1), (["x"], 1), (["x", "y"], 2)], ids=["text", "list of one", "list"]
)
def test_completions(prompt: object, count: int) -> None:
    request = parse_request({"prompt": prompt, "model": "any", "n": 2, "temperature": 1}, max_prompts=4)
    assert (request.form, len(request.prompts), request.texts) == ("completion", count, 2 * count)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"prompt": [1, 2, 3]}, "invalid_inputs"),
        ({"prompt": [[1, 2], [3]]}, "invalid_inputs"),
        ({"prompt": None}, "invalid_inputs"),
        ({"prompt": ""}, "empty_inputs"),
        ({"prompt": []}, "empty_inputs"),
        ({"prompt": ["x"] * 9}, "too_many_inputs"),
        ({"prompt": "a\ud800"}, "invalid_unicode"),
        ({"prompt": "x", "n": 9}, "too_many_inputs"),
        ({"inputs": ["x"] * 5, "parameters": {"n": 2}}, "too_many_inputs"),
        ({"messages": [MESSAGE], "n": 10**30}, "too_many_inputs"),
        ({"inputs": [[MESSAGE]] * 9}, "too_many_inputs"),
        ({"inputs": "x", "parameters": [1]}, "invalid_parameter"),
    ],
    ids=str,
)
def test_prompts_that_are_refused(body: dict[str, Any], code: str) -> None:
    with pytest.raises(RequestError) as refused:
        parse_request(body, max_prompts=8)
    assert (refused.value.status, refused.value.code) == (422, code)


def test_faults_of_prompts_and_options_come_together() -> None:
    body = {"inputs": ["", 5], "parameters": {"top_p": 2, "best_of": 3}, "stream": "maybe"}
    with pytest.raises(RequestError) as refused:
        parse_request(body, max_prompts=8)
    for part in (
        "5 faults",
        "inputs[0]",
        "inputs[1]",
        "'top_p' is 2",
        "'best_of' is 3",
        "'stream' is 'maybe'",
    ):
        assert part in str(refused.value)


@pytest.mark.parametrize("size", [1, 70_000])
def test_values_of_ignored_keys_are_dropped_and_the_request_stays_the_same(size: int) -> None:
    large = "x" * size
    junk = {"unknown": large, "user": large, "metadata": {"a": large}}
    message = {"role": "user", "content": [{"type": "text", "text": "hello", **junk}], "refusal": large}
    options = {"top_k": 3, "stop": None, "logit_bias": {"5": 1}, "best_of": 1, "n": 1, **junk}
    bodies: list[dict[str, Any]] = [
        {"inputs": "hello", "parameters": options, **junk, "stream": True},
        {"inputs": [message], "parameters": options, **junk},
        {"inputs": [[message], [message], "hello"], "parameters": options, **junk},
        {"messages": [message], **options, "tools": [], "stream_options": {"include_usage": True}},
        {"prompt": ["hello"], **options, "logprobs": 2, "suffix": None},
    ]
    for body in bodies:
        request = parse_request(body, max_prompts=3)
        slim = drop_ignored_values(body, request)
        assert len(json.dumps(slim)) < 900
        assert parse_request(slim, max_prompts=3) == request


@pytest.mark.parametrize("form", FORMS)
def test_no_option_that_is_read_is_dropped(form: Form) -> None:
    """A large body is read three times, the last two times without the values that nothing reads."""
    question = QUESTIONS[FORMS.index(form)]
    for name, entry in TABLES[form].items():
        payload = {**question, name: "value"}
        try:
            request = parse_request(payload, max_prompts=1)
        except RequestError:
            request = parse_request(question, max_prompts=1)
        slim = drop_ignored_values(payload, request)
        assert slim[name] == ("value" if entry else True), name


@given(st.dictionaries(NAMES, JSON_VALUES, max_size=4), st.sampled_from(QUESTIONS))
def test_any_options_give_a_value_or_a_request_error(
    options: dict[str, Any], question: dict[str, Any]
) -> None:
    for body in ({**question, **options}, {**question, "parameters": options}):
        try:
            request = parse_request(body, max_prompts=2)
        except RequestError as error:
            assert error.status == 422
        else:
            slim = drop_ignored_values(body, request)
            assert parse_request(slim, max_prompts=2) == request


@given(JSON_VALUES)
def test_any_body_gives_a_value_or_a_request_error(body: object) -> None:
    payloads = [
        body,
        {"inputs": body},
        {"messages": body},
        {"messages": [body]},
        {"prompt": body},
        {"inputs": [body]},
    ]
    for payload in payloads:
        try:
            parse_request(payload, max_prompts=1)
        except RequestError as error:
            assert error.status in (400, 422)
