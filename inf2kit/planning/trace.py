"""Traces of calls: CSV or JSON Lines with the tokens of each call, and when it came."""

from __future__ import annotations

import csv
import datetime as dt
import json
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
_TIME = ("time_s", "start_s", "timestamp", "TIMESTAMP")
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
    for number, values in _lines(path):
        try:
            calls.append((_time(values), _tokens(values, _INPUT), _tokens(values, _NEW)))
        except (ValueError, TypeError, OverflowError) as error:
            raise PlanError(f"{path}, line {number}: {error}") from None
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


def _lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() == ".csv":
                yield from enumerate(csv.DictReader(file), start=2)
                return
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, _object(path, number, line)
    except OSError as error:
        raise PlanError(f"{path} cannot be read: {error.strerror or error}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise PlanError(f"{path} is no text of lines ({error}); give a .csv or a .jsonl file") from None


def _object(path: Path, number: int, line: str) -> Mapping[str, Any]:
    try:
        values = json.loads(line)
    except ValueError as error:
        raise PlanError(f"{path}, line {number} is no JSON ({error}); a CSV file must end in .csv") from None
    if not isinstance(values, dict):
        raise PlanError(f"{path}, line {number} is no JSON object")
    return values


def _tokens(values: Mapping[str, Any], names: tuple[str, ...]) -> int:
    name = _find(values, names)
    if name is None:
        raise ValueError(f"there is no {names[0]} (or {', '.join(names[1:])})")
    tokens = int(float(values[name]))
    if tokens < 1:
        raise ValueError(f"{name} is {values[name]!r}; it must be at least 1")
    return tokens


def _time(values: Mapping[str, Any]) -> float | None:
    name = _find(values, _TIME)
    if name is None:
        return None
    try:
        seconds = float(values[name])
    except ValueError:
        # Azure's have seven decimals, and Python before 3.11 reads exactly six, and no Z.
        text = re.sub(r"\.(\d+)", lambda match: f".{match[1][:6]:0<6}", str(values[name]))
        text = text.replace("Z", "+00:00")
        return dt.datetime.fromisoformat(text).timestamp()
    return seconds / 1000 if name == _MILLISECONDS else seconds


def _find(values: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if values.get(name) not in (None, "")), None)
