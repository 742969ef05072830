"""Answers, whole and streamed, in the three schemas."""

from __future__ import annotations

import json
from typing import Any

import pytest

from inf2kit.client.failures import error_from_event
from inf2kit.errors import EndpointError, RequestError, unavailable
from inf2kit.serving.wire import AnswerOptions, Form, Generation, Token, response_writer, to_body

LAST = Token(2, "", -0.5, special=True)
DONE = Generation("Hi!", "", "eos_token", 5, 3)
BETTER, WORSE = Token(7, "Hi", -0.25, False), Token(8, "Ho", -1.5, False)
#: A token of which another one was likelier, one that completes no character, and one that completes two.
TOKENS = (
    Token(8, "Ho", -1.5, False, top_tokens=(BETTER, WORSE)),
    Token(9, "", -0.125, False),
    Token(10, "é!", None, False),
)


def events(records: list[bytes]) -> list[dict[str, Any]]:
    assert all(record.count(b"\n\n") == 1 and record.endswith(b"\n\n") for record in records), (
        "one record each"
    )
    return [json.loads(record[6:]) for record in records if record != b"data: [DONE]\n\n"]


def body(options: AnswerOptions, *generations: Generation) -> Any:
    return json.loads(to_body(response_writer(options).body(generations)))


def test_answers_in_the_form_of_text_generation_inference() -> None:
    generation = Generation("b", "a", "length", 1, 1, tokens=(LAST,))
    counts = {"finish_reason": "length", "generated_tokens": 1, "input_length": 1, "seed": None}
    tokens = {"prefill": [], "tokens": [{"id": 2, "text": "", "logprob": -0.5, "special": True}]}
    assert body(AnswerOptions("tgi"), generation) == [{"generated_text": "ab"}]
    assert body(AnswerOptions("tgi", details="counts"), generation) == [
        {"generated_text": "ab", "details": counts}
    ]
    assert body(AnswerOptions("tgi", details="tokens"), generation) == [
        {"generated_text": "ab", "details": {**counts, **tokens}}
    ]


def test_top_tokens_and_the_prompts_tokens() -> None:
    generation = Generation("", "", "length", 1, 3, tokens=TOKENS, prefill=(Token(4, "a", None, False),))
    (answer,) = body(AnswerOptions("tgi", details="tokens"), generation)
    assert answer["details"]["prefill"] == [{"id": 4, "text": "a", "logprob": None}]
    assert answer["details"]["top_tokens"] == [[BETTER.as_json(), WORSE.as_json()], [], []]
    (event,) = events(response_writer(AnswerOptions("tgi")).token_records(0, 1, TOKENS[0]))
    assert event["top_tokens"] == [BETTER.as_json(), WORSE.as_json()]


def test_several_answers_come_in_order() -> None:
    generations = [Generation(text, "", "length", 4, 2) for text in "abcd"]
    assert [
        item["generated_text"] for item in body(AnswerOptions("tgi", n=2, texts=4), *generations)
    ] == list("abcd")
    completion = body(AnswerOptions("completion", n=2, texts=4), *generations)
    assert [(choice["index"], choice["text"]) for choice in completion["choices"]] == list(enumerate("abcd"))
    usage = {"prompt_tokens": 8, "completion_tokens": 8, "total_tokens": 16}
    assert completion["usage"] == usage, "several answers to one prompt count it once"


def test_events_of_text_generation_inference() -> None:
    writer = response_writer(AnswerOptions("tgi", warnings=("w",)))
    assert writer.first_records() == []
    (middle,) = events(writer.token_records(0, 1, Token(5, "Hi", None, False)))
    (last,) = events(writer.last_records(0, 3, LAST, DONE))
    assert middle["generated_text"] is None
    assert "top_tokens" not in middle
    assert (last["generated_text"], last["details"]["finish_reason"]) == ("Hi!", "eos_token")
    assert last["warnings"] == ["w"]


def test_events_of_a_chat() -> None:
    writer = response_writer(AnswerOptions("chat", usage="last", model="m"))
    records = writer.first_records() + writer.token_records(0, 1, Token(5, "Hi", None, False))
    *records, end = records + writer.last_records(0, 3, Token(2, "!", None, False), DONE)
    assert end == b"data: [DONE]\n\n"
    chunks = events(records)
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks[:-1]]
    assert deltas == [{"role": "assistant", "content": ""}, {"content": "Hi"}, {"content": "!"}, {}]
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert (chunks[-1]["choices"], chunks[-1]["usage"]["total_tokens"]) == ([], 8)


@pytest.mark.parametrize("form", ["chat", "completion"])
def test_a_stream_of_several_texts_ends_when_all_of_them_have(form: Form) -> None:
    writer = response_writer(AnswerOptions(form, usage="last", n=2, texts=2))
    records = writer.first_records() + writer.token_records(1, 1, Token(5, "b", None, False))
    first = writer.last_records(1, 2, LAST, DONE)
    assert b"data: [DONE]\n\n" not in first
    *second, end = writer.last_records(0, 0, None, Generation("", "", "time_limit", 5, 0, warnings=("late",)))
    assert end == b"data: [DONE]\n\n"
    *chunks, usage = events([*records, *first, *second])
    ends = {
        chunk["choices"][0]["index"]: chunk["choices"][0]["finish_reason"]
        for chunk in chunks
        if chunk["choices"][0]["finish_reason"]
    }
    assert ends == {0: "length", 1: "stop"}
    assert chunks[-1]["warnings"] == ["late"]
    assert usage["usage"] == {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}


