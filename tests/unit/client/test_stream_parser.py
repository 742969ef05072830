"""The parser of streams gives the same events however the bytes are cut."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from inf2kit.client.answers import TextReader
from inf2kit.client.sse import EventParser
from inf2kit.errors import EndpointInterruptedError, EndpointServerError
from inf2kit.serving.wire import AnswerOptions, Form, Generation, Token, response_writer

TEXTS = st.text(
    st.one_of(st.characters(codec="utf-8"), st.sampled_from("你好世界🙂👩‍👩‍👧é\r\n\u2028:")),
    min_size=1,
    max_size=8,
)
LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


def parse(parts: list[bytes]) -> list[bytes]:
    parser = EventParser()
    events = [event for part in parts for event in parser.feed(part)]
    return events + parser.end()


def cut(content: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(content) + 1) for place in places), len(content)]
    return [content[low:high] for low, high in itertools.pairwise(bounds)]


@given(
    texts=st.lists(TEXTS, max_size=6),
    line_end=LINE_ENDS,
    places=st.lists(st.integers(0, 10_000), max_size=30),
    last_line_end=st.booleans(),
)
@example(texts=["你", "🙂"], line_end=b"\r\n", places=list(range(200)), last_line_end=False)
@example(texts=["a", "b"], line_end=b"\r", places=[], last_line_end=False)
def test_every_split_of_the_bytes_gives_the_same_events(
    texts: list[str], line_end: bytes, places: list[int], last_line_end: bool
) -> None:
    data = [json.dumps({"text": text}, ensure_ascii=False).encode() for text in texts]
    content = b"".join(b"data: " + datum + line_end + line_end for datum in data)
    if texts and not last_line_end:
        content = content[: -2 * len(line_end)]
    assert parse(cut(content, places)) == data
    assert parse([content[at : at + 1] for at in range(len(content))]) == data


@pytest.mark.parametrize(
    ("content", "events"),
    [
        (b": a comment\n\ndata: 1\n\n", [b"1"]),
        (b"event: x\nid: 3\nretry: 5\ndata:1\n\n", [b"1"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data\n\n", [b""]),
        (b"\n\n\n", []),
        (b"", []),
    ],
)
def test_other_fields_are_passed_over_as_the_standard_has_it(content: bytes, events: list[bytes]) -> None:
    assert parse([content]) == events
    assert parse([content[at : at + 1] for at in range(len(content))]) == events


def answer(form: Form, texts: list[str]) -> bytes:
    """A whole stream, by the writer of the endpoints."""
    writer = response_writer(AnswerOptions(form, usage="last"))
    tokens = [Token(number, text, -0.5, special=False) for number, text in enumerate(texts)]
    generation = Generation("".join(texts), "", "length", 3, len(texts), seed=7)
    records = writer.first_records()
    for index, token in enumerate(tokens[:-1], 1):
        records += writer.token_records(0, index, token)
    return b"".join(records + writer.last_records(0, len(tokens), tokens[-1], generation))


@given(
    form=st.sampled_from(["tgi", "chat"]),
    texts=st.lists(TEXTS, min_size=1, max_size=6),
    places=st.lists(st.integers(0, 10_000), max_size=30),
)
def test_every_split_of_an_answer_gives_the_same_text_and_result(
    form: Form, texts: list[str], places: list[int]
) -> None:
    content = answer(form, texts)
    reader = TextReader("e", "id")
    pieces = [piece for part in cut(content, places) for piece in reader.feed(part)] + reader.end()
    assert pieces == texts
    result = reader.finished()
    assert (result.text, result.input_tokens, result.generated_tokens) == ("".join(texts), 3, len(texts))
    assert (result.finish_reason, result.request_id) == ("length", "id")


@given(form=st.sampled_from(["tgi", "chat"]), at=st.integers(1, 10_000))
def test_half_an_answer_is_an_error_and_never_a_result(form: Form, at: int) -> None:
    content = answer(form, ["你好", "🙂", "!"]).rstrip(b"\n")
    reader = TextReader("e")
    reader.feed(content[: at % len(content)])
    with pytest.raises((EndpointInterruptedError, EndpointServerError)):
        reader.end()
    assert reader.result is None


def test_an_error_in_the_middle_keeps_the_text_so_far() -> None:
    reader = TextReader("e", "id")
    first, _, _ = answer("tgi", ["a", "b"]).partition(b"\n\n")
    assert reader.feed(first + b"\n\n") == ["a"]
    with pytest.raises(EndpointInterruptedError, match="broke off: the engine went away") as broken:
        reader.feed(b'data: {"error": "the engine went away", "error_type": "unavailable"}\n\n')
    assert reader.text == "a"
    assert (broken.value.code, broken.value.request_id) == ("unavailable", "id")
