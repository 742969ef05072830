"""From a body's bytes to its JSON value."""

from __future__ import annotations

import json

from inf2kit.errors import RequestError
from inf2kit.serving.wire.faults import shorten

_JSON = "application/json"
_MAX_SHOWN_KEY = 40
#: JSON, one record a line: a call has one record.
_JSON_LINES = frozenset(
    (
        "application/jsonlines",
        "application/jsonl",
        "application/x-jsonlines",
        "application/ndjson",
        "application/x-ndjson",
    )
)


def decode_body(body: bytes | bytearray | str, content_type: str | None) -> object:
    """Parse the JSON of a request's body.

    Args:
        body: Bytes as received, or text where the model server has decoded them already.
        content_type: The Content-Type header, parameters such as ``; charset=utf-8`` included.

    Raises:
        RequestError: 415 for another content type or character set, or for several records; 400 where the
            body is not JSON.
    """
    media_type, _, options = (content_type or _JSON).partition(";")
    media_type = media_type.strip()
    if media_type.lower() != _JSON and media_type.lower() not in _JSON_LINES:
        raise RequestError(
            415,
            "unsupported_content_type",
            f"the content type is {media_type!r}; send a JSON body as 'application/json'",
        )
    charset = ""
    for option in options.split(";"):
        name, _, value = option.strip().partition("=")
        charset = value.strip("\"' ").lower() if name.strip().lower() == "charset" else charset
    if charset not in ("", "utf-8", "utf8"):
        raise RequestError(
            415, "unsupported_content_type", f"the character set is {charset!r}; send the body in UTF-8"
        )
    if not isinstance(body, str):
        try:
            body = bytes(body).decode("utf-8")
        except UnicodeDecodeError as error:
            raise RequestError(
                400, "invalid_utf8", f"the body is not valid UTF-8 at byte {error.start}; encode it as UTF-8"
            ) from None
    try:
        # Editors of Windows put a byte order mark before the text.
        return json.loads(body.removeprefix("\ufeff"), object_pairs_hook=_to_object)
    except json.JSONDecodeError as error:
        if media_type.lower() in _JSON_LINES and error.msg == "Extra data":
            raise RequestError(
                415,
                "unsupported_content_type",
                f"the body has several records of {media_type!r}, and a call takes one: send a call for "
                "each, or a list of 'inputs'; for a batch transform set BatchStrategy to SingleRecord",
            ) from None
        raise RequestError(
            400,
            "invalid_json",
            f"the body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}; "
            'send an object such as {"inputs": "..."} or {"messages": [...]}',
        ) from None
    except _RepeatedKeyError as error:
        raise RequestError(
            400,
            "invalid_json",
            f"the body has the key {shorten(str(error), _MAX_SHOWN_KEY)!r} twice in one object, with two "
            "values; send one of them",
        ) from None
    except (ValueError, RecursionError) as error:
        # An integer of more than 4,300 digits, or nesting deeper than the parser's stack.
        raise RequestError(
            400, "invalid_json", f"the body cannot be read as JSON ({type(error).__name__}); send plain JSON"
        ) from None


class _RepeatedKeyError(Exception):
    """An object has a key twice."""


def _to_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    # Python's parser takes the last of several values, and drops the others without a word.
    values = dict(pairs)
    if len(values) < len(pairs):
        for key, value in pairs:
            if value != values[key]:
                raise _RepeatedKeyError(key)
    return values
