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
from inf2kit import paths
from inf2kit.bench.machine import describe_processor
from inf2kit.catalog.calibration import Calibration
from inf2kit.planning import basis
from inf2kit.planning.demand import Demand, Lengths
from inf2kit.planning.plan import Situation, engine_model
from inf2kit.planning.prediction import Objectives, Prediction, Predictor

_DATA = Path(__file__).with_name("data")
#: Shares of the largest rate, and multiples of the rows.
_LOADS = (0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 1.05)
_CALLERS = (0.25, 0.5, 1.0, 1.5, 2.0)
_METRICS = {"latency": "request_latency", "ttft": "time_to_first_token"}
#: The times of the simulated backend: some of a small device's, so that there are many calls in a minute.
_SPEED = Calibration(
    preset="llama2-7b-throughput",
    batch_size=4,
    sequence_length=2048,
    engines=1,
    on_device_sampling=False,
    prefill_tokens=(128,),
    prefill_s=(0.06,),
    step_s=0.016,
    row_step_s=0.001,
    stall_s=0.006,
    new_tokens=32.0,
    new_tokens_deviation=9.2,
    round_trip_s=0.0,
    measured=dt.date(2026, 11, 26),
    machine="the simulated backend",
    notice="simulated",
)


@dataclass(frozen=True)
class Endpoint:
    """What is measured.

    Attributes:
        preset: The preset.
        input_tokens: Lengths of the prompts.
        new_tokens: Lengths of the answers.
        speed: The times of the simulated backend; None to measure those of this machine's CPU.
    """

    preset: str
    input_tokens: str
    new_tokens: str
    speed: Calibration | None = None


ENDPOINTS = {
    "cpu": Endpoint("smollm2-135m-local", "16-48", "8-24"),
    "simulated": Endpoint("llama2-7b-throughput", "32-96", "16-48", _SPEED),
}


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


def saved(kind: str) -> list[Cell]:
    """The cells of the last measurement of an endpoint; none if there was none."""
    path = _DATA / f"rehearsal-{kind}.json"
    if not path.exists():
        return []
    return [Cell(**cell) for cell in json.loads(path.read_text(encoding="utf-8"))]


def measure(kind: str, seconds: float, progress: Callable[[str], None]) -> list[Cell]:
    """Start an endpoint, calibrate it, put the loads on it, and save the cells.

    Args:
        kind: A key of ``ENDPOINTS``.
        seconds: Duration of each load.
        progress: Called with a sentence before each step.
    """
    endpoint, name = ENDPOINTS[kind], f"planning-{kind}"
    with tempfile.TemporaryDirectory() as folder:
        speed: list[str] = []
        calibration = Path(folder, "calibration.toml")
        if endpoint.speed:
            endpoint.speed.write(calibration)
            speed = ["--speed", str(calibration)]
        progress("starting the endpoint")
        _run("local", "up", endpoint.preset, "--name", name, *speed)
        try:
            lengths = ("--input-tokens", endpoint.input_tokens, "--new-tokens", endpoint.new_tokens)
            if not endpoint.speed:
                progress("calibrating")
                first = ("--calibrate", "--seconds", str(seconds), "--output", f"{folder}/first")
                _run("bench", "load", name, *lengths, *first, "--quiet")
                calibration = paths.calibration(endpoint.preset)
            predictor = _predictor(endpoint, calibration)
            rates = [round(share * predictor.largest_rate, 3) for share in _LOADS]
            callers = [max(1, round(share * predictor.engine.rows)) for share in _CALLERS]
            progress(f"measuring {len(rates)} rates and {len(callers)} closed loops, {seconds:g} s each")
            _run(
                *("bench", "load", name, *lengths, "--quiet", "--output", f"{folder}/loads"),
                *("--rate", ",".join(map(str, rates)), "--callers", ",".join(map(str, callers))),
                *("--seconds", str(seconds), "--warm-up", str(predictor.engine.rows)),
            )
            # The average of five minutes: that of fifteen would count what ran before.
            busy = os.getloadavg()[1]
            report = json.loads(Path(folder, "loads", "load.json").read_text(encoding="utf-8"))
        finally:
            _run("local", "down", name)
    remark = (
        f"Each load lasted {seconds:g} s, so that few calls came at low rates, and none above the largest "
        "rate had settled."
    )
    if busy > (os.cpu_count() or 1):
        remark += f" Other programs ran on the {os.cpu_count()} processors: the load average was {busy:.0f}."
    cells = [_cell(cell, endpoint, predictor, remark) for cell in report["cells"]]
    document = json.dumps([dataclasses.asdict(cell) for cell in cells], indent=1)
    (_DATA / f"rehearsal-{kind}.json").write_text(f"{document}\n", encoding="utf-8")
    return cells


def _predictor(endpoint: Endpoint, calibration: Path) -> Predictor:
    preset = inf2kit.load_preset(endpoint.preset)
    lengths = Lengths.parse(endpoint.input_tokens), Lengths.parse(endpoint.new_tokens)
    demand = Demand.of_lengths(*lengths, rate=1.0)
    engine = engine_model(
        preset, basis.find(preset, calibration=calibration), Situation(demand, Objectives(), streamed=True)
    )
    return Predictor(engine, preset.shapes, demand, Objectives(), calls=2000)


def _cell(cell: dict[str, Any], endpoint: Endpoint, predictor: Predictor, remark: str) -> Cell:
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
        endpoint.preset,
        describe_processor(),
        dt.datetime.now(dt.timezone.utc).date().isoformat(),
        f"{endpoint.input_tokens} input and {endpoint.new_tokens} new tokens",
        remark,
        f"{value:g} a second" if is_open else f"{value:g} caller{'s' if value > 1 else ''}",
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
