"""Writes answers in OpenAI's schemas: chat completions and completions."""

from __future__ import annotations

import time
import uuid
from abc import abstractmethod
from collections.abc import Mapping, Sequence

from inf2kit.serving.wire.generation import Generation, Token
from inf2kit.serving.wire.response import AnswerOptions, ResponseWriter, to_event

#: This endpoint's finish reasons, and OpenAI's names for them.
_FINISH_REASONS = {"eos_token": "stop", "stop_sequence": "stop", "length": "length", "time_limit": "length"}


class OpenAIWriter(ResponseWriter):
    """What both of OpenAI's schemas have in common.

    Attributes:
        kind: ``object`` of a whole answer.
        chunk_kind: ``object`` of an event.
    """

    kind: str
    chunk_kind: str
    id_prefix: str

    def __init__(self, options: AnswerOptions) -> None:
        super().__init__(options)
        self._id = f"{self.id_prefix}-{uuid.uuid4().hex}"
        self._created = int(time.time())
        self._ended: dict[int, Generation] = {}

    def body(self, generations: Sequence[Generation]) -> object:
        """Return a whole answer, with a choice for each text."""
        choices = [
            {
                "index": choice,
                **self._content(generation),
                "finish_reason": _FINISH_REASONS[generation.finish_reason],
                "logprobs": self._logprobs(choice, generation.tokens),
            }
            for choice, generation in enumerate(generations)
        ]
        usage = self._usage(dict(enumerate(generations)))
        return {**self._object(self.kind, choices), "usage": usage, **self.warnings(generations)}

    def token_records(self, choice: int, index: int, token: Token) -> list[bytes]:
        """Return a chunk; none for a token without text, unless its log-probability is wanted."""
        if not token.text and not self.options.logprobs:
            return []
        logprobs = self._logprobs(choice, [token])
        return [self._chunk(choice, index, self._delta(token.text), logprobs=logprobs)]

    def last_records(
        self, choice: int, index: int, token: Token | None, generation: Generation
    ) -> list[bytes]:
        """Return the last token and the finish reason; after the last text the counts and ``[DONE]``."""
        self._ended[choice] = generation
        records = self.token_records(choice, index, token) if token else []
        records.append(
            self._chunk(choice, generation.generated_tokens, self._delta(None), generation=generation)
        )
        if len(self._ended) < self.options.texts:
            return records
        if self.options.usage != "none":
            usage = {**self._object(self.chunk_kind, []), "usage": self._usage(self._ended)}
            records.append(to_event(usage))
        return [*records, b"data: [DONE]\n\n"]

    @abstractmethod
    def _content(self, generation: Generation) -> dict[str, object]:
        """Return the text of a choice of a whole answer."""

    @abstractmethod
    def _delta(self, text: str | None) -> dict[str, object]:
        """Return the text of a choice of a chunk; None at its end."""

    @abstractmethod
    def _logprobs(self, choice: int, tokens: Sequence[Token]) -> dict[str, object] | None:
        """Return the log-probabilities of a choice's next tokens, if they are wanted."""

    def _object(self, kind: str, choices: list[dict[str, object]]) -> dict[str, object]:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self.options.model,
            "choices": choices,
        }

    def _chunk(
        self,
        choice: int,
        tokens: int,
        delta: Mapping[str, object],
        *,
        generation: Generation | None = None,
        logprobs: dict[str, object] | None = None,
    ) -> bytes:
        finish_reason = _FINISH_REASONS[generation.finish_reason] if generation else None
        value = {"index": choice, **delta, "finish_reason": finish_reason, "logprobs": logprobs}
        chunk = self._object(self.chunk_kind, [value])
        if generation:
            chunk |= self.warnings([generation])
        if self.options.usage == "all":
            chunk["usage"] = _counts(self.options.input_lengths[choice // self.options.n], tokens)
        return to_event(chunk)

    def _usage(self, generations: Mapping[int, Generation]) -> dict[str, int]:
        # Several answers to one prompt count it once.
        prompt = sum(
            generations[choice].input_length for choice in generations if not choice % self.options.n
        )
        new = sum(generation.generated_tokens for generation in generations.values())
        return _counts(prompt, new)


class ChatWriter(OpenAIWriter):
    """Writes chat completions."""

    kind, chunk_kind, id_prefix = "chat.completion", "chat.completion.chunk", "chatcmpl"

    def first_records(self) -> list[bytes]:
        """Return a chunk with the assistant's role for each text."""
        delta = {"delta": {"role": "assistant", "content": ""}}
        return [self._chunk(choice, 0, delta) for choice in range(self.options.texts)]

    def _content(self, generation: Generation) -> dict[str, object]:
        return {"message": {"role": "assistant", "content": generation.text}}

    def _delta(self, text: str | None) -> dict[str, object]:
        return {"delta": {} if text is None else {"content": text}}

    def _logprobs(self, choice: int, tokens: Sequence[Token]) -> dict[str, object] | None:
        if not self.options.logprobs:
            return None
        content = [
            {**_logprob(token), "top_logprobs": [_logprob(top_token) for top_token in token.top_tokens]}
            for token in tokens
        ]
        return {"content": content, "refusal": None}


class CompletionWriter(OpenAIWriter):
    """Writes completions."""

    kind, chunk_kind, id_prefix = "text_completion", "text_completion", "cmpl"

    def __init__(self, options: AnswerOptions) -> None:
        super().__init__(options)
        self._offsets: dict[int, int] = {}

    def _content(self, generation: Generation) -> dict[str, object]:
        return {"text": generation.prompt + generation.text}

    def _delta(self, text: str | None) -> dict[str, object]:
        return {"text": text or ""}

    def _logprobs(self, choice: int, tokens: Sequence[Token]) -> dict[str, object] | None:
        if not self.options.logprobs:
            return None
        offsets = []
        for token in tokens:
            offsets.append(self._offsets.get(choice, 0))
            self._offsets[choice] = offsets[-1] + len(token.text)
        return {
            "tokens": [token.text for token in tokens],
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [_top_logprobs(token) for token in tokens],
            "text_offset": offsets,
        }


def _counts(prompt: int, new: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": new, "total_tokens": prompt + new}


def _logprob(token: Token) -> dict[str, object]:
    return {"token": token.text, "logprob": token.logprob, "bytes": list(token.text.encode())}


def _top_logprobs(token: Token) -> dict[str, float | None]:
    # The sampled token is always there. Two tokens may have the same text: the first is the likelier one.
    logprobs: dict[str, float | None] = {}
    for each in (*token.top_tokens, token):
        logprobs.setdefault(each.text, each.logprob)
    return logprobs
