"""How fast the presets are, by the user's own calibrations or by published tables."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from inf2kit import paths, toml
from inf2kit.catalog.calibration import Calibration
from inf2kit.errors import EndpointError, Inf2KitError

_FILE = Path(__file__).with_name("speeds.toml")
_PUBLISHED = "the tables that Hugging Face published in 2023"
#: Input and new tokens of the tables' columns.
_TOKENS = (256, 512, 768)


@dataclass(frozen=True)
class Speed:
    """Seconds of a preset's calls.

    Attributes:
        prompt_tokens: Input tokens of the prompts whose encoding is known, ascending.
        encoding_s: Seconds to the first token, for each of these lengths.
        step_s: Seconds of each further token, with all rows busy.
        source: Who measured it.
    """

    prompt_tokens: tuple[int, ...]
    encoding_s: tuple[float, ...]
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
        """Seconds to the first token: linear between known lengths and beyond them, never below the first."""
        lengths, seconds = self.prompt_tokens, self.encoding_s
        if input_tokens <= lengths[0] or len(lengths) == 1:
            return seconds[0]
        high = next(
            (place for place, length in enumerate(lengths) if length >= input_tokens), len(lengths) - 1
        )
        low = high - 1
        share = (input_tokens - lengths[low]) / (lengths[high] - lengths[low])
        return max(seconds[low] + share * (seconds[high] - seconds[low]), seconds[0])


def find_speed(preset: str) -> Speed | None:
    """Return the speed of a preset: the user's own calibration before the published tables; None without one.

    Raises:
        EndpointError: the user's calibration cannot be read.
    """
    try:
        path = paths.calibration(preset)
        status = path.stat()
    except (OSError, Inf2KitError):  # there is none, or nobody's home folder is known, as in some containers
        return published_speeds().get(preset)
    return _calibrated(path, status.st_mtime_ns)


def measured_presets() -> list[str]:
    """Return the presets of which there is a speed."""
    try:
        own = {path.stem for path in paths.calibrations().glob("*.toml")}
    except Inf2KitError:
        own = set()
    return sorted(own | set(published_speeds()))


@functools.cache
def published_speeds() -> Mapping[str, Speed]:
    """Return the published speed of each preset that has one."""
    return MappingProxyType({preset: _parse(values) for preset, values in toml.read(_FILE).items()})


@functools.lru_cache(maxsize=8)
def _calibrated(path: Path, _written_ns: int) -> Speed:
    """Read a calibration, again only if it was written again."""
    try:
        calibration = Calibration.read(path)
    except Inf2KitError as error:
        raise EndpointError(f"{error}, or delete it") from None
    return Speed(
        calibration.prefill_tokens,
        tuple(seconds + calibration.round_trip_s for seconds in calibration.prefill_s),
        calibration.step_s + calibration.batch_size * calibration.row_step_s,
        f"your own {path}",
    )


def _parse(values: Mapping[str, Sequence[float]]) -> Speed:
    first, second, third = map(float, values["encoding_s"])
    *_, longest = map(float, values["end_to_end_s"])
    # The longest row has the smallest error of rounding.
    return Speed(_TOKENS, (first, second, third), (longest - first) / (_TOKENS[2] - 1), _PUBLISHED)
