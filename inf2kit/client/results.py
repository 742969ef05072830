"""What a call returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Timings:
    """Where a call's time went, in seconds as the caller's clock has it.

    Attributes:
        total_s: From the call to the end of its answer, with all attempts.
        first_text_s: From the call to the first text; None for a whole answer.
        waited_s: Waits between attempts.
    """

    total_s: float = 0.0
    first_text_s: float | None = None
    waited_s: float = 0.0


@dataclass(frozen=True)
class TextResult:
    """The continuation of one prompt, or the answer to a chat.

    Attributes:
        text: The new text.
        finish_reason: ``length``, ``eos_token``, ``stop_sequence`` or ``time_limit``; for a chat OpenAI's
            ``length`` or ``stop``.
        input_tokens: Number of tokens in the prompt.
        generated_tokens: Number of new tokens.
        seed: The seed used, or None for greedy search and for a chat.
        warnings: One sentence for each part of the request that was ignored or changed.
        request_id: AWS's id of the request; None for a model in this process.
        attempts: How many times the request was sent.
        timings: Where the time went.
    """

    text: str
    finish_reason: str
    input_tokens: int
    generated_tokens: int
    seed: int | None = None
    warnings: tuple[str, ...] = ()
    request_id: str | None = None
    attempts: int = 1
    timings: Timings = field(default_factory=Timings)

    @classmethod
    def from_json(cls, answer: Mapping[str, Any]) -> TextResult:
        """Read one prompt's answer, with details, in the schema of Text Generation Inference.

        Raises:
            KeyError, TypeError, ValueError: it has another schema.
        """
        details = answer["details"]
        return cls(
            text=str(answer["generated_text"]),
            finish_reason=str(details["finish_reason"]),
            input_tokens=int(details["input_length"]),
            generated_tokens=int(details["generated_tokens"]),
            seed=details["seed"],
            warnings=tuple(answer.get("warnings", ())),
        )

    @classmethod
    def from_chat_json(cls, answer: Mapping[str, Any]) -> TextResult:
        """Read a ``chat.completion`` of OpenAI.

        Raises:
            KeyError, IndexError, TypeError, ValueError: it has another schema.
        """
        choice, usage = answer["choices"][0], answer["usage"]
        return cls(
            text=str(choice["message"]["content"]),
            finish_reason=str(choice["finish_reason"]),
            input_tokens=int(usage["prompt_tokens"]),
            generated_tokens=int(usage["completion_tokens"]),
            warnings=tuple(answer.get("warnings", ())),
        )
