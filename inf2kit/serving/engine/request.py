"""One prompt on its way through the engine, from the queue to the last token."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from inf2kit.errors import RequestError
from inf2kit.serving.wire import Generation, Parameters, Token


@dataclass
class RequestGroup:
    """State that the requests of one call share: a call with a list of texts has a request for each.

    Attributes:
        has_tokens: Whether any request of the group has a new token.
        unfinished: Number of requests of the group that wait or run.
    """

    has_tokens: bool = False
    unfinished: int = 0


@dataclass
class Request:
    """One prompt with its parameters, its deadline and the callbacks for its results.

    The callbacks run on the scheduler's thread.

    Attributes:
        prompt_ids: Token ids of the prompt.
        parameters: How to generate.
        max_new_tokens: Most new tokens, after clamping to the row.
        deadline: Monotonic time at which the generation ends with the tokens it has. A stream has its first
            token by then.
        on_token: Called with the token's number, from 1, and the token; not for the last token.
        on_end: Called once with the number of tokens, the last token and the generation. The token is None
            if the deadline came before this request had one, but after another of its group had.
        on_error: Called once in place of ``on_end``: no token before the deadline, or a failure.
        arrival: Monotonic time of arrival. The queue is in this order.
        prompt_text: Text to put before the new text, if the caller asked for the full text.
        warnings: What was changed about the request, a sentence each.
        with_tokens: Whether the text of every single token is needed.
        with_logprobs: Whether its log-probability is needed, and ``top_n_tokens`` of its rivals.
        prompt_tokens: The prompt's tokens, if the answer lists them.
        cancelled: Set from any thread when the caller has gone away.
        group: Shared by the requests of one call.
        stream_deadline: Monotonic time at which a stream ends instead; None for whole answers.
    """

    prompt_ids: Sequence[int]
    parameters: Parameters
    max_new_tokens: int
    deadline: float
    on_token: Callable[[int, Token], None]
    on_end: Callable[[int, Token | None, Generation], None]
    on_error: Callable[[RequestError], None]
    arrival: float = field(default_factory=time.monotonic)
    prompt_text: str = ""
    warnings: tuple[str, ...] = ()
    with_tokens: bool = False
    with_logprobs: bool = False
    prompt_tokens: tuple[Token, ...] = ()
    cancelled: bool = False
    group: RequestGroup = field(default_factory=RequestGroup)
    stream_deadline: float | None = None

    @property
    def ends(self) -> float:
        """Monotonic time at which a generation that has tokens ends."""
        return self.deadline if self.stream_deadline is None else self.stream_deadline

    def end_by(self, at: float) -> None:
        """Let it end at a time, unless it ends before."""
        self.deadline = min(self.deadline, at)
        if self.stream_deadline is not None:
            self.stream_deadline = min(self.stream_deadline, at)

    def end_without_tokens(self) -> None:
        """End with an empty generation, at a deadline by which other requests of the group have tokens."""
        generation = Generation(
            text="",
            prompt=self.prompt_text,
            finish_reason="time_limit",
            input_length=len(self.prompt_ids),
            generated_tokens=0,
            prefill=self.prompt_tokens,
            warnings=self.warnings,
        )
        self.on_end(0, None, generation)
