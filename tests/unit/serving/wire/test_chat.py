"""Chats, in the schema of OpenAI and as ``inputs``: what reaches the chat template."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inf2kit.errors import RequestError
from inf2kit.serving.wire import Chat, GenerateRequest, parse_request

USER = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "get_time", "arguments": '{"zone": "UTC"}'}}


def parse(messages: object, **options: object) -> GenerateRequest:
    return parse_request({"messages": messages, **options}, max_prompts=4)


def chat_of(request: GenerateRequest) -> Chat:
    return cast("Chat", request.prompts[0])


def test_turns_without_content_are_taken_as_clients_send_them_back() -> None:
    chat = chat_of(parse([{"role": "system", "content": ""}, {"role": "assistant", "content": None}]))
    assert [message["content"] for message in chat.messages] == ["", ""]


def test_a_call_of_a_tool_reaches_the_template_when_its_turn_has_no_content_at_all() -> None:
    chat = chat_of(parse([USER, {"role": "assistant", "tool_calls": [CALL]}]))
    (call,) = cast("Any", chat.messages[1]["tool_calls"])
    assert call["function"]["arguments"] == {"zone": "UTC"}
    assert parse([{"role": "assistant", "mood": "good"}]).warnings == (
        "unknown key 'messages[0].mood' was ignored",
    )


@pytest.mark.parametrize(
    ("inputs", "chats"),
    [
        ([USER], 1),
        ([[USER]], 1),
        ([[USER], [{"role": "system", "content": "be brief"}, USER]], 2),
        ([[USER], "a text"], 1),
    ],
)
def test_inputs_may_be_chats(inputs: list[Any], chats: int) -> None:
    request = parse_request({"inputs": inputs, "parameters": {"max_new_tokens": 3}}, max_prompts=4)
    assert request.form == "tgi"
    assert request.parameters.max_new_tokens == 3
    assert request.warnings == ()
    assert sum(isinstance(prompt, Chat) for prompt in request.prompts) == chats
    assert chat_of(request) == Chat((USER,))


def test_the_default_length_of_a_chat_in_inputs_is_that_of_inputs() -> None:
    assert parse_request({"inputs": [USER]}, max_prompts=1).parameters.max_new_tokens == 100


@pytest.mark.parametrize(
    ("inputs", "code"),
    [
        ([{"content": "x"}], "invalid_messages"),
        ([[{"role": "user"}]], "invalid_inputs"),
        ([[{"role": "king", "content": "x"}]], "invalid_messages"),
        ([[]], "invalid_messages"),
        (["a", {}], "invalid_inputs"),
        ([["a"]], "invalid_messages"),
        ({"role": "user", "content": "x"}, "invalid_inputs"),
    ],
)
def test_what_is_neither_text_nor_chat(inputs: object, code: str) -> None:
    with pytest.raises(RequestError) as refused:
        parse_request({"inputs": inputs}, max_prompts=4)
    assert (refused.value.status, refused.value.code) == (422, code)


def test_a_chat_has_no_full_text() -> None:
    with pytest.raises(RequestError, match="new turn"):
        parse_request({"inputs": [USER], "parameters": {"return_full_text": True}}, max_prompts=1)


@pytest.mark.parametrize("where", ["messages", "inputs"])
def test_options_of_the_template_reach_it(where: str) -> None:
    answer = {"role": "assistant", "content": "The time is"}
    body = {
        where: [USER, answer],
        "continue_final_message": True,
        "chat_template_kwargs": {"enable_thinking": False},
        "tools": [TOOL],
        "tool_choice": "auto",
    }
    request = parse_request(body, max_prompts=1)
    chat = chat_of(request)
    assert (chat.continue_final_message, chat.add_generation_prompt) == (True, False)
    assert chat.template_options == {"enable_thinking": False}
    assert chat.tools == (TOOL,)
    (warning,) = request.warnings
    assert "calls in the answer are not parsed" in warning


def test_no_generation_prompt() -> None:
    assert not chat_of(parse([USER], add_generation_prompt=False)).add_generation_prompt
    assert chat_of(
        parse([USER], add_generation_prompt=False, continue_final_message=True)
    ).continue_final_message
    with pytest.raises(RequestError, match="exclude each other"):
        parse([USER], add_generation_prompt=True, continue_final_message=True)


@pytest.mark.parametrize(
    ("options", "usage"),
    [
        ({}, "none"),
        ({"include_usage": True}, "last"),
        ({"include_usage": True, "continuous_usage_stats": True, "include_obfuscation": True}, "all"),
        ({"include_usage": True, "continuous_usage_stats": None}, "last"),
        ({"continuous_usage_stats": True}, "none"),
    ],
)
def test_which_chunks_of_a_stream_have_counts(options: dict[str, object], usage: str) -> None:
    assert parse([USER], stream=True, stream_options=options).usage == usage


@pytest.mark.parametrize(
    "options",
    [
        {"chat_template_kwargs": {"tokenize": True}},
        {"chat_template_kwargs": {"self": 1}},
        {"chat_template_kwargs": {"messages": []}},
        {"chat_template_kwargs": ["x"]},
        {"chat_template_kwargs": {"a": "\ud800"}},
        {"tools": [{"type": "function"}]},
        {"tools": {"name": "x"}},
        {"tools": [TOOL] * 500},
        {"tools": [{"type": "function", "function": {"name": "\ud800"}}]},
        {"stream_options": {"include_usage": "perhaps"}},
        {"stream_options": 5},
        {"stream_options": {"include_usage": True, "foo": 1}},
        {"stream_options": {"include_usage": True, "continuous_usage_stats": "perhaps"}},
    ],
    ids=lambda options: str(options)[:40],
)
def test_options_of_the_template_that_are_refused(options: dict[str, object]) -> None:
    (name,) = options
    with pytest.raises(RequestError, match=f"'{name}' is"):
        parse([USER], **options)


@pytest.mark.parametrize(
    "options",
    [
        {"tools": [TOOL]},
        {"continue_final_message": True},
        {"add_generation_prompt": False},
        {"chat_template_kwargs": {"enable_thinking": False}},
    ],
    ids=lambda options: next(iter(options)),
)
@pytest.mark.parametrize("inputs", ["x", ["x"], [[USER], "x"]])
def test_a_text_has_no_template(inputs: object, options: dict[str, object]) -> None:
    with pytest.raises(RequestError, match="is for chats") as refused:
        parse_request({"inputs": inputs, "parameters": options}, max_prompts=4)
    assert [refused.value.param] == list(options)


def test_calls_and_their_results_reach_the_template() -> None:
    messages = [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "name": "get_time", "content": "12:00"},
    ]
    request = parse(messages)
    _, call, result = chat_of(request).messages
    assert call["content"] == ""
    # OpenAI's arguments are a text; templates write an object.
    expected = {**CALL, "function": {"name": "get_time", "arguments": {"zone": "UTC"}}}
    assert call["tool_calls"] == [expected]
    assert result == {"role": "tool", "content": "12:00", "tool_call_id": "c1", "name": "get_time"}
    assert request.warnings == ()


@pytest.mark.parametrize(
    "call", ["x", {}, {"function": {"name": 5}}, {"function": {"name": "f", "arguments": "{"}}]
)
def test_calls_that_are_refused(call: object) -> None:
    with pytest.raises(RequestError, match=r"messages\[0\]\.tool_calls") as refused:
        parse([{"role": "assistant", "content": None, "tool_calls": [call]}])
    assert refused.value.code == "invalid_messages"


def test_what_a_client_sends_back_passes_and_what_is_unknown_is_named() -> None:
    sent_back = {
        "role": "assistant",
        "content": "Hello",
        "refusal": None,
        "annotations": [],
        "audio": None,
        "function_call": None,
        "tool_calls": None,
    }
    request = parse(
        [sent_back, {"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {}}]}]
    )
    assert request.warnings == ()
    assert chat_of(request).messages[0] == {"role": "assistant", "content": "Hello"}
    (warning,) = parse([{**USER, "audio": {"id": "a"}}]).warnings
    assert "messages[0].audio" in warning


def test_all_faults_of_a_chat_are_named() -> None:
    parts = [{"type": "image_url"}, {"type": "text", "text": 5}]
    messages = [{"content": "x"}, {"role": "king", "content": "x"}, {"role": "user", "content": parts}, "x"]
    with pytest.raises(RequestError) as refused:
        parse(messages, temperature=-1)
    for part in (
        "6 faults",
        "messages[0].role",
        "messages[1].role",
        "content[0]",
        "content[1]",
        "messages[3]",
    ):
        assert part in str(refused.value)


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["role", "content", "name", "tool_calls", "tool_call_id", "x"]),
            st.sampled_from(["user", "assistant", "", None, 5, [], {}, [{}], [{"function": {"name": "f"}}]]),
        )
    )
)
def test_any_messages_give_a_chat_or_a_request_error(messages: list[Any]) -> None:
    for body in ({"messages": messages}, {"inputs": messages}, {"inputs": [messages]}):
        try:
            parse_request(body, max_prompts=4)
        except RequestError as error:
            assert error.status == 422
