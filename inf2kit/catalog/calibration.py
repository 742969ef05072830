"""What a load benchmark measured of one endpoint, for the planner and the client's pre-flight."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from dataclasses import dataclass
from pathlib import Path

from inf2kit import paths, toml
from inf2kit.errors import Inf2KitError


@dataclass(frozen=True)
class Calibration:
    """The time of a prefill and of a decode step, and where they were measured.

    A decode step of n live rows takes ``step_s + n * row_step_s``. All rows of an engine wait for a prefill,
    and then for ``stall_s`` more.

    Attributes:
        preset: The preset's name.
        batch_size: Rows of one engine.
        sequence_length: Tokens of a row.
        engines: Engines behind the endpoint: those of all instances.
        on_device_sampling: Whether the device chooses the tokens.
        prefill_tokens: Input tokens of the prompts that were measured, ascending.
        prefill_s: Seconds of a prefill of one prompt of each of these lengths.
        step_s: Seconds of a decode step, less the share of its rows.
        row_step_s: Seconds that each live row adds to a step.
        stall_s: Seconds that all rows wait after each prefill.
        new_tokens: Mean number of new tokens of a call.
        new_tokens_deviation: Their standard deviation.
        round_trip_s: Seconds of a call outside the engine: of the network, and of the gateway as far as a
            full engine shows them.
        measured: The day.
        machine: What it was measured on: an instance type, or this machine's processor.
        notice: What is simulated; empty on a device.
    """

    preset: str
    batch_size: int
    sequence_length: int
    engines: int
    on_device_sampling: bool
    prefill_tokens: tuple[int, ...]
    prefill_s: tuple[float, ...]
    step_s: float
    row_step_s: float
    stall_s: float
    new_tokens: float
    new_tokens_deviation: float
    round_trip_s: float
    measured: dt.date
    machine: str
    notice: str = ""

    def __post_init__(self) -> None:
        numbers = {
            name: getattr(self, name)
            for name in ("batch_size", "sequence_length", "engines", "step_s", "row_step_s", "stall_s")
        }
        numbers |= {f"prefill_s[{place}]": seconds for place, seconds in enumerate(self.prefill_s)}
        numbers["round_trip_s"] = self.round_trip_s
        for name, value in numbers.items():
            if not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"{name} is {value!r}, and must be a number")
        lengths, seconds = self.prefill_tokens, self.prefill_s
        if not lengths or len(lengths) != len(seconds) or list(lengths) != sorted(set(lengths)):
            raise ValueError("prefill_tokens must ascend, and prefill_s must have a time for each of them")
        if min(*seconds, self.batch_size, self.engines) <= 0 or self.step_s + self.row_step_s <= 0:
            raise ValueError("batch_size, engines and the times of a prefill and a step must be above 0")
        if min(self.row_step_s, self.stall_s, self.round_trip_s) < 0:
            raise ValueError("row_step_s, stall_s and round_trip_s must not be below 0")

    @classmethod
    def read(cls, path: Path) -> Calibration:
        """Read a file.

        Raises:
            Inf2KitError: it cannot be read, or is no calibration.
        """
        try:
            values = toml.read(path)
            for name in ("prefill_tokens", "prefill_s"):
                values[name] = tuple(values[name])
            return cls(**values)
        except (OSError, ValueError, TypeError, KeyError) as error:
            problem = error.strerror if isinstance(error, OSError) else error
            raise Inf2KitError(
                f"{path} is no calibration ({problem}); "
                "write one with 'inf2kit bench load ENDPOINT --calibrate'"
            ) from None

    def write(self, path: Path) -> None:
        """Write a file, whose folder must exist."""
        paths.replace_file(path, toml.dumps(dataclasses.asdict(self)).encode())

    def save(self) -> Path:
        """Write the file of this preset in inf2kit's folder, and return its path."""
        path = paths.calibration(self.preset)
        paths.make_private(path.parent)
        self.write(path)
        return path
