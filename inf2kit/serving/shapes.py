"""Static shapes: how many rows and tokens a compiled model holds.

A Neuron artefact is compiled for one batch size and one sequence length. Every backend enforces the same
limits, so that a request which a rehearsal accepts fits on the device too.

This module ships inside the model package: standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inf2kit.errors import RequestError

#: First tokens that stay when a row is full. Attention concentrates on them whatever they are, and four are
#: enough ("Efficient Streaming Language Models with Attention Sinks", Xiao et al. 2023).
SINK_TOKENS = 4
#: A number of new tokens that no deadline allows.
UNBOUNDED = 2**31


@dataclass(frozen=True)
class StaticShapes:
    """The shapes a model is compiled for.

    Attributes:
        batch_size: Rows that are decoded together.
        sequence_length: Tokens that a row holds, prompt and new ones together.
        max_context_length: Tokens that a prompt may have; at most ``sequence_length - 1``, as at least one
            new token must fit after it.
    """

    batch_size: int
    sequence_length: int
    max_context_length: int

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.sequence_length < 2:
            raise ValueError(f"batch_size must be at least 1 and sequence_length at least 2: {self}")
        if not 1 <= self.max_context_length < self.sequence_length:
            raise ValueError(f"max_context_length must be within 1..sequence_length - 1: {self}")

    @classmethod
    def resolve(
        cls, batch_size: int, sequence_length: int, max_context_length: int | None = None
    ) -> StaticShapes:
        """Create shapes; ``max_context_length`` is limited to what the sequence allows, which is its default.

        Raises:
            ValueError: a value is out of range.
        """
        longest = sequence_length - 1
        context = longest if max_context_length is None else min(max_context_length, longest)
        return cls(batch_size, sequence_length, context)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StaticShapes:
        """Read shapes back from a manifest, or from optimum-neuron's configuration of a compiled model.

        A missing or null ``max_context_length``, as earlier manifests have it, is the longest.

        Raises:
            KeyError, TypeError, ValueError: a value is missing or out of range.
        """
        return cls.resolve(
            int(values["batch_size"]), int(values["sequence_length"]), values.get("max_context_length")
        )

    def with_changes(
        self,
        batch_size: int | None = None,
        sequence_length: int | None = None,
        max_context_length: int | None = None,
    ) -> StaticShapes:
        """Return shapes with the given values; prompts that only the sequence limits stay so.

        Raises:
            ValueError: a value is out of range.
        """
        if max_context_length is None and self.prefill_length < self.sequence_length:
            max_context_length = self.max_context_length
        return StaticShapes.resolve(
            self.batch_size if batch_size is None else batch_size,
            self.sequence_length if sequence_length is None else sequence_length,
            max_context_length,
        )

    @property
    def prefill_length(self) -> int:
        """Tokens that the compiled prefill graph takes: the whole row, unless prompts are limited further."""
        is_limited = self.max_context_length < self.sequence_length - 1
        return self.max_context_length if is_limited else self.sequence_length

    def window(self, ids: Sequence[int]) -> list[int]:
        """Return the tokens that a full row continues with: the first and the most recent ones.

        They are half a row together, so that the row is encoded again once every half row of new tokens.

        Args:
            ids: All tokens so far.
        """
        length = min(max(self.sequence_length // 2, 1), self.max_context_length)
        sinks = min(SINK_TOKENS, length - 1)
        return [*ids[:sinks], *ids[len(ids) - (length - sinks) :]]

    def new_tokens_within(
        self, input_length: int, max_new_tokens: int | None, *, overflow: str = "stop"
    ) -> int:
        """Return how many new tokens a prompt of ``input_length`` tokens gets: what it asks for and fits.

        With ``overflow`` "sinks" the row is no limit, and a request without a bound ends at its deadline.

        Raises:
            RequestError: 422 ``prompt_too_long`` when the prompt itself does not fit.
        """
        if input_length > self.max_context_length:
            raise RequestError(
                422,
                "prompt_too_long",
                f"the prompt has {input_length} tokens; this model was compiled for at most "
                f"{self.max_context_length} (sequence_length {self.sequence_length}): shorten the prompt, "
                "or deploy a preset with a longer sequence_length",
            )
        if overflow == "sinks":
            return UNBOUNDED if max_new_tokens is None else max_new_tokens
        room = self.sequence_length - input_length
        return room if max_new_tokens is None else min(max_new_tokens, room)
