"""Bodies: which content types mean JSON, and that any bytes give a value or an error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inf2kit.errors import RequestError
from inf2kit.serving.wire import decode_body

JSON_LINES = ["application/jsonlines", "application/x-ndjson", "application/jsonl", "Application/JSONLines"]


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON; charset=UTF-8",
        "application/json; odata=verbose; charset='utf-8'",
        None,
        *JSON_LINES,
    ],
)
def test_content_types_that_mean_json(content_type: str | None) -> None:
    assert decode_body(b"{}", content_type) == {}


@pytest.mark.parametrize("content_type", JSON_LINES)
@pytest.mark.parametrize("body", ['{"inputs": "a"}\n', '\n{"inputs": "a"}\n\n', '{\n "inputs":\n "a"\n}'])
def test_one_record_is_json(content_type: str, body: str) -> None:
    assert decode_body(body, content_type) == {"inputs": "a"}


@pytest.mark.parametrize("content_type", JSON_LINES)
@pytest.mark.parametrize("body", ['{"inputs": "a"}\n{"inputs": "b"}\n', '{"inputs": "a"}\n{"inputs": '])
def test_several_records_are_refused_with_what_to_do(content_type: str, body: str) -> None:
    with pytest.raises(RequestError, match=r"several records.*SingleRecord") as refused:
        decode_body(body, content_type)
    assert (refused.value.status, refused.value.code) == (415, "unsupported_content_type")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [("application/json", '{"a": 1}\n{"b": 2}'), (JSON_LINES[0], '{"a": \n{"b": 2}'), (JSON_LINES[0], "\n")],
)
def test_what_is_no_json_is_no_json_in_lines_either(content_type: str, body: str) -> None:
    with pytest.raises(RequestError, match="not JSON") as refused:
        decode_body(body, content_type)
    assert refused.value.status == 400


@pytest.mark.parametrize("body", [b'\xef\xbb\xbf{"inputs": "a"}', '\ufeff{"inputs": "a"}\n'])
def test_a_byte_order_mark_is_passed_over(body: bytes | str) -> None:
    assert decode_body(body, "application/json") == {"inputs": "a"}


@pytest.mark.parametrize(
    "body",
    [
        '{"inputs": "a", "inputs": "b"}',
        '{"inputs": "a", "parameters": {"seed": 1, "top_p": 1, "seed": 2}}',
        '{"messages": [{"role": "user", "content": "a", "content": null}]}',
    ],
)
def test_a_key_with_two_values_is_refused_rather_than_one_of_them_dropped(body: str) -> None:
    with pytest.raises(RequestError, match=r"the key '(inputs|seed|content)' twice") as refused:
        decode_body(body, "application/json")
    assert (refused.value.status, refused.value.code) == (400, "invalid_json")


def test_a_key_that_is_repeated_with_its_value_says_nothing_new() -> None:
    assert decode_body('{"inputs": "a", "inputs": "a"}', None) == {"inputs": "a"}


@given(st.binary(max_size=64), st.sampled_from(["application/json", *JSON_LINES]))
def test_any_bytes_give_a_value_or_a_request_error(body: bytes, content_type: str) -> None:
    try:
        decode_body(body, content_type)
    except RequestError as error:
        assert error.status in (400, 415)
