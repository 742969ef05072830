"""A calibration's file: written, read again, and refused where it is none."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from inf2kit import paths
from inf2kit.catalog.calibration import Calibration
from inf2kit.errors import Inf2KitError
from tests.helpers.calibrations import CALIBRATION


def test_what_is_saved_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INF2KIT_HOME", str(tmp_path))
    assert Calibration.read(CALIBRATION.save()) == CALIBRATION
    assert paths.calibration(CALIBRATION.preset).is_relative_to(tmp_path)


@pytest.mark.parametrize("content", ["", "not toml", "preset = 1", "prefill_tokens = 3\nprefill_s = [1]"])
def test_another_file_is_refused_by_name(content: str, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(Inf2KitError, match=r"c\.toml is no calibration"):
        Calibration.read(path)


@pytest.mark.parametrize(
    "change",
    [
        {"prefill_tokens": (768, 256)},
        {"prefill_tokens": (256,)},
        {"prefill_tokens": (), "prefill_s": ()},
        {"step_s": 0.0, "row_step_s": 0.0},
        {"batch_size": 0},
        {"batch_size": "four"},
        {"step_s": float("nan")},
        {"prefill_s": (0.25, float("inf"))},
        {"row_step_s": -0.001},
        {"round_trip_s": -0.001},
    ],
)
def test_figures_that_no_endpoint_has_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must"):
        dataclasses.replace(CALIBRATION, **change)  # type: ignore[arg-type]
