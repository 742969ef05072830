"""Writing an answer, whole or as server-sent events: what all schemas have in common."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from inf2kit.errors import RequestError
from inf2kit.serving.wire.generation import Generation, Token
from inf2kit.serving.wire.option import Form, StreamUsage


@dataclass(frozen=True)
class AnswerOptions:
    """What an answer is written with.

    Attributes:
        form: Schema of the answer.
        details: What ``inputs`` asked for: ``none``, ``counts`` or ``tokens``.
        logprobs: Whether OpenAI's answers have the tokens' log-probabilities.
        usage: Which chunks of OpenAI's streams have token counts.
        model: The value of OpenAI's ``model``.
        warnings: Warnings about the whole request.
        n: Number of answers to each prompt.
        texts: Number of texts of the whole answer.
        input_lengths: Tokens of each prompt.
    """

    form: Form
    details: str = "none"
    logprobs: bool = False
    usage: StreamUsage = "none"
    model: str = "model"
    warnings: tuple[str, ...] = ()
    n: int = 1
    texts: int = 1
    input_lengths: tuple[int, ...] = ()


class ResponseWriter(ABC):
    """Writes the answer to one request.

    A choice is the index of a text in the answer: all answers to the first prompt, then those to the second.
    Streams are lists of records, to be sent one at a time: several clients parse all that they receive at
    once as one record.

    Args:
        options: What the answer is written with.
    """

    def __init__(self, options: AnswerOptions) -> None:
        self.options = options

    @abstractmethod
    def body(self, generations: Sequence[Generation]) -> object:
        """Return the JSON value of a whole answer.

        Args:
            generations: One for each choice, in order.
        """

    def first_records(self) -> list[bytes]:
        """Return the beginning of a stream."""
        return []

    @abstractmethod
    def token_records(self, choice: int, index: int, token: Token) -> list[bytes]:
        """Return one token of a stream.

        Args:
            choice: Index of the text.
            index: Number of the token, from 1.
            token: The token, which is not the last one of its text.
        """

    @abstractmethod
    def last_records(
        self, choice: int, index: int, token: Token | None, generation: Generation
    ) -> list[bytes]:
        """Return the end of one text of a stream, and of the stream if all of its texts have ended.

        Args:
            choice: Index of the text.
            index: Number of new tokens.
            token: The last token; None if there is no token.
            generation: The whole text and its counts.
        """

    def error_records(self, error: RequestError) -> list[bytes]:
        """Return an error as an event, for a stream whose status is sent already."""
        error.form = self.options.form
        return [to_event(error.body())]

    def warnings(self, generations: Iterable[Generation]) -> dict[str, object]:
        """Return the key ``warnings``, or nothing if there are none. Each sentence is said once."""
        sentences = [*self.options.warnings]
        for generation in generations:
            sentences += generation.warnings
        return {"warnings": list(dict.fromkeys(sentences))} if sentences else {}


def to_event(value: object) -> bytes:
    """Return a JSON value as a server-sent event."""
    # The empty line is part of the record: several clients' iterators wait for it.
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def encode_json(value: object, separators: tuple[str, str] = (",", ":")) -> bytes:
    """Return a JSON value in UTF-8, in as few bytes as possible: the model server limits a body in bytes."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=separators).encode()
    except UnicodeEncodeError:  # half a surrogate pair, in a name that nothing reads
        return json.dumps(value).encode("ascii")


def to_body(value: object) -> bytes:
    """Return a JSON value as the body of an answer: with the newline for which readers of lines wait."""
    return encode_json(value, (", ", ": ")) + b"\n"
