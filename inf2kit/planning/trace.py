"""Traces of calls: CSV or JSON Lines with the tokens of each call, and when it came."""

from __future__ import annotations

import csv
import datetime as dt
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from inf2kit.errors import PlanError
from inf2kit.planning.demand import Trace

#: The names of columns in traces that are around: inf2kit's benchmarks, Mooncake's and AIPerf's, Azure's.
_INPUT = ("input_tokens", "input_length", "isl", "prompt_tokens", "ContextTokens")
_NEW = (
    *("new_tokens", "output_tokens", "output_length", "osl", "generated_tokens", "GeneratedTokens"),
    *("max_new_tokens", "max_tokens"),
)
TIME_NAMES = ("time_s", "start_s", "timestamp", "TIMESTAMP")
#: Mooncake's and AIPerf's times are milliseconds.
_MILLISECONDS = "timestamp"


def read(path: Path) -> Trace:
    """Read a trace.

    Args:
        path: A ``.csv`` file with headings, or a ``.jsonl`` file with an object in each line. Each call has
            ``input_tokens``, ``new_tokens`` and, if the times are to be used, ``time_s``. The names of
            Mooncake's and Azure's traces are understood too.

    Raises:
        PlanError: it cannot be read, or a line has no such numbers.
    """
    calls = []
    for where, values in lines(path):
        if not isinstance(values, dict):
            raise PlanError(f"{where} is no JSON object")
        calls.append((read_time(where, values), *read_tokens(where, values)))
    if not calls:
        raise PlanError(f"{path} has no calls; give a file with a line for each call")
    has_times = all(at is not None for at, *_ in calls)
    calls.sort(key=lambda call: call[0] or 0.0)
    first = calls[0][0] or 0.0
    return Trace(
        tuple(tokens for _, tokens, _ in calls),
        tuple(tokens for _, _, tokens in calls),
        tuple((at or 0.0) - first for at, *_ in calls) if has_times else (),
    )


def lines(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield where each line of a ``.csv`` or ``.jsonl`` file is, and its values.

    Raises:
        PlanError: it cannot be read, or is no text of such lines.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() == ".csv":
                for number, row in enumerate(csv.DictReader(file), start=2):
                    yield f"{path}, line {number}", row
                return
            for number, line in enumerate(file, start=1):
                if line.strip():
                    where = f"{path}, line {number}"
                    yield where, _parse(where, line)
    except OSError as error:
        raise PlanError(f"{path} cannot be read: {error.strerror or error}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise PlanError(f"{path} is no text of lines ({error}); give a .csv or a .jsonl file") from None


def has_tokens(values: Any) -> bool:
    """Whether a line's values have a number of input tokens, under any of its names."""
    return isinstance(values, dict) and _find(values, _INPUT) is not None


def read_tokens(where: str, values: Mapping[str, Any]) -> tuple[int, int]:
    """Read the numbers of input and of new tokens.

    Raises:
        PlanError: one of them is missing, or below 1.
    """
    return _count(where, values, _INPUT), _count(where, values, _NEW)


def read_time(where: str, values: Mapping[str, Any]) -> float | None:
    """Read when a call came, in seconds; None if the line does not say.

    Raises:
        PlanError: it is no time.
    """
    name = _find(values, TIME_NAMES)
    if name is None:
        return None
    value = values[name]
    try:
        seconds = float(value)
    except (ValueError, TypeError):
        # Azure's have seven decimals, and Python before 3.11 reads exactly six, and no Z.
        text = re.sub(r"\.(\d+)", lambda match: f".{match[1][:6]:0<6}", str(value)).replace("Z", "+00:00")
        try:
            return dt.datetime.fromisoformat(text).timestamp()
        except (ValueError, OverflowError):
            seconds = math.nan
    if not math.isfinite(seconds):
        raise PlanError(f"{where}: {name} is {value!r}; it must be seconds, or a date and a time")
    return seconds / 1000 if name == _MILLISECONDS else seconds


def _parse(where: str, line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise PlanError(f"{where} is no JSON ({error}); a CSV file must end in .csv") from None


def _count(where: str, values: Mapping[str, Any], names: tuple[str, ...]) -> int:
    name = _find(values, names)
    if name is None:
        raise PlanError(f"{where}: there is no {names[0]} (or {', '.join(names[1:])})")
    value = values[name]
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (ValueError, TypeError):
        number = math.nan
    if not 1 <= number < math.inf or number % 1:
        raise PlanError(f"{where}: {name} is {value!r}; it must be a whole number of at least 1")
    return int(number)


def _find(values: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if values.get(name) not in (None, "")), None)