@pytest.mark.parametrize("form", ["chat", "completion"])
def test_every_chunk_of_a_stream_may_have_the_counts_so_far(form: Form) -> None:
    """As of vLLM's ``continuous_usage_stats``: each choice for itself, and their sum at the end."""
    writer = response_writer(AnswerOptions(form, usage="all", n=2, texts=4, input_lengths=(5, 7)))
    for choice, input_length in enumerate((5, 5, 7)):
        writer.last_records(choice, 3, LAST, Generation("Hi!", "", "length", input_length, 3))
    records = writer.first_records() + writer.token_records(3, 1, Token(5, "b", None, False))
    *records, _ = records + writer.last_records(3, 2, LAST, Generation("b!", "", "length", 7, 2))
    *chunks, whole = [(chunk["choices"], chunk["usage"]) for chunk in events(records)]
    counts = [
        (choices[0]["index"], usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"])
        for choices, usage in chunks
    ]
    first = [(0, 5, 0, 5), (1, 5, 0, 5), (2, 7, 0, 7), (3, 7, 0, 7)] if form == "chat" else []
    assert counts == [*first, (3, 7, 1, 8), (3, 7, 2, 9)]
    assert whole == ([], {"prompt_tokens": 12, "completion_tokens": 11, "total_tokens": 23})


def test_log_probabilities_of_a_chat() -> None:
    options = AnswerOptions("chat", logprobs=True)
    whole = body(options, Generation("Hoé!", "", "length", 1, 3, tokens=TOKENS))["choices"][0]["logprobs"]
    first, second, third = whole["content"]
    assert (first["token"], first["logprob"], first["bytes"]) == ("Ho", -1.5, [72, 111])
    assert first["top_logprobs"] == [
        {"token": "Hi", "logprob": -0.25, "bytes": [72, 105]},
        {"token": "Ho", "logprob": -1.5, "bytes": [72, 111]},
    ]
    assert (second["token"], second["bytes"], second["top_logprobs"]) == ("", [], [])
    assert bytes(third["bytes"]).decode() == "é!"
    writer = response_writer(options)
    streamed = [writer.token_records(0, index, token) for index, token in enumerate(TOKENS, 1)]
    chunks = [event["choices"][0] for records in streamed for event in events(records)]
    assert [chunk["logprobs"]["content"] for chunk in chunks] == [[first], [second], [third]]
    assert [chunk["delta"]["content"] for chunk in chunks] == ["Ho", "", "é!"]


def test_log_probabilities_of_a_completion() -> None:
    options = AnswerOptions("completion", logprobs=True)
    whole = body(options, Generation("Hoé!", "", "length", 1, 3, tokens=TOKENS))["choices"][0]["logprobs"]
    assert whole == {
        "tokens": ["Ho", "", "é!"],
        "token_logprobs": [-1.5, -0.125, None],
        "top_logprobs": [{"Hi": -0.25, "Ho": -1.5}, {"": -0.125}, {"é!": None}],
        "text_offset": [0, 2, 2],
    }
    writer = response_writer(options)
    chunks = [events(writer.token_records(0, index, token))[0] for index, token in enumerate(TOKENS, 1)]
    for key, values in whole.items():
        assert [value for chunk in chunks for value in chunk["choices"][0]["logprobs"][key]] == values


def test_completions() -> None:
    answer = body(
        AnswerOptions("completion", model="m", warnings=("w",)), Generation("b", "a", "length", 1, 1)
    )
    assert answer["id"].startswith("cmpl-")
    assert (answer["object"], answer["model"], answer["warnings"]) == ("text_completion", "m", ["w"])
    assert answer["choices"] == [{"index": 0, "text": "ab", "finish_reason": "length", "logprobs": None}]
    writer = response_writer(AnswerOptions("completion"))
    assert writer.first_records() == []
    *records, end = writer.last_records(0, 1, Token(5, "Hi", None, False), DONE)
    assert [chunk["choices"][0]["text"] for chunk in events(records)] == ["Hi", ""]
    assert end == b"data: [DONE]\n\n"


def test_a_warning_is_said_once() -> None:
    generations = [Generation("a", "", "length", 1, 1, warnings=("lowered",))] * 2
    assert body(AnswerOptions("chat", n=2, texts=2, warnings=("w",)), *generations)["warnings"] == [
        "w",
        "lowered",
    ]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RequestError(422, "invalid_parameter", "bad", param="top_p"), "invalid_request_error"),
        (RequestError(429, "queue_full", "full", retry_after_s=3), "rate_limit_error"),
        (unavailable("gone"), "server_error"),
    ],
)
def test_errors_have_the_schema_of_the_request(error: RequestError, kind: str) -> None:
    flat = error.body()
    assert (flat["error"], flat["error_type"]) == (str(error), error.code)
    for form in ("chat", "completion"):
        (event,) = events(response_writer(AnswerOptions(form)).error_records(error))  # type: ignore[arg-type]
        nested = event["error"]
        assert (nested["message"], nested["code"], nested["param"]) == (str(error), error.code, error.param)
        assert nested["type"] == kind
        assert nested.get("retry_after_s") == error.retry_after_s
        read = error_from_event("e", event)
        assert isinstance(read, EndpointError)
        assert (read.code, read.retry_after_s) == (error.code, error.retry_after_s)
    (event,) = events(response_writer(AnswerOptions("tgi")).error_records(error))
    assert event == flat
    assert error_from_event("e", event).retry_after_s == error.retry_after_s


def test_a_body_ends_with_a_newline_and_is_utf_8() -> None:
    assert to_body([{"generated_text": "é"}]) == '[{"generated_text": "é"}]\n'.encode()
    assert json.loads(to_body({"half \ud83d": 1})) == {"half \ud83d": 1}
