"""How fast the presets are, by published tables."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from inf2kit import toml

_FILE = Path(__file__).with_name("speeds.toml")
#: Input and new tokens of the tables' columns.
_TOKENS = (256, 512, 768)


@dataclass(frozen=True)
class Speed:
    """Seconds of a preset's calls, one batch at a time.

    Attributes:
        encoding_s: Seconds to the first token, for 256, 512 and 768 input tokens.
        step_s: Seconds of each further token, for the whole batch.
        source: Who measured it.
    """

    encoding_s: tuple[float, float, float]
    step_s: float
    source: str = "the tables that Hugging Face published in 2023"

    def call_s(self, input_tokens: int, new_tokens: int) -> float:
        """Seconds that a call is expected to take: encoding + (new tokens - 1) x step."""
        return self.first_token_s(input_tokens) + max(new_tokens - 1, 0) * self.step_s

    def new_tokens(self, input_tokens: int, limit_s: float) -> int:
        """Number of new tokens that are expected to fit into a limit; 0 if none does."""
        room_s = limit_s - self.first_token_s(input_tokens)
        return 0 if room_s < 0 else int(room_s / self.step_s) + 1

    def first_token_s(self, input_tokens: int) -> float:
        """Seconds to the first token: linear between the table's columns and beyond them, never below."""
        low, high = (0, 1) if input_tokens <= _TOKENS[1] else (1, 2)
        share = max(input_tokens - _TOKENS[low], 0) / (_TOKENS[high] - _TOKENS[low])
        return self.encoding_s[low] + share * (self.encoding_s[high] - self.encoding_s[low])


@functools.cache
def speeds() -> Mapping[str, Speed]:
    """Return the published speed of each preset that has one."""
    return MappingProxyType({preset: _parse(values) for preset, values in toml.read(_FILE).items()})


def _parse(values: Mapping[str, list[float]]) -> Speed:
    first, second, third = values["encoding_s"]
    # The longest row has the smallest error of rounding.
    step_s = (values["end_to_end_s"][2] - first) / (_TOKENS[2] - 1)
    return Speed((first, second, third), step_s)
