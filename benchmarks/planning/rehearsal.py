"""The rehearsal on this machine: a local endpoint under load, and what the plan said of it before."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

_SAVED = Path(__file__).with_name("data") / "rehearsal.json"


@dataclass(frozen=True)
class Cell:
    """One load on the endpoint.

    Attributes:
        preset: The preset's name.
        machine: The processor.
        date: The day.
        lengths: The lengths of prompts and answers, in words.
        remark: What else is to be known about the measurement.
        demand: The load, in words.
        is_open: Whether calls came at random times.
        load: The predicted share of the largest rate.
        measured: ``latency_p50``, ``latency_p95``, ``ttft_p50``, ``ttft_p95`` in seconds, ``tokens`` per
            second.
        predicted: The same.
    """

    preset: str
    machine: str
    date: str
    lengths: str
    remark: str
    demand: str
    is_open: bool
    load: float
    measured: dict[str, float]
    predicted: dict[str, float]


def saved() -> list[Cell]:
    """The cells of the last measurement; none if there was none."""
    if not _SAVED.exists():
        return []
    return [Cell(**cell) for cell in json.loads(_SAVED.read_text(encoding="utf-8"))]
