"""Writes an answer in the schema of its request, whole or as server-sent events."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

from inf2kit.errors import RequestError
from inf2kit.serving.wire.request import Form

#: This endpoint's finish reasons, and OpenAI's names for them.
_OPENAI_FINISH = {"eos_token": "stop", "stop_sequence": "stop", "length": "length", "time_limit": "length"}


@dataclass(frozen=True)
class Token:
    """One new token.

    Attributes:
        id: Its id in the vocabulary.
        text: The text that it completes: whole characters only, so it may be empty and a later token's
            longer. The texts of all tokens, joined, are the generated text.
        logprob: Natural logarithm of its probability in the model's own distribution, before penalties and
            warpers; None where the backend samples on the device.
        special: Whether it is a special token without text, such as end of sequence.
        top_tokens: The most likely tokens at its place, best first, in the model's own distribution; each has
            the text that it would have alone.
    """

    id: int
    text: str
    logprob: float | None
    special: bool
    top_tokens: tuple[Token, ...] = ()

    def as_json(self) -> dict[str, object]:
        """Return the token as Text Generation Inference writes it."""
        return {"id": self.id, "text": self.text, "logprob": self.logprob, "special": self.special}


@dataclass(frozen=True)
class Generation:
    """The continuation of one prompt.

    Attributes:
        text: The new text.
        prompt: The prompt if the request asked for the full text, else empty.
        finish_reason: ``length``, ``eos_token``, ``stop_sequence`` or ``time_limit``.
        input_length: Tokens of the prompt.
        generated_tokens: New tokens, an end-of-sequence token included.
        seed: The seed in use; None for greedy search.
        tokens: The new tokens, if the answer lists them.
        prefill: The prompt's tokens, if the request asked for them; without log-probabilities, since a
            compiled prefill graph returns the logits of the last position only.
        warnings: What was changed about the request, such as a lowered length.
    """

    text: str
    prompt: str
    finish_reason: str
    input_length: int
    generated_tokens: int
    seed: int | None = None
    tokens: tuple[Token, ...] = ()
    prefill: tuple[Token, ...] = ()
    warnings: tuple[str, ...] = ()

    def details(self, *, with_tokens: bool) -> dict[str, object]:
        """Return the ``details`` object of Text Generation Inference."""
        details: dict[str, object] = {
            "finish_reason": self.finish_reason,
            "generated_tokens": self.generated_tokens,
            "input_length": self.input_length,
            "seed": self.seed,
        }
        if with_tokens:
            details["prefill"] = []
            details["tokens"] = [token.as_json() for token in self.tokens]
        return details


@dataclass
class ResponseWriter:
    """Writes the answer to one request, in the request's own schema.

    Attributes:
        form: ``tgi``, ``chat`` or ``completion``.
        details: What the request asked for: ``none``, ``counts`` or ``tokens``.
        logprobs: Whether OpenAI's answers have the tokens' log-probabilities.
        include_usage: Whether a streamed chat ends with token counts.
        model: The value of OpenAI's ``model``.
        warnings: Warnings about the whole request, which every generation repeats.
    """

    form: Form
    details: str = "none"
    logprobs: bool = False
    include_usage: bool = False
    model: str = "model"
    warnings: tuple[str, ...] = ()
    _id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    _created: int = field(default_factory=lambda: int(time.time()))

    def body(self, generations: Sequence[Generation]) -> object:
        """Return the JSON value of a whole answer: a list, or a ``chat.completion``."""
        if self.form == "tgi":
            return [self._tgi(generation) for generation in generations]
        generation = generations[0]
        message = {"role": "assistant", "content": generation.text}
        choice = {
            "index": 0,
            "message": message,
            "finish_reason": _OPENAI_FINISH[generation.finish_reason],
            "logprobs": None,
        }
        completion = self._openai("chat.completion", [choice])
        completion["usage"] = _usage(generation)
        return self._with_warnings(completion, generation)

    # Streams are lists of records, to be sent one at a time: several clients parse all that they receive at
    # once as one record.

    def first_records(self) -> list[bytes]:
        """Return the beginning of a stream: the assistant's role for a chat, nothing for prompts."""
        return [] if self.form == "tgi" else [self._chunk({"role": "assistant", "content": ""}, None)]

    def token_records(self, index: int, token: Token) -> list[bytes]:
        """Return one token of a stream; ``index`` counts from 1, as Text Generation Inference does."""
        if self.form == "tgi":
            value = {"index": index, "token": token.as_json(), "generated_text": None, "details": None}
            return [_to_event(value)]
        return [self._chunk({"content": token.text}, None)] if token.text else []

    def last_records(self, index: int, token: Token, generation: Generation) -> list[bytes]:
        """Return the end of a stream, with the last token, the whole text and the counts."""
        if self.form == "tgi":
            event: dict[str, object] = {
                "index": index,
                "token": token.as_json(),
                "generated_text": generation.prompt + generation.text,
                "details": generation.details(with_tokens=False),
            }
            return [_to_event(self._with_warnings(event, generation))]
        records = self.token_records(index, token)
        records.append(self._chunk({}, _OPENAI_FINISH[generation.finish_reason], generation))
        if self.include_usage:
            usage = self._openai("chat.completion.chunk", [])
            usage["usage"] = _usage(generation)
            records.append(_to_event(usage))
        return [*records, b"data: [DONE]\n\n"]

    @staticmethod
    def error_records(error: RequestError) -> list[bytes]:
        """Return an error as an event, for a stream whose status is sent already."""
        return [_to_event(error.body())]

    def _tgi(self, generation: Generation) -> dict[str, object]:
        item: dict[str, object] = {"generated_text": generation.prompt + generation.text}
        if self.details != "none":
            item["details"] = generation.details(with_tokens=self.details == "tokens")
        return self._with_warnings(item, generation)

    def _with_warnings(self, item: dict[str, object], generation: Generation) -> dict[str, object]:
        warnings = [*self.warnings, *generation.warnings]
        if warnings:
            item["warnings"] = warnings
        return item

    def _openai(self, kind: str, choices: list[dict[str, object]]) -> dict[str, object]:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self.model,
            "choices": choices,
        }

    def _chunk(
        self, delta: dict[str, object], finish_reason: str | None, last: Generation | None = None
    ) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
        chunk = self._openai("chat.completion.chunk", [choice])
        return _to_event(self._with_warnings(chunk, last) if last else chunk)


def _to_event(value: object) -> bytes:
    # The empty line is part of the record: several clients' iterators wait for it.
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def _usage(generation: Generation) -> dict[str, int]:
    return {
        "prompt_tokens": generation.input_length,
        "completion_tokens": generation.generated_tokens,
        "total_tokens": generation.input_length + generation.generated_tokens,
    }
