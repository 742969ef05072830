"""The rehearsal on this machine: a local endpoint under load, and what the plan says of it from a
calibration."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import inf2kit
from inf2kit.bench.machine import describe_processor
from inf2kit.planning import basis
from inf2kit.planning.demand import Demand, Lengths
from inf2kit.planning.plan import Situation, engine_model
from inf2kit.planning.prediction import Objectives, Prediction, Predictor

_SAVED = Path(__file__).with_name("data") / "rehearsal.json"
PRESET = "smollm2-135m-local"
_INPUT, _NEW = "32-96", "16-48"
#: Shares of the largest rate, and multiples of the rows.
_LOADS = (0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 1.05)
_CALLERS = (0.125, 0.25, 0.5, 1.0, 1.5, 2.0)
_METRICS = {"latency": "request_latency", "ttft": "time_to_first_token"}


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
        calls: Number of calls that count.
        failed: Number of them that failed.
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
    calls: int
    failed: int
    measured: dict[str, float]
    predicted: dict[str, float]


def saved() -> list[Cell]:
    """The cells of the last measurement; none if there was none."""
    if not _SAVED.exists():
        return []
    return [Cell(**cell) for cell in json.loads(_SAVED.read_text(encoding="utf-8"))]


def measure(seconds: float, progress: Callable[[str], None]) -> list[Cell]:
    """Start the endpoint, calibrate it, put the loads on it, and save the cells.

    Args:
        seconds: Duration of each load.
        progress: Called with a sentence before each step.
    """
    name = "planning"
    progress("starting the endpoint")
    _run("local", "up", PRESET, "--name", name)
    try:
        with tempfile.TemporaryDirectory() as folder:
            lengths = ("--input-tokens", _INPUT, "--new-tokens", _NEW)
            progress("calibrating")
            _run("bench", "load", name, "--calibrate", *lengths, "--quiet", "--output", f"{folder}/first")
            predictor = _predictor()
            rates = [round(share * predictor.largest_rate, 3) for share in _LOADS]
            callers = [max(1, round(share * predictor.engine.rows)) for share in _CALLERS]
            progress(f"measuring {len(rates)} rates and {len(callers)} closed loops, {seconds:g} s each")
            before = os.getloadavg()[1]
            _run(
                *("bench", "load", name, *lengths, "--quiet", "--output", f"{folder}/loads"),
                *("--rate", ",".join(map(str, rates)), "--callers", ",".join(map(str, callers))),
                *("--seconds", str(seconds), "--warm-up", str(predictor.engine.rows)),
            )
            report = json.loads(Path(folder, "loads", "load.json").read_text(encoding="utf-8"))
    finally:
        _run("local", "down", name)
    remark = f"Other programs ran on the machine meanwhile: its load average was {before:.1f} before."
    cells = [_cell(cell, predictor, remark) for cell in report["cells"]]
    _SAVED.write_text(json.dumps([dataclasses.asdict(cell) for cell in cells], indent=1) + "\n")
    return cells


def _predictor() -> Predictor:
    preset = inf2kit.load_preset(PRESET)
    demand = Demand.of_lengths(Lengths.parse(_INPUT), Lengths.parse(_NEW), rate=1.0)
    situation = Situation(demand, Objectives())
    times = basis.find(preset)
    return Predictor(engine_model(preset, times, situation), preset.shapes, demand, Objectives(), calls=2000)


def _cell(cell: dict[str, Any], predictor: Predictor, remark: str) -> Cell:
    is_open = cell["load"]["kind"] == "rate"
    value, metrics = cell["load"]["value"], cell["metrics"]
    prediction = predictor.at_rate(value, 1) if is_open else predictor.with_callers(round(value), 1)
    measured = {
        f"{name}_p{percent}": metrics[metric]["percentiles"][str(percent)]
        for name, metric in _METRICS.items()
        for percent in (50, 95)
    }
    measured["tokens"] = metrics["output_token_throughput"]["avg"]
    return Cell(
        PRESET,
        describe_processor(),
        dt.datetime.now(dt.timezone.utc).date().isoformat(),
        f"{_INPUT} input and {_NEW} new tokens",
        remark,
        f"{value:g} a second" if is_open else f"{value:g} callers",
        is_open,
        prediction.load,
        round(metrics["request_count"]["avg"]),
        round(metrics["error_request_count"]["avg"]),
        measured,
        _predicted(prediction),
    )


def _predicted(prediction: Prediction) -> dict[str, float]:
    figures = {
        f"{name}_p{percent}": getattr(prediction, metric)[f"p{percent}"].value
        for name, metric in _METRICS.items()
        for percent in (50, 95)
    }
    return {**figures, "tokens": prediction.output_token_throughput.value}


def _run(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "inf2kit.cli", *arguments], check=True, stdin=subprocess.DEVNULL)
