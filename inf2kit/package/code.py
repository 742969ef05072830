"""The ``code/`` folder of a package: the handler, ``inf2kit.serving`` and vendored packages."""

from __future__ import annotations

from pathlib import Path

import inf2kit
from inf2kit.package import vendor
from inf2kit.serving.model_dir import CODE_FOLDER, HANDLER, VENDOR_FOLDER

_VENDOR_FILE = "vendor.txt"
#: The parts of inf2kit that run inside the container.
_SHIPPED = ("__init__.py", "_version.py", "errors.py", "serving")
_PACKAGE = Path(inf2kit.__file__).parent


def inference_folder() -> Path:
    """Return the ``inference/`` folder: beside the package in a checkout, inside it once installed."""
    installed = _PACKAGE / "_inference"
    return installed if installed.is_dir() else _PACKAGE.parent / "inference"


def list_files(handler: Path | None = None) -> dict[str, Path]:
    """List the files of ``code/`` by their path in the package; they are the same on every machine.

    Args:
        handler: A file that ships as ``code/inference.py`` instead of inf2kit's own.

    Raises:
        PackageError: a package to vendor is missing, or is not the version that ships.
    """
    inference = inference_folder()
    files = {f"{CODE_FOLDER}/{path.relative_to(inference).as_posix()}": path for path in _sources(inference)}
    if handler is not None:
        files[HANDLER] = handler
    for name in _SHIPPED:
        for path in _sources(_PACKAGE / name):
            files[f"{CODE_FOLDER}/inf2kit/{path.relative_to(_PACKAGE).as_posix()}"] = path
    for name, version in vendored_versions().items():
        for file, path in vendor.list_files(name, version).items():
            files[f"{VENDOR_FOLDER}/{file.as_posix()}"] = path
    return files


def vendored_versions() -> dict[str, str]:
    """Return the distributions that ship in ``code/vendor``, and their versions."""
    return vendor.read_pins(inference_folder() / _VENDOR_FILE)


def _sources(path: Path) -> list[Path]:
    """List our own files, and not those of editors and file managers, which differ between machines."""
    if path.is_file():
        return [path]
    return [file for file in sorted(path.rglob("*")) if file.suffix == ".py" or file.name == _VENDOR_FILE]
