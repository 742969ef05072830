"""``--speed published``: the engine's own steps, on a clock without waiting, take the published times."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from inf2kit.catalog.tables import INPUT_TOKENS, LENGTHS, published_tables
from inf2kit.errors import Inf2KitError, LocalEndpointError
from inf2kit.presets import Preset, load_preset
from inf2kit.rehearsal.local.speed import speed_variables
from inf2kit.serving import variables
from inf2kit.serving.engine.backend.simulated import SimulatedBackend
from inf2kit.serving.engine.detokenizer import TokenDecoder
from inf2kit.serving.engine.request import Request, RequestGroup
from inf2kit.serving.engine.scheduler import Scheduler
from inf2kit.serving.shapes import StaticShapes
from inf2kit.serving.wire import Parameters
from tests.helpers.calibrations import CALIBRATION


class NoText(TokenDecoder):
    def decode(self, _: Sequence[int]) -> str:
        return ""


class WithoutWaiting(SimulatedBackend):
    """The simulated backend on a clock that only its own steps move."""

    now = 0.0

    def _now(self) -> float:
        return self.now

    def _sleep(self, seconds: float) -> None:
        self.now += seconds


class Engine:
    """A scheduler above the simulated backend, with the environment of a container."""

    def __init__(self, preset: Preset, environment: dict[str, str], folder: Path) -> None:
        (folder / "config.json").write_text(json.dumps({"vocab_size": 4}), encoding="utf-8")
        numbers: dict[str, Any] = {
            name.removeprefix(variables.SIMULATED_PREFIX).lower(): variables.read_number(environment, name)
            for name in environment
            if name.startswith(variables.SIMULATED_PREFIX)
        }
        self.rows = preset.shapes.batch_size
        shapes = StaticShapes.resolve(self.rows, preset.shapes.sequence_length)
        self.backend = WithoutWaiting(folder, shapes, **numbers)
        self.backend.load()
        self._scheduler = Scheduler(self.backend, NoText(), frozenset(), queue_size=self.rows)

    def call_s(self, input_tokens: int, new_tokens: int, rows: int | None = None) -> float:
        """Seconds that a call takes, with the same prompt in each row."""
        ended: list[int] = []
        began, group = self.backend.now, RequestGroup()
        requests = [
            Request(
                [1] * input_tokens,
                Parameters(max_new_tokens=new_tokens, ignore_eos=True),
                new_tokens,
                deadline=float("inf"),
                on_token=lambda *_: None,
                on_end=lambda count, *_: ended.append(count),
                on_error=lambda error: pytest.fail(str(error)),
                group=group,
            )
            for _ in range(rows or self.rows)
        ]
        self._scheduler.submit(requests)
        while len(ended) < len(requests):
            self._scheduler.step()
        assert ended == [new_tokens] * len(requests)
        return self.backend.now - began


@pytest.mark.parametrize("name", sorted(published_tables()))
def test_the_published_tables_come_back_as_they_were_printed(name: str, tmp_path: Path) -> None:
    preset, tables = load_preset(name), published_tables()[name]
    engine = Engine(preset, speed_variables("published", preset), tmp_path)
    encoding_s = [engine.call_s(length, 1) for length in LENGTHS]
    end_to_end_s = [engine.call_s(INPUT_TOKENS, length) for length in LENGTHS]
    assert encoding_s == pytest.approx(tables.encoding_s, rel=0.001)
    assert [round(seconds, 1) for seconds in end_to_end_s] == list(tables.end_to_end_s)
    throughput = [engine.rows * (INPUT_TOKENS + n) / s for n, s in zip(LENGTHS, end_to_end_s, strict=True)]
    assert [round(rate) for rate in throughput] == list(tables.throughput)


def test_a_calibration_gives_its_own_times(tmp_path: Path) -> None:
    calibration = dataclasses.replace(
        CALIBRATION,
        prefill_tokens=(128, 1024),
        prefill_s=(0.1, 0.8),
        step_s=0.01,
        row_step_s=0.002,
        stall_s=0.005,
    )
    calibration.write(tmp_path / "mine.toml")
    preset = load_preset("llama2-7b-throughput")
    engine = Engine(preset, speed_variables(str(tmp_path / "mine.toml"), preset), tmp_path)
    # A prompt half-way between two lengths; then nine steps of one row, the first of them after a prefill.
    assert engine.call_s(576, 10, rows=1) == pytest.approx(0.45 + 9 * 0.012 + 0.005)
    # Shorter than the shortest and longer than the longest.
    assert engine.call_s(8, 1, rows=1) == pytest.approx(0.1)
    assert engine.call_s(1152, 1, rows=1) == pytest.approx(0.9)


def test_the_tokens_are_called_made_up(tmp_path: Path) -> None:
    preset = load_preset("llama2-7b-budget")
    notice = Engine(preset, speed_variables("published", preset), tmp_path).backend.notice
    assert notice is not None
    assert notice.startswith("simulated: made-up tokens at a speed that was set")


def test_a_speed_that_is_not_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LocalEndpointError, match=r"have no preset .tinyllama.*, only llama2-13b-latency"):
        speed_variables("published", load_preset("tinyllama-1.1b-starter"))
    with pytest.raises(Inf2KitError, match=r"none\.toml is no calibration"):
        speed_variables(str(tmp_path / "none.toml"), load_preset("llama2-7b-budget"))


def test_a_misspelt_length_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="prefil_256_seconds"):
        SimulatedBackend(tmp_path, StaticShapes.resolve(1, 64), prefil_256_seconds=1.0)
