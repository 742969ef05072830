"""Settings of the engine: a broken manifest and wrong variables are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from inf2kit.errors import ModelDirectoryError
from inf2kit.serving.settings import Settings


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "no inf2kit model package"),
        ("{", "cannot be read"),
        ("[]", "not a JSON object"),
        ('{"format": 1}', "lacks 'preset'"),
    ],
)
def test_a_directory_without_a_whole_manifest_is_refused(
    tmp_path: Path, content: str | None, sentence: str
) -> None:
    if content is not None:
        (tmp_path / "inf2kit.json").write_text(content, encoding="utf-8")
    with pytest.raises(ModelDirectoryError, match=sentence):
        Settings.read(tmp_path, {})


def test_a_wrong_setting_is_refused(model_dir: Path) -> None:
    with pytest.raises(ModelDirectoryError, match="could not convert string to float"):
        Settings.read(model_dir, {"INF2KIT_DEADLINE_SECONDS": "soon"})
    with pytest.raises(ModelDirectoryError, match="INF2KIT_STALL_SECONDS is 1 and must be at least 3"):
        Settings.read(model_dir, {"INF2KIT_STALL_SECONDS": "1"})
