"""Reading an endpoint's answers, whole or streamed, in either schema. It knows no transport."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from inf2kit.client.failures import error_from_event, interrupted, not_an_answer
from inf2kit.client.results import TextResult
from inf2kit.client.sse import EventParser

#: What ends a streamed chat.
DONE = b"[DONE]"
_WRONG_SCHEMA = (ValueError, TypeError, KeyError, IndexError, AttributeError)


@dataclass(frozen=True)
class Reply:
    """A whole answer, as a transport hands it over.

    Attributes:
        body: Its bytes.
        content_type: Its Content-Type.
        request_id: AWS's id of the request.
    """

    body: bytes
    content_type: str | None
    request_id: str | None


def read_reply(endpoint: str, reply: Reply, *, chat: bool) -> list[TextResult]:
    """Read a whole answer: a result for each prompt, or one for a chat.

    Raises:
        EndpointServerError: the body is not such an answer.
    """
    try:
        answer = json.loads(reply.body)
        if chat:
            return [TextResult.from_chat_json(answer)]
        return [TextResult.from_json(each) for each in answer]
    except _WRONG_SCHEMA:
        raise not_an_answer(endpoint, reply.content_type, reply.body, reply.request_id) from None


class EventReader:
    """Turns the bytes of a streamed answer into its decoded events.

    Args:
        endpoint: The endpoint's name, for errors.
        request_id: AWS's id of the request, for errors.

    Attributes:
        is_complete: Whether the last event came: the one with ``generated_text``, or ``[DONE]``.
    """

    def __init__(self, endpoint: str, request_id: str | None = None) -> None:
        self._endpoint, self._request_id = endpoint, request_id
        self._parser = EventParser()
        self._received = b""
        self.is_complete = False

    def feed(self, part: bytes) -> list[dict[str, Any]]:
        """Take the next bytes, and return the events that they complete.

        Raises:
            EndpointInterruptedError: an event says that the endpoint broke off.
            EndpointServerError: an event is not JSON.
        """
        if len(self._received) < 300:
            self._received += part[:300]
        return self._decode(self._parser.feed(part))

    def end(self) -> list[dict[str, Any]]:
        """Return the events that the stream's end completes.

        Raises:
            EndpointInterruptedError: the last event has not come.
            EndpointServerError: no event came at all, and something else did.
        """
        events = self._decode(self._parser.end())
        if not self.is_complete:
            if self._received and not self._received.lstrip().startswith((b"data", b":", b"event", b"id")):
                raise not_an_answer(self._endpoint, None, self._received, self._request_id)
            raise interrupted(self._endpoint, "the stream ended before its last event", self._request_id)
        return events

    def _decode(self, records: list[bytes]) -> list[dict[str, Any]]:
        events = []
        for data in records:
            if self.is_complete:
                break
            if data == DONE:
                self.is_complete = True
                break
            try:
                event = json.loads(data)
                failed = event.get("error") is not None
            except _WRONG_SCHEMA:
                raise interrupted(
                    self._endpoint, f"an event is no JSON ({data[:80]!r})", self._request_id
                ) from None
            if failed:
                raise error_from_event(self._endpoint, event, self._request_id)
            self.is_complete = event.get("generated_text") is not None
            events.append(event)
        return events


class TextReader:
    """Turns the bytes of a streamed answer into pieces of text and, at its end, into a result.

    Args:
        endpoint: The endpoint's name, for errors.
        request_id: AWS's id of the request.

    Attributes:
        text: The text so far.
        result: The result once the last event came, without timings.
    """

    def __init__(self, endpoint: str, request_id: str | None = None) -> None:
        self._endpoint, self._request_id = endpoint, request_id
        self._events = EventReader(endpoint, request_id)
        self._pieces: list[str] = []
        self._finish_reason = ""
        self._usage: dict[str, Any] = {}
        self._last: dict[str, Any] | None = None
        self._warnings: tuple[str, ...] = ()
        self.result: TextResult | None = None

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._pieces)

    def feed(self, part: bytes) -> list[str]:
        """Take the next bytes, and return the pieces of text that they complete.

        Raises:
            EndpointError: as for ``EventReader.feed``.
        """
        return self._read(self._events.feed(part))

    def end(self) -> list[str]:
        """Return the pieces of text that the stream's end completes.

        Raises:
            EndpointError: as for ``EventReader.end``.
        """
        return self._read(self._events.end())

    def finished(self) -> TextResult:
        """Return the result.

        Raises:
            EndpointInterruptedError: the last event has not come.
        """
        if self.result is None:
            raise interrupted(self._endpoint, "the stream ended before its last event", self._request_id)
        return self.result

    def _read(self, events: list[dict[str, Any]]) -> list[str]:
        try:
            pieces = [piece for event in events if (piece := self._read_event(event))]
            self._pieces += pieces
            if self._events.is_complete and self.result is None:
                self.result = self._make_result()
        except _WRONG_SCHEMA:
            content = json.dumps(events).encode()
            raise not_an_answer(self._endpoint, None, content, self._request_id) from None
        return pieces

    def _read_event(self, event: dict[str, Any]) -> str:
        self._warnings += tuple(event.get("warnings", ()))
        if "choices" in event:
            self._usage = event.get("usage") or self._usage
            text = ""
            for choice in event["choices"]:
                text += choice["delta"].get("content") or ""
                self._finish_reason = choice["finish_reason"] or self._finish_reason
            return text
        if event.get("generated_text") is not None:
            self._last = event
        token = event["token"]
        return "" if token is None else str(token["text"])

    def _make_result(self) -> TextResult:
        if self._last is not None:
            # Its text has the prompt before it, if the caller asked for that.
            return replace(TextResult.from_json(self._last), request_id=self._request_id)
        return TextResult(
            text=self.text,
            finish_reason=self._finish_reason,
            input_tokens=int(self._usage["prompt_tokens"]),
            generated_tokens=int(self._usage["completion_tokens"]),
            warnings=self._warnings,
            request_id=self._request_id,
        )
