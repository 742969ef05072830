"""Writes answers as Text Generation Inference does on SageMaker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from inf2kit.serving.wire.generation import Generation, Token
from inf2kit.serving.wire.response import ResponseWriter, to_event


class TgiWriter(ResponseWriter):
    """Writes a list with an object for each text, and an event for each token."""

    def body(self, generations: Sequence[Generation]) -> object:
        """Return a list with an object for each text."""
        return [self._item(generation) for generation in generations]

    def token_records(self, choice: int, index: int, token: Token) -> list[bytes]:
        """Return the event of a token."""
        return [to_event(self._event(index, token, None, None))]

    def last_records(
        self, choice: int, index: int, token: Token | None, generation: Generation
    ) -> list[bytes]:
        """Return the event of the last token, with the whole text and the counts."""
        text = generation.prompt + generation.text
        event = self._event(index, token, text, _counts(generation))
        return [to_event({**event, **self.warnings([generation])})]

    def _item(self, generation: Generation) -> dict[str, object]:
        item: dict[str, object] = {"generated_text": generation.prompt + generation.text}
        if self.options.details != "none":
            details = _counts(generation)
            if self.options.details == "tokens" or generation.prefill:
                details["prefill"] = [
                    {"id": token.id, "text": token.text, "logprob": token.logprob}
                    for token in generation.prefill
                ]
            if self.options.details == "tokens":
                details["tokens"] = [token.as_json() for token in generation.tokens]
                if any(token.top_tokens for token in generation.tokens):
                    details["top_tokens"] = [_top_tokens(token) for token in generation.tokens]
            item["details"] = details
        return {**item, **self.warnings([generation])}

    @staticmethod
    def _event(
        index: int, token: Token | None, text: str | None, details: Mapping[str, object] | None
    ) -> dict[str, object]:
        event: dict[str, object] = {"index": index, "token": token.as_json() if token else None}
        if token and token.top_tokens:
            event["top_tokens"] = _top_tokens(token)
        return {**event, "generated_text": text, "details": details}


def _counts(generation: Generation) -> dict[str, object]:
    return {
        "finish_reason": generation.finish_reason,
        "generated_tokens": generation.generated_tokens,
        "input_length": generation.input_length,
        "seed": generation.seed,
    }


def _top_tokens(token: Token) -> list[dict[str, object]]:
    return [top_token.as_json() for top_token in token.top_tokens]
