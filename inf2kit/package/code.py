"""``code/`` of a package: ``inference/``, the parts of inf2kit that run there, and vendored packages."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import inf2kit
from inf2kit.errors import PackageError

#: The parts of inf2kit that run inside the container.
_SHIPPED = ("__init__.py", "asgi.py", "errors.py", "loopback.py", "packaged.py", "shapes.py", "wire")
#: What an installer writes beside a distribution: it differs from machine to machine.
_INSTALLERS_OWN = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
_DATA = ("vendor.txt",)
_PACKAGE = Path(inf2kit.__file__).parent


def inference_source() -> Path:
    """Where ``inference/`` lies: beside the package in a checkout, inside it once installed."""
    installed = _PACKAGE / "_inference"
    return installed if installed.is_dir() else _PACKAGE.parent / "inference"


def files() -> dict[str, Path]:
    """The files of ``code/`` by their path in the package, the same wherever it is made.

    Raises:
        PackageError: a package to vendor is missing or not pure Python.
    """
    inference = inference_source()
    found = {f"code/{path.relative_to(inference).as_posix()}": path for path in _sources(inference)}
    for name in _SHIPPED:
        for path in _sources(_PACKAGE / name):
            found[f"code/inf2kit/{path.relative_to(_PACKAGE).as_posix()}"] = path
    for name in vendored_names():
        found |= _vendored(name)
    return found


def vendored_names() -> list[str]:
    """The distributions that ship in ``code/vendor``."""
    lines = (inference_source() / "vendor.txt").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line and not line.startswith("#")]


def _sources(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    # Only what is ours: editors and file managers leave files of their own, which differ between machines.
    return [each for each in sorted(path.rglob("*")) if each.suffix == ".py" or each.name in _DATA]


def _vendored(name: str) -> dict[str, Path]:
    """An installed distribution: the files of its RECORD, so that nothing else comes along."""
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        raise PackageError(
            f"the package {name!r}, which ships inside code/vendor, is not installed; "
            "install inf2kit with its 'local' extra: pip install 'inf2kit[local]'"
        ) from None
    if "Root-Is-Purelib: true" not in (distribution.read_text("WHEEL") or ""):
        raise PackageError(f"the installed {name!r} is not pure Python, so it cannot ship in code/vendor")
    found = {}
    for file in distribution.files or ():
        own = file.name in _INSTALLERS_OWN and file.parts[0].endswith(".dist-info")
        if not own and ".." not in file.parts and "__pycache__" not in file.parts:
            found[f"code/vendor/{file.as_posix()}"] = Path(str(file.locate()))
    if not found:
        raise PackageError(
            f"the installed {name!r} does not say which files it has; install it again with pip"
        )
    return found
