"""What was measured, as it was measured: one file of raw samples, from which everything else is computed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inf2kit.bench.files import problem
from inf2kit.errors import Inf2KitError

#: Increased when a file of an earlier version cannot be read as one of this.
SCHEMA = "inf2kit.bench.tables/1"


@dataclass(frozen=True)
class Sample:
    """One call.

    Attributes:
        input_tokens: Input tokens of each row that were asked for.
        new_tokens: New tokens of each row that were asked for.
        run: The run's number, from 1.
        latency_s: Seconds from sending to the end of the answer; None if the call failed.
        streamed: Whether each row was a stream of its own, all at once.
        counted_input_tokens: Input tokens of each row by the server's count.
        counted_new_tokens: New tokens of each row by the server's count.
        finish_reasons: Why each row ended.
        error: Why the call failed, or an empty text.
    """

    input_tokens: int
    new_tokens: int
    run: int
    latency_s: float | None
    streamed: bool = False
    counted_input_tokens: tuple[int, ...] = ()
    counted_new_tokens: tuple[int, ...] = ()
    finish_reasons: tuple[str, ...] = ()
    error: str = ""

    def problem(self, rows: int) -> str:
        """Return what makes the sample useless, or an empty text."""
        if self.latency_s is None:
            return f"failed: {self.error}"
        if "time_limit" in self.finish_reasons:
            return (
                f"the endpoint's deadline ended it after {self.latency_s:.0f} s "
                "(INF2KIT_DEADLINE_SECONDS sets another)"
            )
        counts = (self.counted_input_tokens, "input"), (self.counted_new_tokens, "new")
        for (counted, kind), asked in zip(counts, (self.input_tokens, self.new_tokens), strict=True):
            if len(counted) != rows:
                return f"{len(counted)} answers to {rows} prompts"
            if set(counted) != {asked}:
                others = sorted(set(counted) - {asked})
                return f"the server counted {', '.join(map(str, others))} {kind} tokens instead of {asked}"
        return ""


@dataclass
class Measurement:
    """All samples of one endpoint, and their conditions.

    Attributes:
        name: The endpoint's name, or the model's folder.
        preset: The preset's name; empty if it is not known.
        batch_size: Rows: prompts of each call.
        sequence_length: Tokens of a row.
        max_context_length: Most input tokens of a row.
        where: Where the calls went.
        machine: The caller's machine.
        measured: Date and time of the beginning, in ISO 8601 with the offset from UTC.
        version: The version of inf2kit.
        runs: Number of runs that were asked for.
        notices: What is simulated or stands in, and what else must be known of all figures.
        left_out: Why cells were not measured, by ``INPUTxNEW``.
        round_trips_s: Seconds of calls that are refused before any work.
        samples: The calls.
    """

    name: str
    preset: str
    batch_size: int
    sequence_length: int
    max_context_length: int
    where: str
    machine: str
    measured: str
    version: str
    runs: int
    notices: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    round_trips_s: list[float] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)

    @property
    def notice(self) -> str:
        """All notices as one text."""
        return "; ".join(self.notices)

    def to_dict(self) -> dict[str, Any]:
        """Return the values of a JSON object, the raw samples first."""
        values = dataclasses.asdict(self)
        return {"schema": SCHEMA, "samples": values.pop("samples"), **values}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Measurement:
        """Read the values of a JSON object; keys of others are passed over.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        if values["schema"] != SCHEMA:
            raise ValueError(f"its schema is {values['schema']!r}, not {SCHEMA!r}")
        own = {each.name: values[each.name] for each in dataclasses.fields(cls)}
        own["samples"] = [_sample(each) for each in own["samples"]]
        return cls(**own)

    @classmethod
    def read(cls, path: Path) -> Measurement:
        """Read a file that ``write`` wrote.

        Raises:
            Inf2KitError: it cannot be read, or is something else.
        """
        try:
            return cls.from_dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise Inf2KitError(
                f"{path} is no result of 'inf2kit bench tables' ({problem(error)}); give its tables.json"
            ) from None

    def write(self, path: Path, aggregates: Mapping[str, Any]) -> None:
        """Write the samples, and behind them what was computed from them."""
        text = json.dumps({**self.to_dict(), **aggregates}, indent=1, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")


def _sample(values: Mapping[str, Any]) -> Sample:
    own: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
    return Sample(**own)
