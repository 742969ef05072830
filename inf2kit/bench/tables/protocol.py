"""The calls of the published tables: which lengths, and whether a preset's rows have room for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from inf2kit.catalog.tables import INPUT_TOKENS, LENGTHS
from inf2kit.errors import RequestError
from inf2kit.serving.shapes import StaticShapes


@dataclass(frozen=True, order=True)
class Cell:
    """One call: the same prompt in every row, and a fixed number of new tokens.

    Attributes:
        input_tokens: Tokens of the prompt.
        new_tokens: New tokens of each row; 1 measures the encoding time.
    """

    input_tokens: int
    new_tokens: int

    @property
    def key(self) -> str:
        """Its name in files, such as ``256x1``."""
        return f"{self.input_tokens}x{self.new_tokens}"

    def __str__(self) -> str:
        """Return what the call is, for people."""
        if self.new_tokens == 1:
            return f"encoding of {self.input_tokens} input tokens"
        return f"{self.new_tokens} new tokens after {self.input_tokens}"


ENCODING = tuple(Cell(length, 1) for length in LENGTHS)
END_TO_END = tuple(Cell(INPUT_TOKENS, length) for length in LENGTHS)
#: In the order of measuring: short calls first, so that longer ones can be estimated.
PROTOCOL = (*ENCODING, *END_TO_END)


def why_too_short(cell: Cell, shapes: StaticShapes) -> str | None:
    """Return why a call does not fit into a row, or None if it does."""
    try:
        room = shapes.new_tokens_within(cell.input_tokens, cell.new_tokens)
    except RequestError:
        return f"too short: a prompt may have {shapes.max_context_length} tokens"
    if room < cell.new_tokens:
        return f"too short: a row has {shapes.sequence_length} tokens"
    return None


def forced(cell: Cell) -> dict[str, Any]:
    """Return the parameters of greedy search that goes on to exactly the new tokens of a call."""
    return {"max_new_tokens": cell.new_tokens, "ignore_eos": True}
