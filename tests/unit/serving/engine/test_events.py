"""The engine's events, and their form on the socket."""

from __future__ import annotations

import pytest

from inf2kit.errors import RequestError
from inf2kit.serving.engine.events import (
    AcceptedEvent,
    DoneEvent,
    EndEvent,
    ErrorEvent,
    Event,
    MetricsEvent,
    StatusEvent,
    TokenEvent,
    WholeAnswer,
    decode_event,
    encode_event,
)
from inf2kit.serving.wire import Generation, Token

TOKEN = Token(
    id=7,
    text="\u00e9\U0001f600",
    logprob=-0.25,
    special=False,
    top_tokens=(Token(9, "x", -0.1, special=False),),
)
GENERATION = Generation(
    "new", "prompt", "length", 3, 1, seed=5, tokens=(TOKEN,), prefill=(TOKEN,), warnings=("a", "b")
)
ACCEPTED = AcceptedEvent(
    form="tgi",
    details="tokens",
    logprobs=False,
    usage="all",
    model="m",
    input_lengths=(3, 4),
    warnings=("w",),
)


@pytest.mark.parametrize(
    "event",
    [
        ACCEPTED,
        TokenEvent(0, 1, TOKEN),
        EndEvent(2, 9, TOKEN, GENERATION),
        EndEvent(0, 0, None, Generation("", "", "time_limit", 3, 0)),
        ErrorEvent(429, "queue_full", "full", 7),
        StatusEvent("ready", 12),
        MetricsEvent("inf2kit_rows 8\n"),
        DoneEvent(),
    ],
    ids=lambda event: type(event).__name__,
)
def test_an_event_is_the_same_after_the_socket(event: Event) -> None:
    line = encode_event(event)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode_event(line) == event


def test_a_line_that_breaks_off_is_an_error() -> None:
    with pytest.raises(ValueError, match="Unterminated string"):
        decode_event(encode_event(TokenEvent(0, 1, TOKEN))[:20])


def test_an_error_keeps_its_status_and_its_hint() -> None:
    error = ErrorEvent.from_error(RequestError(429, "queue_full", "full", retry_after_s=7)).error()
    assert (error.status, error.code, str(error), error.retry_after_s) == (429, "queue_full", "full", 7)


def test_a_whole_answer_is_in_the_order_of_the_prompts() -> None:
    answer = WholeAnswer()
    answer.add(ACCEPTED)
    for prompt in (1, 0):
        answer.add(EndEvent(prompt, 1, TOKEN, Generation(f"text {prompt}", "", "length", 1, 1)))
    body = answer.body()
    assert isinstance(body, list)
    assert [item["generated_text"] for item in body] == ["text 0", "text 1"]


def test_an_answer_of_an_engine_that_went_away_is_unavailable() -> None:
    with pytest.raises(RequestError, match="the engine stopped in the middle of this call") as caught:
        WholeAnswer().body()
    assert caught.value.status == 503
