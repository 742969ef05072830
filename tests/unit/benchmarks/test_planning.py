"""Published runs under load: a few of each kind, predicted as docs/planning.md promises."""

from __future__ import annotations

import dataclasses

import pytest

from benchmarks.planning import drivers, runs, validation
from benchmarks.planning.runs import Run


def find(version: str, sampling: str = "device", note: str = "") -> tuple[Run, Run]:
    """A single caller and the loaded run after it."""
    for single, *loaded in runs.sessions():
        is_match = version in single.version and single.sampling == sampling and note in single.note
        if is_match and single.engines == 1 and single.is_vllm:
            return single, loaded[0]
    raise AssertionError(version)


def errors(run: Run, predicted: drivers.Figures) -> dict[str, float]:
    comparison = validation.Comparison(run, "", predicted, None, None, 0.0)
    return {name: abs(error) for name, error in comparison.errors("alone").items()}


@pytest.mark.parametrize("note", ["standard", "chunked"])
def test_a_closed_loop_is_predicted_from_its_single_caller(note: str) -> None:
    single, loaded = find("2026-08-25", note=note)
    differences = errors(loaded, validation.predict(loaded, validation.alone(single), seeds=2))
    assert differences["latency"] < 0.05
    assert differences["tokens"] < 0.05
    assert differences["itl"] < 0.10
    assert differences["ttft"] < 0.15


def test_sampling_on_the_host_needs_a_loaded_run() -> None:
    single, loaded = find("2026-03-03", "host", "standard")
    other_single, other = find("2026-03-03", "host", "chunked")
    times = validation.alone(single)
    assert errors(loaded, validation.predict(loaded, times, seeds=2))["latency"] > 0.2
    learnt = validation.learn(other, validation.alone(other_single), times)
    assert learnt.row_step_s > 0.001
    assert errors(loaded, validation.predict(loaded, learnt, seeds=2))["latency"] < 0.08


def test_guidellm_drops_what_has_no_answer_after_its_phase() -> None:
    single, loaded = find("2026-08-25", note="standard")
    engine_times = validation.alone(single)
    short = validation.predict(loaded, engine_times, seeds=1)
    endless = validation.predict(dataclasses.replace(loaded, calls=10_000), engine_times, seeds=1)
    assert endless.latency > 0.95 * short.latency
    assert endless.latency_p95 < 120


def test_every_published_run_has_a_session() -> None:
    sessions = runs.sessions()
    assert sum(len(session) for session in sessions) > 150
    assert all(run.rows > 0 and run.engines > 0 for session in sessions for run in session)
    assert len(runs.pool()) > 300
