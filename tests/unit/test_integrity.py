"""The engine loads no file that differs from the one that was packaged."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import packages
import pytest

import inf2kit
from engine.integrity import check_files
from engine.lifetime import REASON_FILE, TERMINAL
from engine.settings import FORMAT, Settings
from inf2kit.errors import ModelDirectoryError
from inf2kit.package import gather, manifest

SHARD = "model-00002-of-00002.safetensors"


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    source = packages.weights(tmp_path / "weights")
    contents = gather(inf2kit.load_preset("smollm2-135m-local"), source)
    contents.materialise(tmp_path / "model")
    return tmp_path / "model"


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def test_a_whole_package_is_read_once(model_dir: Path, tmp_path: Path) -> None:
    check_files(model_dir, tmp_path)
    flip(model_dir / SHARD)
    check_files(
        model_dir, tmp_path
    )  # an engine that is started again in the same container need not look again
    (tmp_path / "another").mkdir()
    with pytest.raises(ModelDirectoryError, match="was changed"):
        check_files(model_dir, tmp_path / "another")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (flip, f"{SHARD} was changed, its sha256 differs"),
        (Path.unlink, f"{SHARD} is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), f"{SHARD} has .* bytes instead of"),
    ],
)
def test_damage_is_named(model_dir: Path, tmp_path: Path, damage: object, said: str) -> None:
    damage(model_dir / SHARD)  # type: ignore[operator]
    with pytest.raises(ModelDirectoryError, match=said):
        check_files(model_dir, tmp_path)


def test_a_manifest_of_another_format_is_refused(model_dir: Path) -> None:
    path = model_dir / "inf2kit.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"format": 1', '"format": 2'), encoding="utf-8")
    with pytest.raises(ModelDirectoryError, match="is of format 2, this engine reads format 1"):
        Settings.read(model_dir, {})
    assert manifest.FORMAT == FORMAT


def test_the_engine_ends_with_that_sentence_and_is_not_to_be_started_again(
    model_dir: Path, tmp_path: Path
) -> None:
    flip(model_dir / SHARD)
    environment = {
        **os.environ,
        "INF2KIT_RUN_DIR": str(tmp_path / "run"),
        "PYTHONPATH": str(model_dir / "code"),
    }
    command = [sys.executable, "-m", "engine.server", str(model_dir)]
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
    # The engine ends with its parent, which it knows by the pipe on its standard input.
    with subprocess.Popen(command, env=environment, text=True, **pipes) as process:  # type: ignore[call-overload]
        assert process.wait(timeout=120) == TERMINAL
        said = process.stderr.read()
    reason = (tmp_path / "run" / REASON_FILE).read_text(encoding="utf-8")
    assert reason == (
        f"the package in {model_dir} is damaged: {SHARD} was changed, its sha256 differs; "
        "make the package again and deploy that"
    )
    assert "Traceback" not in said
