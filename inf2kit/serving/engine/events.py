"""The engine's answer to a call, as typed events, and their form on the socket: one JSON object a line.

accepted   {"event": "accepted", "form": "tgi", "details": "none", "warnings": [...], ...}
token      {"event": "token", "choice": 0, "index": 1, "token": {...}}    while streaming
end        {"event": "end", "choice": 0, "index": 9, "token": {...}, "generation": {...}}
error      {"event": "error", "status": 422, "code": "...", "message": "...", "retry_after_s": null}
status     {"event": "status", "state": "ready", "longest_token": 12}     at every change
metrics    {"event": "metrics", "text": "..."}                            in Prometheus' text format
done       {"event": "done"}                                              nothing follows
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from inf2kit.errors import RequestError, unavailable
from inf2kit.serving.wire import AnswerOptions, Generation, ResponseWriter, Token, response_writer


@dataclass(frozen=True)
class AcceptedEvent(AnswerOptions):
    """The call is valid; the fields are what its answer is written with."""

    def writer(self) -> ResponseWriter:
        """A writer for the call's answer."""
        return response_writer(self)


@dataclass(frozen=True)
class TokenEvent:
    """A new token of a stream, but not the last one.

    Attributes:
        choice: Index of the text in the call.
        index: Number of the token, from 1.
        token: The token.
    """

    choice: int
    index: int
    token: Token


@dataclass(frozen=True)
class EndEvent:
    """The end of one text.

    Attributes:
        choice: Index of the text in the call: all answers to the first prompt, then those to the second.
        index: Number of new tokens.
        token: The last token, or None if there is no token at all.
        generation: The whole generation.
    """

    choice: int
    index: int
    token: Token | None
    generation: Generation


@dataclass(frozen=True)
class ErrorEvent:
    """The call failed; nothing but ``DoneEvent`` follows."""

    status: int
    code: str
    message: str
    retry_after_s: int | None

    @classmethod
    def from_error(cls, error: RequestError) -> ErrorEvent:
        """The event for an error."""
        return cls(error.status, error.code, str(error), error.retry_after_s)

    def error(self) -> RequestError:
        """The error to raise."""
        return RequestError(self.status, self.code, self.message, retry_after_s=self.retry_after_s)


@dataclass(frozen=True)
class StatusEvent:
    """The engine's state has changed.

    Attributes:
        state: ``loading`` or ``ready``.
        longest_token: Characters of the vocabulary's longest token; 0 while loading.
    """

    state: str
    longest_token: int


@dataclass(frozen=True)
class MetricsEvent:
    """The engine's metrics in Prometheus' text format."""

    text: str


@dataclass(frozen=True)
class DoneEvent:
    """The last event of a call."""


#: The events of a generation.
GenerationEvent = AcceptedEvent | TokenEvent | EndEvent | ErrorEvent
Event = GenerationEvent | StatusEvent | MetricsEvent | DoneEvent

_NAMES: dict[type[Event], str] = {
    AcceptedEvent: "accepted",
    TokenEvent: "token",
    EndEvent: "end",
    ErrorEvent: "error",
    StatusEvent: "status",
    MetricsEvent: "metrics",
    DoneEvent: "done",
}
_TYPES: dict[str, type[Event]] = {name: event_type for event_type, name in _NAMES.items()}


def encode_event(event: Event) -> bytes:
    """An event as a line."""
    if isinstance(event, TokenEvent):
        # There is one per token of every stream, so no asdict, which copies recursively.
        fields: dict[str, Any] = {
            "event": "token",
            "choice": event.choice,
            "index": event.index,
            "token": {**vars(event.token), "top_tokens": [vars(token) for token in event.token.top_tokens]},
        }
    else:
        fields = {"event": _NAMES[type(event)], **asdict(event)}
    return json.dumps(fields).encode("ascii") + b"\n"


def decode_event(line: bytes) -> Event:
    """A line as an event.

    Raises:
        ValueError: the line is not a whole event.
    """
    fields: dict[str, Any] = json.loads(line)
    event_type = _TYPES[fields.pop("event")]
    if event_type in (TokenEvent, EndEvent) and fields["token"] is not None:
        fields["token"] = _token(fields["token"])
    if event_type is EndEvent:
        generation: dict[str, Any] = fields["generation"]
        generation["warnings"] = tuple(generation["warnings"])
        for name in ("tokens", "prefill"):
            generation[name] = tuple(_token(token) for token in generation[name])
        fields["generation"] = Generation(**generation)
    elif event_type is AcceptedEvent:
        for name in ("warnings", "input_lengths"):
            fields[name] = tuple(fields[name])
    return event_type(**fields)


def _token(fields: dict[str, Any]) -> Token:
    top_tokens = tuple(_token(token) for token in fields["top_tokens"])
    return Token(**{**fields, "top_tokens": top_tokens})


def engine_went_away() -> RequestError:
    """The 503 for a call whose events stop before its end."""
    return unavailable(
        "the engine stopped in the middle of this call; it is being restarted: try again in a moment"
    )


class WholeAnswer:
    """Collects the events of a call whose answer is not streamed."""

    def __init__(self) -> None:
        self._accepted: AcceptedEvent | None = None
        self._generations: dict[int, Generation] = {}

    def add(self, event: Event) -> None:
        """Add the next event; events that are of no use for a whole answer are ignored."""
        if isinstance(event, AcceptedEvent):
            self._accepted = event
        elif isinstance(event, EndEvent):
            self._generations[event.choice] = event.generation

    def body(self) -> object:
        """The JSON value of the answer, once all events were added.

        Raises:
            RequestError: 503, the engine has not accepted the call.
        """
        if self._accepted is None:
            raise engine_went_away()
        generations = [self._generations[choice] for choice in sorted(self._generations)]
        return self._accepted.writer().body(generations)
