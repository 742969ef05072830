"""``bench tables`` through the whole stack: an endpoint at a speed of its own, with room for some cells."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from inf2kit.bench.tables.aggregate import aggregate
from inf2kit.bench.tables.samples import Measurement
from inf2kit.cli.commands import main
from inf2kit.rehearsal.local.state import EndpointState
from tests.helpers.calibrations import CALIBRATION
from tests.helpers.simulated_preset import write_preset

_NAME = "timed"


@pytest.fixture(scope="module")
def timed(start: Callable[..., EndpointState], tmp_path_factory: pytest.TempPathFactory) -> EndpointState:
    """Two rows of 520 tokens; a prompt takes 2 ms and a step 1 ms."""
    folder = tmp_path_factory.mktemp("timed")
    preset = write_preset(folder / f"{_NAME}.toml", rows=2, sequence_length=520)
    calibration = dataclasses.replace(
        CALIBRATION,
        prefill_tokens=(256,),
        prefill_s=(0.002,),
        step_s=0.001,
        row_step_s=0.0,
        stall_s=0.0,
    )
    calibration.write(folder / "calibration.toml")
    return start(preset, name=_NAME, speed=str(folder / "calibration.toml"))


def test_the_tables_of_an_endpoint(timed: EndpointState, tmp_path: Path) -> None:
    arguments = ["bench", "tables", timed.name, "--runs", "2", "--no-charts", "--output", str(tmp_path)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    measurement = Measurement.read(tmp_path / "tables.json")
    assert (measurement.preset, measurement.batch_size) == (_NAME, 2)
    assert "simulated: made-up tokens at a speed that was set, not from a model" in measurement.notice
    assert len(measurement.round_trips_s) == 7
    tables = aggregate(measurement)
    assert [entry.good for entry in tables.encoding] == [2, 2, 0]
    assert [entry.good for entry in tables.end_to_end] == [2, 0, 0]
    assert tables.encoding[2].remarks == ("too short: a prompt may have 519 tokens",)
    assert tables.end_to_end[1].remarks == ("too short: a row has 520 tokens",)
    # Steps that did not wait would take less.
    entry = tables.end_to_end[0]
    assert entry.min is not None
    assert entry.min > 0.255


def test_a_long_call_is_streamed_by_every_row_at_once(timed: EndpointState) -> None:
    from inf2kit import Endpoint
    from inf2kit.bench.tables.callers import EndpointCaller
    from inf2kit.bench.tables.protocol import Cell

    results = EndpointCaller(Endpoint(timed.name)).call("The sea is", 2, Cell(3, 32), stream=True)
    assert [result.generated_tokens for result in results] == [32, 32]
