"""What a run sends: loads, and requests of fixed or drawn lengths, of a trace, or of captured calls."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from inf2kit.errors import Inf2KitError
from inf2kit.planning import trace
from inf2kit.planning.lengths import Lengths

_PROMPT_KEYS = ("prompt", "inputs", "text")
#: Parameters that may stand beside a prompt.
_NEW_KEYS = ("max_new_tokens", "max_tokens")


@dataclass(frozen=True)
class Request:
    """One call to be made.

    Attributes:
        prompt: The text; None for a chat.
        messages: The messages of a chat.
        parameters: The call's parameters.
        wanted_input_tokens: Input tokens that the prompt was built for.
        wanted_tokens: New tokens that are forced.
    """

    prompt: str | None = None
    messages: tuple[Mapping[str, Any], ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    wanted_input_tokens: int | None = None
    wanted_tokens: int | None = None


_Call = TypeVar("_Call")
#: Builds a text of so many tokens, another one for each seed.
BuildPrompt = Callable[[int, int], str]


@dataclass(frozen=True)
class Workload:
    """The requests of a run.

    Attributes:
        description: What they are, for the report.
        pairs: Input and new tokens of each call of a trace; empty if lengths are drawn.
        requests: Whole requests, which are sent in turn; empty if prompts are built.
        input_lengths: Input tokens to draw.
        new_lengths: New tokens to draw.
        times_s: Seconds from a trace's first call to each, ascending; empty if they are not known.
    """

    description: str
    pairs: tuple[tuple[int, int], ...] = ()
    requests: tuple[Request, ...] = ()
    input_lengths: Lengths = field(default_factory=lambda: Lengths(256, 256))
    new_lengths: Lengths = field(default_factory=lambda: Lengths(128, 128))
    times_s: tuple[float, ...] = ()

    @classmethod
    def of_lengths(cls, input_lengths: Lengths, new_lengths: Lengths) -> Workload:
        """Requests whose prompts are built and whose lengths are forced."""
        return cls(
            f"{input_lengths} input and {new_lengths} new tokens, forced; each prompt is another one",
            input_lengths=input_lengths,
            new_lengths=new_lengths,
        )

    @classmethod
    def read_trace(cls, path: Path) -> Workload:
        """Read a trace: a line for each call, with numbers of tokens or with a prompt of its own.

        Args:
            path: A ``.csv`` or a ``.jsonl`` file, as ``planning.trace`` reads it.

        Raises:
            Inf2KitError: a line has neither.
        """
        calls: list[tuple[float | None, tuple[int, int] | Request]] = []
        for where, values in trace.lines(path):
            at = trace.read_time(where, values) if isinstance(values, dict) else None
            if trace.has_tokens(values):
                calls.append((at, trace.read_tokens(where, values)))
            else:
                calls += [(at, request) for request in _requests(where, values)]
        times_s = _put_in_order(calls)
        pairs = tuple(call for _, call in calls if not isinstance(call, Request))
        requests = tuple(call for _, call in calls if isinstance(call, Request))
        if bool(pairs) is bool(requests):
            problem = "has both" if pairs else "has no lines"
            raise Inf2KitError(
                f"{path} {problem}; write either numbers of tokens or prompts into every line, such as "
                '{"input_tokens": 256, "new_tokens": 128}'
            )
        return cls(f"{len(calls)} calls of {path.name}", pairs, requests, times_s=times_s)

    @classmethod
    def read_capture(cls, path: Path) -> Workload:
        """Read a file of SageMaker's data capture: the requests that an endpoint had.

        Raises:
            Inf2KitError: a line is no capture of a request of ours.
        """
        calls: list[tuple[float | None, Request]] = []
        for where, values in trace.lines(path):
            try:
                captured = values["captureData"]["endpointInput"]
                data = captured["data"]
                body = json.loads(base64.b64decode(data) if captured.get("encoding") == "BASE64" else data)
            except (KeyError, TypeError, ValueError):
                raise Inf2KitError(
                    f"{where} is no record of SageMaker's data capture with a JSON request; give a .jsonl "
                    "file of the capture's destination in S3, and capture the endpoint's input"
                ) from None
            metadata = values.get("eventMetadata")
            came = metadata.get("inferenceTime") if isinstance(metadata, dict) else None
            at = trace.read_time(where, {"time_s": came})
            calls += [(at, request) for request in _requests(where, body)]
        if not calls:
            raise Inf2KitError(f"{path} has no lines; give another file of the capture")
        times_s = _put_in_order(calls)
        requests = tuple(request for _, request in calls)
        return cls(f"{len(calls)} captured calls of {path.name}", requests=requests, times_s=times_s)

    @property
    def needs_prompts(self) -> bool:
        """Whether prompts must be built."""
        return not self.requests

    def draw(self, seed: str, build_prompt: BuildPrompt) -> Iterator[Request]:
        """Yield requests without end; the same ones for the same seed."""
        generator = random.Random(seed)  # noqa: S311 - lengths, not secrets
        number = 0
        while True:
            if self.requests:
                yield self.requests[number % len(self.requests)]
            else:
                if self.pairs:
                    input_tokens, new_tokens = self.pairs[number % len(self.pairs)]
                else:
                    input_tokens = self.input_lengths.draw(generator)
                    new_tokens = self.new_lengths.draw(generator)
                yield built_request(
                    build_prompt(input_tokens, generator.getrandbits(32)), input_tokens, new_tokens
                )
            number += 1


def _put_in_order(calls: list[tuple[float | None, _Call]]) -> tuple[float, ...]:
    """Sort calls by when they came, and return the seconds since the first; none if one has no time."""
    if not calls or any(at is None for at, _ in calls):
        return ()
    calls.sort(key=lambda call: call[0] or 0.0)
    return tuple((at or 0.0) - (calls[0][0] or 0.0) for at, _ in calls)


def built_request(prompt: str, input_tokens: int, new_tokens: int) -> Request:
    """Return a request whose number of new tokens is forced."""
    parameters = {"max_new_tokens": new_tokens, "ignore_eos": True}
    return Request(prompt, (), parameters, input_tokens, new_tokens)


def _requests(where: str, values: Any) -> list[Request]:
    """The requests of a body, or of a trace's line: one for each of its texts."""
    if isinstance(values, str):
        values = {"prompt": values}
    if isinstance(values, dict):
        prompt, messages = _first(values, _PROMPT_KEYS), values.get("messages")
        own = {key: value for key, value in values.items() if key in _NEW_KEYS}
        if prompt is None and isinstance(messages, list) and all(isinstance(turn, dict) for turn in messages):
            left_out = (
                "messages",
                "model",
                "stream",
                "stream_options",
                "parameters",
                "id",
                *trace.TIME_NAMES,
            )
            own = {key: value for key, value in values.items() if key not in left_out}
        parameters = {**own, **(values.get("parameters") or {})}
        for name in ("details", "stream", "n"):
            parameters.pop(name, None)
        texts = [prompt] if isinstance(prompt, str) else prompt
        if isinstance(texts, list) and texts and all(isinstance(text, str) for text in texts):
            return [Request(text, (), parameters) for text in texts]
        if prompt is None and isinstance(messages, list) and messages:
            return [Request(None, tuple(messages), parameters)]
    raise Inf2KitError(
        f'{where} has no call; it must have "prompt" or "inputs" with a text, "messages" with a chat, or '
        '"input_tokens" and "new_tokens"'
    )


def _first(values: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    return next((values[key] for key in keys if key in values), None)
