"""Text generation as callers see it, whether a model is behind an endpoint or in the same process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload


@dataclass(frozen=True)
class TextResult:
    """The continuation of one prompt.

    Attributes:
        text: The new text.
        finish_reason: ``length``, ``eos_token``, ``stop_sequence`` or ``time_limit``.
        input_length: Number of tokens in the prompt.
        generated_tokens: Number of new tokens.
        seed: The seed used, or None for greedy search.
        warnings: One sentence for each part of the request that was ignored or changed.
    """

    text: str
    finish_reason: str
    input_length: int
    generated_tokens: int
    seed: int | None
    warnings: tuple[str, ...]

    @classmethod
    def from_json(cls, answer: Mapping[str, Any]) -> TextResult:
        """Read one prompt's answer, with details, in the schema of Text Generation Inference."""
        details = answer["details"]
        return cls(
            text=answer["generated_text"],
            finish_reason=details["finish_reason"],
            input_length=details["input_length"],
            generated_tokens=details["generated_tokens"],
            seed=details["seed"],
            warnings=tuple(answer.get("warnings", ())),
        )


class TextGenerator(ABC):
    """What generates text. A subclass says how a request gets to the model."""

    @overload
    def generate(self, prompt: str, **parameters: Any) -> TextResult: ...

    @overload
    def generate(self, prompt: Sequence[str], **parameters: Any) -> list[TextResult]: ...

    def generate(self, prompt: str | Sequence[str], **parameters: Any) -> TextResult | list[TextResult]:
        """Continue one text, or several in one call, which are decoded as one batch.

        Args:
            prompt: A text, or a list of texts.
            **parameters: ``max_new_tokens``, ``temperature``, ``top_k``, ``top_p``, ``seed``, ``stop`` and
                the others of ``inf2kit.serving.wire.Parameters``.

        Returns:
            A result, or a list of results in the order of the prompts; a list for one text, too, with ``n``
            above 1. The ``n`` answers to one text come together.

        Raises:
            EndpointError: an endpoint refused the call, failed, or cannot be reached.
            RequestError: a model in this process refused the call.
        """
        inputs = prompt if isinstance(prompt, str) else list(prompt)
        # The tokens themselves, each with its log-probability, would be sent and thrown away.
        answers = self._answer({"inputs": inputs, "parameters": {**parameters, "details": "counts"}})
        results = [TextResult.from_json(answer) for answer in answers]
        return results[0] if isinstance(prompt, str) and len(results) == 1 else results

    def stream(self, prompt: str, **parameters: Any) -> Iterator[str]:
        """Continue one text and yield its pieces as they come; joined, they are the text of ``generate``.

        Args:
            prompt: A text.
            **parameters: The same as for ``generate``.

        Raises:
            EndpointError: as for ``generate``; also in the middle, when the endpoint breaks off.
            RequestError: as for ``generate``.
        """
        for token in self._tokens({"inputs": prompt, "parameters": parameters}):
            if token["text"]:
                yield token["text"]

    @abstractmethod
    def _answer(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the whole answer: one object for each prompt."""

    @abstractmethod
    def _tokens(self, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Stream the answer to a single prompt: one object for each token."""
