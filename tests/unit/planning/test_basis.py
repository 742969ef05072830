"""What a plan rests on: calibration, published figures, roofline, and what the host adds for each row."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import inf2kit
from inf2kit.errors import PlanError
from inf2kit.planning import basis, published, roofline
from tests.helpers import calibrations

PRESET = inf2kit.load_preset("llama2-7b-throughput")
CALIBRATION = dataclasses.replace(
    calibrations.CALIBRATION,
    prefill_tokens=(64, 512),
    prefill_s=(0.1, 0.2),
    step_s=0.01,
    row_step_s=0.001,
    notice="",
)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INF2KIT_HOME", str(tmp_path))


def test_the_users_own_measurement_comes_before_published_figures(tmp_path: Path) -> None:
    assert basis.find(PRESET).kind == "published"
    path = CALIBRATION.save()
    own = basis.find(PRESET)
    assert own.kind == "calibration"
    assert str(path) in own.source
    assert own.times.step(4) == pytest.approx(0.014)
    assert own.times.prefill(288) == pytest.approx(0.15)
    other = tmp_path / "other.toml"
    dataclasses.replace(CALIBRATION, step_s=0.02).write(other)
    assert basis.find(PRESET, calibration=other).times.step_s == 0.02


def test_a_rehearsals_calibration_says_nothing_about_a_device_unless_it_is_named() -> None:
    path = dataclasses.replace(CALIBRATION, machine="a processor", notice="simulated").save()
    assert basis.find(PRESET).kind == "published"
    assert basis.find(PRESET, calibration=path).notice == "simulated"


def test_a_calibration_of_another_shape_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wide.toml"
    dataclasses.replace(CALIBRATION, batch_size=32).write(path)
    with pytest.raises(PlanError, match="32 rows of 2048 tokens, and llama2-7b-throughput has 4 rows"):
        basis.find(PRESET, calibration=path)


def test_without_a_loaded_run_the_host_adds_its_time_for_each_row_and_its_share_to_the_errors() -> None:
    for name, kind, rows, vocabulary in (
        ("tinyllama-1.1b-starter", "roofline", 4, 32_000),
        # Published are its step with one row, and tokens chosen on the device.
        ("deepseek-r1-llama-8b-budget", "published", 4, 128_256),
    ):
        preset = inf2kit.load_preset(name)
        host, device = (basis.find(preset, sampling=sampling) for sampling in ("host", "device"))
        assert (host.kind, device.kind) == (kind, kind)
        added_s = rows * 0.000_87 * vocabulary / 128_256
        assert host.times.step(rows) - device.times.step(rows) == pytest.approx(added_s)
        assert "ms a row for tokens chosen on the host" in host.source
        share = added_s / host.times.step(rows)
        assert host.errors.latency - device.errors.latency == pytest.approx(share)


def test_what_the_host_adds_for_a_row_is_within_what_was_published_of_it() -> None:
    """1.7 ms in March 2026, 0.8 and 1.0 in August."""
    preset = inf2kit.load_preset("llama3.1-8b-fleet")
    rows = [engine.times.row_step_s for engine in published.engines() if engine.sampling == "host"]
    assert min(rows) < roofline.host_row_s(preset) < max(rows)


@pytest.mark.parametrize("name", [name for name in inf2kit.preset_names() if "-local" not in name])
def test_every_preset_for_a_device_can_be_planned_with(name: str) -> None:
    preset = inf2kit.load_preset(name)
    times, errors = basis.find(preset).times, basis.find(preset).errors
    assert errors.throughput < 0.6
    assert 0.004 < times.step(1) < 0.1


def test_a_single_callers_step_is_no_basis_for_sampling_on_the_host() -> None:
    shape = ("meta-llama/Llama-3.1-8B-Instruct", 8, 32, 4096)
    host, device = (published.find(*shape, sampling) for sampling in ("host", "device"))
    assert host is not None
    assert device is not None
    assert host.times.row_step_s > 0
    assert device.times.row_step_s == 0
    assert host.times.step(32) > 1.8 * device.times.step(32)


def test_this_machine_has_no_published_speed() -> None:
    with pytest.raises(PlanError, match="inf2kit bench load ENDPOINT --calibrate"):
        basis.find(inf2kit.load_preset("smollm2-135m-local"))


def test_published_figures_are_whole() -> None:
    engines = published.engines()
    assert len(engines) > 50
    for engine in engines:
        assert len(engine.times.prefill_tokens) == len(engine.times.prefill_s)
        assert list(engine.times.prefill_tokens) == sorted(set(engine.times.prefill_tokens))
        assert min(engine.times.prefill_s) > 0.05
        assert 0.004 < engine.times.step(1) < 0.1
        assert engine.source


def test_the_roofline_is_slower_for_more_rows_and_longer_prompts() -> None:
    shapes = PRESET.shapes
    wide = dataclasses.replace(PRESET, shapes=shapes.with_changes(batch_size=16))
    long = dataclasses.replace(PRESET, shapes=shapes.with_changes(sequence_length=4096))
    assert roofline.estimate(wide).step(16) > roofline.estimate(PRESET).step(4)
    assert roofline.estimate(long).prefill(100) > roofline.estimate(PRESET).prefill(100)
