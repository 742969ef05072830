"""Building the body of a call, in either schema. It knows no transport."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inf2kit.errors import EndpointRequestError

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


@dataclass(frozen=True)
class Call:
    """What is sent.

    Attributes:
        body: The JSON, in UTF-8.
        stream: Whether the answer is streamed.
        chat: Whether the answer has OpenAI's schema.
    """

    body: bytes
    stream: bool
    chat: bool


def text_call(prompt: str | Sequence[str], parameters: Mapping[str, Any], *, stream: bool = False) -> Call:
    """Build a call that continues one text, or several as one batch.

    Raises:
        EndpointRequestError: the prompt is no text, or something cannot be JSON.
    """
    if not isinstance(prompt, str) and not _is_texts(prompt):
        raise EndpointRequestError(f"the prompt is {_show(prompt)}; it must be a text, or a list of texts")
    inputs = prompt if isinstance(prompt, str) else list(prompt)
    # The tokens themselves, each with its log-probability, would be sent and thrown away.
    body: dict[str, Any] = {"inputs": inputs, "parameters": {**parameters, "details": "counts"}}
    if stream:
        body["stream"] = True
    return Call(_encode(body), stream, chat=False)


def chat_call(
    messages: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any], *, stream: bool = False
) -> Call:
    """Build a call that continues a conversation.

    Raises:
        EndpointRequestError: the messages are no list of mappings, or something cannot be JSON.
    """
    is_list = isinstance(messages, Sequence) and not isinstance(messages, str | bytes)
    if not is_list or not all(isinstance(turn, Mapping) for turn in messages):
        raise EndpointRequestError(
            f"the messages are {_show(messages)}; they must be a list such as "
            '[{"role": "user", "content": "Hi"}]'
        )
    if parameters.get("n") not in (None, 1):
        raise EndpointRequestError(f"n is {parameters['n']!r}; a chat has one answer here, so ask again")
    body: dict[str, Any] = {"messages": [dict(turn) for turn in messages], **parameters}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return Call(_encode(body), stream, chat=True)


def raw_call(body: Mapping[str, Any], *, stream: bool) -> Call:
    """Build a call from a whole request."""
    return Call(_encode(body), stream, chat="messages" in body)


def _is_texts(value: object) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, bytes)
        and all(isinstance(text, str) for text in value)
    )


def _encode(body: Mapping[str, Any]) -> bytes:
    try:
        return _ENCODER.encode(body).encode()
    except (TypeError, ValueError) as error:  # UnicodeEncodeError, for half a character, is a ValueError
        raise EndpointRequestError(
            f"the request cannot be sent as JSON: {error}; correct its values"
        ) from None


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
