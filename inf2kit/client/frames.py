"""Decoding AWS's binary event stream, by botocore's decoder. It knows no transport."""

from __future__ import annotations

import json
from typing import Any

from inf2kit.client import failures


class FrameReader:
    """Turns the bytes of an event stream into the bytes that the container sent.

    Args:
        endpoint: The endpoint's name, for errors.
        request_id: AWS's id of the request, for errors.
    """

    def __init__(self, endpoint: str, request_id: str | None) -> None:
        from botocore.eventstream import EventStreamBuffer

        self._endpoint, self._request_id = endpoint, request_id
        self._buffer = EventStreamBuffer()
        self._has_begun = False

    def feed(self, received: bytes) -> list[bytes]:
        """Take the next bytes, and return the parts that they complete.

        Raises:
            EndpointError: AWS ended the stream with an exception, or the bytes are no event stream.
        """
        from botocore.eventstream import ParserError

        parts = []
        try:
            self._buffer.add_data(received)
            for message in self._buffer:
                if message.headers.get(":message-type") != "event":
                    raise self._error(message)
                parts.append(message.payload)
        except ParserError as error:
            if not self._has_begun:
                raise failures.not_an_answer(self._endpoint, None, received, self._request_id) from None
            raise failures.interrupted(
                self._endpoint, f"what came is no event stream of AWS ({error})", self._request_id
            ) from None
        self._has_begun = self._has_begun or bool(parts)
        return parts

    def _error(self, message: Any) -> Exception:
        headers = message.headers
        name = str(headers.get(":exception-type") or headers.get(":error-code") or "ModelStreamError")
        try:
            values = json.loads(message.payload)
        except ValueError:
            values = {}
        if not isinstance(values, dict):
            values = {}
        sentence = values.get("Message") or values.get("message") or headers.get(":error-message") or name
        code = values.get("ErrorCode") or name
        return failures.stream_error(self._endpoint, str(code), str(sentence), self._request_id)
