"""Answers, whole and streamed, in both schemas."""

from __future__ import annotations

import json

from inf2kit.serving.wire import Generation, ResponseWriter, Token

LAST = Token(2, "", -0.5, special=True)
DONE = Generation("Hi!", "", "eos_token", 5, 3)


def test_answers_in_the_form_of_text_generation_inference() -> None:
    answer = ResponseWriter("tgi", details="tokens").body(
        [Generation("b", "a", "length", 1, 1, tokens=(LAST,))]
    )
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
    writer = ResponseWriter("tgi", warnings=("w",))
    assert writer.first_records() == []
    (middle,) = writer.token_records(1, Token(5, "Hi", None, False))
    (last,) = writer.last_records(3, LAST, DONE)
    assert middle.endswith(b"\n\n")
    assert json.loads(middle[6:])["generated_text"] is None
    value = json.loads(last[6:])
    assert (value["generated_text"], value["details"]["finish_reason"]) == ("Hi!", "eos_token")
    assert value["warnings"] == ["w"]


def test_events_of_openai() -> None:
    writer = ResponseWriter("chat", include_usage=True, model="m")
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
