"""The arithmetic of static shapes: what a compiled model can hold.

A Neuron artefact is compiled for one batch size and one sequence length. The same limits hold on
every backend, so that a rehearsal is never kinder than the device.

This module ships inside the model package: standard library only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inf2kit.errors import RequestError

#: First tokens that stay when a row is full. Attention collects on them whatever they say ("Efficient
#: Streaming Language Models with Attention Sinks", Xiao et al. 2023, finds four enough).
SINK_TOKENS = 4
#: More new tokens than any deadline allows.
UNBOUNDED = 2**31


@dataclass(frozen=True)
class StaticShapes:
    """The shapes a model is compiled for.

    Attributes:
        batch_size: Rows decoded together.
        sequence_length: Tokens a row holds, prompt and new ones together.
        max_context_length: Tokens a prompt may have; at most ``sequence_length - 1``, as at least one
            new token must fit behind it.
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
        """Shapes with ``max_context_length`` as long as the sequence allows, unless it is given."""
        longest = sequence_length - 1
        return cls(batch_size, sequence_length, min(max_context_length or longest, longest))

    def window(self, ids: Sequence[int]) -> list[int]:
        """What a full row goes on with: its first tokens and the most recent ones, half a row together.

        Half a row, so that encoding it again comes once for every half row of new tokens.

        Args:
            ids: All tokens so far.
        """
        length = min(max(self.sequence_length // 2, 1), self.max_context_length)
        sinks = min(SINK_TOKENS, length - 1)
        return [*ids[:sinks], *ids[len(ids) - (length - sinks) :]]

    def new_tokens_within(
        self, input_length: int, max_new_tokens: int | None, *, overflow: str = "stop"
    ) -> int:
        """How many new tokens a prompt of ``input_length`` tokens gets: the request, clamped to the row.

        With ``overflow`` "sinks" nothing is clamped, and a request without a bound ends at its deadline.

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
