"""The file of a cloud's settings: written by this release, by another one, or damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from inf2kit.rehearsal.cloud.settings import CloudSettings


@pytest.fixture
def settings(tmp_path: Path) -> CloudSettings:
    folder = tmp_path / "cloud"
    return CloudSettings(folder, tmp_path / "inf2cloud-x", 4570, "us-east-1", 2.0, "KEY", pid=7)


def read(settings: CloudSettings, **changed: Any) -> CloudSettings | None:
    settings.write()
    path = settings.folder / "cloud.json"
    values = {**json.loads(path.read_text(encoding="utf-8")), **changed}
    path.write_text(json.dumps(values), encoding="utf-8")
    return CloudSettings.read(settings.folder)


def test_settings_are_read_as_they_were_written(settings: CloudSettings) -> None:
    assert read(settings) == settings
    assert read(settings, of_another_release=[1]) == settings


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("pid", "7"),
        ("pid", None),
        ("port", "4570"),
        ("minute_s", "2"),
        ("minute_s", True),
        ("region", 1),
        ("access_key", None),
        ("folder", None),
        ("folder", "/home/somebody"),
        ("run_dir", "/run"),
        ("run_dir", 3),
    ],
)
def test_damaged_settings_are_none(settings: CloudSettings, field: str, value: object) -> None:
    """Nothing is done with them: ``down`` would delete their folders."""
    assert read(settings, **{field: value}) is None
