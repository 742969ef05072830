"""How fast the presets are, by the user's own measurements or by published tables."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from inf2kit import paths, toml
from inf2kit.errors import EndpointError, Inf2KitError

_FILE = Path(__file__).with_name("speeds.toml")
_PUBLISHED = "the tables that Hugging Face published in 2023"
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
    source: str

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


def speeds() -> Mapping[str, Speed]:
    """Return the speed of each preset that has one: the user's own file before the published tables.

    Raises:
        EndpointError: the user's file cannot be read.
    """
    try:
        own = paths.speeds()
    except Inf2KitError:  # nobody's home folder is known, as in some containers
        own = None
    return _read_all(own)


@functools.cache
def _read_all(own: Path | None) -> Mapping[str, Speed]:
    published = {preset: _parse(values) for preset, values in toml.read(_FILE).items()}
    if own is None:
        return MappingProxyType(published)
    try:
        measured = {preset: _parse(values, f"your own {own}") for preset, values in toml.read(own).items()}
    except (FileNotFoundError, NotADirectoryError):
        measured = {}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise EndpointError(
            f"{own} cannot be read ({error!r}); it must have a table for each preset, with encoding_s and "
            "end_to_end_s of three numbers each; correct or delete it"
        ) from None
    return MappingProxyType({**published, **measured})


def _parse(values: Mapping[str, Sequence[float]], source: str = _PUBLISHED) -> Speed:
    first, second, third = map(float, values["encoding_s"])
    *_, longest = map(float, values["end_to_end_s"])
    # The longest row has the smallest error of rounding.
    step_s = (longest - first) / (_TOKENS[2] - 1)
    if not 0 < first <= second <= third or not step_s > 0:
        raise ValueError("times must be above 0 and grow with the number of tokens")
    return Speed((first, second, third), step_s, source)
