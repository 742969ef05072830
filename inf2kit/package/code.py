"""``code/`` of a package: the handler, ``inf2kit.serving``, and vendored packages."""

from __future__ import annotations

from pathlib import Path

import inf2kit
from inf2kit.package import vendor

#: The parts of inf2kit that run inside the container.
_SHIPPED = ("__init__.py", "_version.py", "errors.py", "serving")
_DATA = ("vendor.txt",)
#: The handler's path in a package; the container's environment names it to the toolkit.
INFERENCE = "code/inference.py"
_PACKAGE = Path(inf2kit.__file__).parent


def inference_source() -> Path:
    """Where ``inference/`` lies: beside the package in a checkout, inside it once installed."""
    installed = _PACKAGE / "_inference"
    return installed if installed.is_dir() else _PACKAGE.parent / "inference"


def files(handler: Path | None = None) -> dict[str, Path]:
    """List the files of ``code/`` by their path in the package; they are the same on every machine.

    Args:
        handler: A file that ships as ``code/inference.py`` instead of inf2kit's own.

    Raises:
        PackageError: a package to vendor is missing, or is not the one that ships.
    """
    inference = inference_source()
    shipped = {f"code/{path.relative_to(inference).as_posix()}": path for path in _sources(inference)}
    if handler is not None:
        shipped[INFERENCE] = handler
    for name in _SHIPPED:
        for path in _sources(_PACKAGE / name):
            shipped[f"code/inf2kit/{path.relative_to(_PACKAGE).as_posix()}"] = path
    for name, version in vendored().items():
        for file, path in vendor.files(name, version).items():
            shipped[f"code/vendor/{file.as_posix()}"] = path
    return shipped


def vendored() -> dict[str, str]:
    """The distributions that ship in ``code/vendor``, and their versions."""
    return vendor.pins(inference_source() / "vendor.txt")


def _sources(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    # Only what is ours: editors and file managers leave files of their own, which differ between machines.
    return [each for each in sorted(path.rglob("*")) if each.suffix == ".py" or each.name in _DATA]
