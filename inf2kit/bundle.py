"""Assembling a model directory: weights and tokenizer, ``code/``, and the manifest."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from importlib import metadata
from pathlib import Path

import inf2kit
from inf2kit.errors import ModelDirectoryError
from inf2kit.presets import Preset

#: The parts of inf2kit that run inside the container.
_SHIPPED = ("__init__.py", "asgi.py", "errors.py", "shapes.py", "wire")
_PACKAGE = Path(inf2kit.__file__).parent
MANIFEST = "inf2kit.json"


def assemble(preset: Preset, weights: Path, target: Path, *, notice: str | None = None) -> None:
    """Make the model directory of ``preset`` at ``target``.

    Args:
        preset: Goes into the manifest, where the engine reads it.
        weights: A directory of weights, configuration and tokenizer; its files are linked, not copied.
        target: Must not exist yet.
        notice: What about this endpoint is not the real thing; it appears in every answer's warnings.

    Raises:
        ModelDirectoryError: a package to vendor is missing or not pure Python.
    """
    target.mkdir(parents=True)
    for path in sorted(weights.iterdir()):
        if path.is_file():
            _link(path, target / path.name)
    _write_code(target / "code")
    manifest = {
        "inf2kit": inf2kit.__version__,
        "preset": dataclasses.asdict(preset),
        "notice": notice,
    }
    # Written last: a directory without it is no model package.
    (target / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def inference_source() -> Path:
    """Where ``inference/`` lies: beside the package in a checkout, inside it once installed."""
    installed = _PACKAGE / "_inference"
    return installed if installed.is_dir() else _PACKAGE.parent / "inference"


def _write_code(code: Path) -> None:
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(inference_source(), code, ignore=ignore)
    (code / "inf2kit").mkdir()
    for name in _SHIPPED:
        source = _PACKAGE / name
        if source.is_dir():
            shutil.copytree(source, code / "inf2kit" / name, ignore=ignore)
        else:
            shutil.copy2(source, code / "inf2kit" / name)
    for line in (code / "vendor.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            _vendor(line.strip(), code / "vendor")


def _vendor(name: str, target: Path) -> None:
    """Copy an installed distribution: the files of its RECORD, so that nothing else comes along."""
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        raise ModelDirectoryError(
            f"the package {name!r}, which ships inside code/vendor, is not installed; "
            "install inf2kit with its 'local' extra: pip install 'inf2kit[local]'"
        ) from None
    wheel = distribution.read_text("WHEEL") or ""
    if "Root-Is-Purelib: true" not in wheel:
        raise ModelDirectoryError(
            f"the installed {name!r} is not pure Python, so it cannot ship in code/vendor"
        )
    for file in distribution.files or ():
        if ".." in file.parts or "__pycache__" in file.parts:
            continue
        path = target / Path(*file.parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(str(file.locate()), path)


def _link(source: Path, target: Path) -> None:
    # A hub's cache holds links to its files: what is meant is the file.
    source = source.resolve()
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
