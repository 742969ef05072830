"""What a plan rests on: the user's measurement, else a published one of the same shape, else the roofline.

The errors to expect are those of docs/planning.md, which compares predictions with measurements.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from inf2kit import paths
from inf2kit.catalog.calibration import Calibration
from inf2kit.errors import Inf2KitError, PlanError
from inf2kit.planning import published, roofline
from inf2kit.planning.times import ServiceTimes
from inf2kit.presets import Preset

_CALIBRATE = "measure it: inf2kit bench load ENDPOINT --calibrate"


@dataclass(frozen=True)
class Errors:
    """How much slower real calls may be than predicted ones, as shares.

    Attributes:
        latency: Of a call, where callers wait for their answers.
        open_latency: Of a call that comes at a random time.
        first_token: Of the time to the first token.
        throughput: How many fewer tokens may be generated per second at saturation.
    """

    latency: float
    open_latency: float
    first_token: float
    throughput: float


#: A loaded run of the same endpoint; a single caller's run or one batch of it; the sizes alone.
MEASURED = Errors(latency=0.05, open_latency=0.15, first_token=0.15, throughput=0.05)
PUBLISHED = Errors(latency=0.10, open_latency=0.25, first_token=0.20, throughput=0.10)
ESTIMATED = Errors(latency=0.30, open_latency=0.45, first_token=0.30, throughput=0.30)


@dataclass(frozen=True)
class Basis:
    """The times that a plan rests on.

    Attributes:
        kind: ``calibration``, ``published`` or ``roofline``.
        source: Where they come from, for people.
        times: The times.
        errors: The errors to expect.
        notice: What is simulated; empty if nothing is.
    """

    kind: str
    source: str
    times: ServiceTimes
    errors: Errors
    notice: str = ""


def find(preset: Preset, *, sampling: str = "host", calibration: Path | None = None) -> Basis:
    """Find the best times that are known of a preset.

    Args:
        preset: The preset, on one of its instance types.
        sampling: Where tokens are chosen: ``host`` or ``device``.
        calibration: A file of ``bench load --calibrate``, which may be of a rehearsal. By default the
            preset's own, if there is one; one of a rehearsal says nothing about a device, and is passed over.

    Raises:
        PlanError: nothing is known that would do, or the calibration is of another shape.
        Inf2KitError: the calibration cannot be read.
    """
    if calibration is not None:
        return _read(calibration, preset)
    if own := _own(preset):
        return own
    name, compute, shapes = preset.name, preset.compute, preset.shapes
    if compute.backend != "neuron":
        raise PlanError(f"{name} runs on this machine, whose speed nobody has published; {_CALIBRATE}")
    engine = published.find(
        preset.model.id,
        compute.tensor_parallel_size,
        shapes.batch_size,
        shapes.sequence_length,
        sampling,
    )
    if engine is not None:
        source = (
            f"published figures of the same model and shape ({engine.model}, optimum-neuron "
            f"{engine.version}, {engine.date}, {engine.measured}; {engine.source})"
        )
        return Basis("published", source, engine.times, PUBLISHED)
    if sampling == "host" and shapes.batch_size > 1:
        return _with_rows_of_the_host(find(preset, sampling="device"), preset)
    return Basis(
        "roofline",
        "the roofline: the model's and the device's sizes, as nobody has published figures of this shape",
        roofline.estimate(preset),
        ESTIMATED,
    )


def _with_rows_of_the_host(basis: Basis, preset: Preset) -> Basis:
    """Add to the times of a device that chooses tokens what the host would take for each row.

    It may take twice as long, as in older published runs, so its share of a step is added to every error.
    """
    row_s, rows = roofline.host_row_s(preset), preset.shapes.batch_size
    times = dataclasses.replace(basis.times, row_step_s=row_s)
    share = rows * row_s / times.step(rows)
    errors = Errors(
        **{name: min(error + share, 0.95) for name, error in dataclasses.asdict(basis.errors).items()}
    )
    source = (
        f"{basis.source}; and {1e3 * row_s:.2f} ms a row for tokens chosen on the host, by the vocabulary"
    )
    return Basis(basis.kind, source, times, errors)


def _own(preset: Preset) -> Basis | None:
    """The user's own measurement of a preset; not that of its rehearsal, if it is for a device."""
    try:
        path = paths.calibration(preset.name)
    except Inf2KitError:  # nobody's home folder is known
        return None
    if not path.exists():
        return None
    own = _read(path, preset)
    return None if own.notice and preset.compute.backend == "neuron" else own


def _read(path: Path, preset: Preset) -> Basis:
    calibration = Calibration.read(path)
    shape = (calibration.batch_size, calibration.sequence_length)
    if shape != (preset.shapes.batch_size, preset.shapes.sequence_length):
        raise PlanError(
            f"{path} was measured with {shape[0]} rows of {shape[1]} tokens, and {preset.name} has "
            f"{preset.shapes.batch_size} rows of {preset.shapes.sequence_length}; {_CALIBRATE}"
        )
    times = ServiceTimes(
        calibration.prefill_tokens,
        calibration.prefill_s,
        calibration.step_s,
        calibration.row_step_s,
        calibration.stall_s,
        calibration.round_trip_s,
    )
    source = f"{path}, measured on {calibration.measured} on {calibration.machine}"
    return Basis("calibration", source, times, MEASURED, calibration.notice)
