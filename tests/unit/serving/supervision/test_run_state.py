"""The files by which the processes of an endpoint know each other's state."""

from __future__ import annotations

from pathlib import Path

import pytest

from inf2kit.serving.supervision.run_state import (
    SupervisorState,
    delete_reason,
    mark_opened,
    read_reason,
    was_opened,
    write_reason,
)


def test_the_supervisors_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert SupervisorState.read(tmp_path) is None
    state = SupervisorState("failed", "no weights", restarts=3, held=1)
    state.write(tmp_path)
    assert SupervisorState.read(tmp_path) == state


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"state": "ready"}'])
def test_a_damaged_state_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "supervisor.json").write_text(text, encoding="utf-8")
    assert SupervisorState.read(tmp_path) is None


def test_a_state_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    SupervisorState("ready", None, 0, 0).write(tmp_path / "missing")
    mark_opened(tmp_path / "missing")


def test_a_reason_lasts_until_it_is_deleted(tmp_path: Path) -> None:
    assert read_reason(tmp_path) == "the engine could not write why; standard error has it"
    write_reason(tmp_path, "no weights")
    assert read_reason(tmp_path) == "no weights"
    delete_reason(tmp_path)
    delete_reason(tmp_path)
    assert "standard error has it" in read_reason(tmp_path)


def test_the_first_gateway_marks_the_port_as_opened(tmp_path: Path) -> None:
    assert not was_opened(tmp_path)
    mark_opened(tmp_path)
    assert was_opened(tmp_path)
