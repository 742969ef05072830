"""A user's own handler: checked before it ships, and part of the package's digest."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

import inf2kit
from inf2kit.cli.commands import main
from inf2kit.errors import PackageError
from inf2kit.package import Manifest, collect
from inf2kit.package.handler import check_handler
from tests.helpers import packages

PRESET = inf2kit.load_preset("smollm2-135m-local")


@pytest.mark.parametrize(
    "source",
    [
        packages.HANDLER,
        "def model_fn(model_dir): ...\ndef predict_fn(data, model): ...\n",
        "from inf2kit.serving.worker import model_fn\npredict_fn = model_fn\n",
        "try:\n    from somewhere import model_fn, predict_fn\nexcept ImportError:\n    raise\n",
        "\ufeffdef model_fn(model_dir): ...\ndef predict_fn(data, model): ...\n",
    ],
)
def test_hooks_are_functions_or_imported_or_assigned(source: str, tmp_path: Path) -> None:
    check_handler(packages.write_handler(tmp_path / "any-name.py", source))


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("", "does not define model_fn and predict_fn at its top level; write each as a function, or import"),
        ("def model_fn(model_dir): ...", "does not define predict_fn at its top level"),
        ("from inf2kit.serving.worker import *", "does not define model_fn and predict_fn"),
        ("class Hooks:\n    def model_fn(self): ...\n    def predict_fn(self): ...\n", "does not define"),
        ("def model_fn(:", r"is not Python 3\.10, which the endpoint's image runs: invalid syntax"),
        ("try:\n    pass\nexcept* ValueError:\n    pass\n", r"is not Python 3\.10.*only supported in Python"),
        ("return 1", r"is not Python 3\.10.*'return' outside function"),
        ("\0", r"is not Python 3\.10"),
    ],
)
def test_a_file_that_cannot_serve_is_refused(source: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=sentence):
        check_handler(packages.write_handler(tmp_path / "own.py", source))


def test_a_missing_file_and_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="cannot be read: No such file or directory"):
        check_handler(tmp_path / "missing.py")
    (tmp_path / "model.safetensors").write_bytes(b"\x80\xff\x00")
    with pytest.raises(PackageError, match=r"is not Python 3\.10"):
        check_handler(tmp_path / "model.safetensors")


def test_the_handler_ships_as_inference_py_and_changes_the_digest(tmp_path: Path) -> None:
    weights = packages.write_weights(tmp_path / "weights")
    plain = collect(PRESET, weights)
    own = collect(PRESET, weights, handler=packages.write_handler(tmp_path / "upper_case.py"))
    assert own.files["code/inference.py"] == tmp_path / "upper_case.py"
    assert {name for name in own.files if own.manifest.files[name] != plain.manifest.files[name]} == {
        "code/inference.py"
    }
    assert (plain.manifest.handler, own.manifest.handler) == (None, "upper_case.py")
    assert own.manifest.digest != plain.manifest.digest
    assert b'"handler"' not in plain.manifest.to_bytes(), "packages without one keep their digests"
    assert Manifest.parse(own.manifest.to_bytes(), "a file").handler == "upper_case.py"


def test_the_commands_ship_and_show_the_handler(tmp_path: Path) -> None:
    weights, out = packages.write_weights(tmp_path / "weights"), tmp_path / "out"
    handler = packages.write_handler(tmp_path / "upper_case.py")
    arguments = ["package", weights, "--preset", PRESET.name, "--output", out, "--handler", handler]
    packaged = CliRunner().invoke(main, list(map(str, arguments)))
    assert packaged.exit_code == 0, packaged.output
    verified = CliRunner().invoke(main, ["packages", "verify", packaged.stdout.strip()])
    assert verified.stdout.endswith(", handler upper_case.py\n")
    handler.write_text("", encoding="utf-8")
    refused = CliRunner().invoke(main, list(map(str, arguments)))
    assert refused.exit_code == 1
    assert "does not define model_fn and predict_fn" in refused.stderr.splitlines()[-1]
    compiled = CliRunner().invoke(
        main, ["compile", PRESET.name, "--output", str(out), "--handler", str(handler), "--dry-run"]
    )
    assert "does not define model_fn and predict_fn" in compiled.stderr.splitlines()[-1]
