"""The engine loads no file that differs from the one that was packaged."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import py_compile
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import inf2kit
from inf2kit.errors import ModelDirectoryError
from inf2kit.package import Manifest, collect, manifest
from inf2kit.serving.engine.integrity import check_files
from inf2kit.serving.settings import FORMAT, Settings
from inf2kit.serving.supervision.run_state import CANNOT_LOAD, read_reason
from tests.helpers import packages
from tests.helpers.servers import PATIENCE_S

SHARD = "model-00002-of-00002.safetensors"


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    source = packages.write_weights(tmp_path / "weights")
    contents = collect(inf2kit.load_preset("smollm2-135m-local"), source)
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
    ("damage", "message"),
    [
        (flip, f"{SHARD} was changed, its sha256 differs"),
        (Path.unlink, f"{SHARD} is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), f"{SHARD} has .* bytes instead of"),
    ],
)
def test_damage_is_named(model_dir: Path, tmp_path: Path, damage: object, message: str) -> None:
    damage(model_dir / SHARD)  # type: ignore[operator]
    with pytest.raises(ModelDirectoryError, match=message):
        check_files(model_dir, tmp_path)


def hash_based_pyc(model_dir: Path) -> None:
    """Bytecode that Python runs in the place of an untouched module, without looking at that one."""
    source = model_dir / "code/inference.py"
    other = model_dir.parent / "other.py"
    other.write_text("raise SystemExit('code that was never packaged')", encoding="utf-8")
    py_compile.compile(
        str(other),
        importlib.util.cache_from_source(str(source)),
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


def link_to_a_folder(model_dir: Path) -> None:
    (model_dir.parent / "elsewhere").mkdir()
    (model_dir / "code/elsewhere").symlink_to(model_dir.parent / "elsewhere")


@pytest.mark.parametrize(
    ("add", "name"),
    [
        (hash_based_pyc, r"code/__pycache__/inference\.cpython-\d+\.pyc"),
        (lambda path: (path / "pytorch_model.bin").touch(), "pytorch_model.bin"),
        (lambda path: (path / "adapter.json").touch(), "adapter.json"),
        (lambda path: (path / "code/sitecustomize.py").touch(), "code/sitecustomize.py"),
        (link_to_a_folder, "code/elsewhere"),
    ],
)
def test_what_the_manifest_does_not_name_is_refused_wherever_it_lies(
    model_dir: Path, tmp_path: Path, add: Callable[[Path], None], name: str
) -> None:
    add(model_dir)
    with pytest.raises(ModelDirectoryError, match=f"damaged: {name} is not part of it"):
        check_files(model_dir, tmp_path)


def test_a_whole_package_that_is_not_the_deployed_one_is_refused(model_dir: Path, tmp_path: Path) -> None:
    digest = Manifest.parse((model_dir / "inf2kit.json").read_bytes(), "here").digest
    check_files(model_dir, tmp_path, {"INF2KIT_PACKAGE_DIGEST": digest})
    # Its files agree with it, and they were compared before: the digest is compared all the same.
    other = 32 * "0"
    with pytest.raises(ModelDirectoryError, match=f"is {digest}, and {other} was deployed"):
        check_files(model_dir, tmp_path, {"INF2KIT_PACKAGE_DIGEST": other})


def test_a_replaced_manifest_does_not_agree_with_the_deployed_digest(model_dir: Path, tmp_path: Path) -> None:
    path = model_dir / "inf2kit.json"
    digest = Manifest.parse(path.read_bytes(), "here").digest
    (model_dir / "code/inference.py").write_text("# another author's", encoding="utf-8")
    values = json.loads(path.read_bytes())
    entry = {
        "size": len("# another author's"),
        "sha256": hashlib.sha256(b"# another author's").hexdigest(),
    }
    values["files"]["code/inference.py"] = entry
    path.write_text(json.dumps(values), encoding="utf-8")
    check_files(model_dir, tmp_path, {})
    with pytest.raises(ModelDirectoryError, match="was deployed: its manifest was replaced"):
        check_files(model_dir, tmp_path, {"INF2KIT_PACKAGE_DIGEST": digest})


def test_a_run_directory_that_cannot_be_written_is_no_damage_of_the_package(
    model_dir: Path, tmp_path: Path
) -> None:
    check_files(model_dir, tmp_path / "not there")
    (tmp_path / "file").touch()
    check_files(model_dir, tmp_path / "file")
    flip(model_dir / SHARD)
    with pytest.raises(ModelDirectoryError, match="was changed"):
        check_files(model_dir, tmp_path / "not there")


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
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-m", "inf2kit.serving.engine.server", str(model_dir)]
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
    # The engine ends with its parent, which it knows by the pipe on its standard input.
    with subprocess.Popen(command, env=environment, text=True, **pipes) as process:  # type: ignore[call-overload]
        assert process.wait(timeout=PATIENCE_S) == CANNOT_LOAD
        errors = process.stderr.read()
    reason = read_reason(tmp_path / "run")
    assert reason == (
        f"the package in {model_dir} is damaged: {SHARD} was changed, its sha256 differs; "
        "make the package again and deploy that"
    )
    assert "Traceback" not in errors
