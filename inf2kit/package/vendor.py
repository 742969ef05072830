"""The installed packages that ship in ``code/vendor``: in the versions of ``vendor.txt``, and unchanged."""

from __future__ import annotations

import base64
import csv
import re
from importlib import metadata
from pathlib import Path, PurePath, PurePosixPath

from inf2kit import catalog
from inf2kit.errors import PackageError
from inf2kit.serving.model_dir import sha256_of

#: What an installer writes beside a distribution: it differs from machine to machine.
_RECORD, _INSTALLERS_OWN = "RECORD", ("INSTALLER", "REQUESTED", "direct_url.json")
#: What nothing imports: marks for type checkers, which are empty files, and tests.
_UNUSED_FILES, _UNUSED_FOLDERS = ("py.typed",), ("tests", "_tests")
_PIN = re.compile(r"^([\w.-]+)==([^\s\\;]+)", re.MULTILINE)
#: Where a compilation job has them: as data beside inf2kit, and not on Python's path.
_BUNDLED = Path(__file__).resolve().parents[2] / "vendor"


def pins(vendor_txt: Path) -> dict[str, str]:
    """Versions by the names of the distributions that ship, from a file of pip's format."""
    return dict(_PIN.findall(vendor_txt.read_text(encoding="utf-8")))


def files(name: str, version: str) -> dict[PurePath, Path]:
    """The files of a distribution that ship, by their path in it, the same on every machine.

    Raises:
        PackageError: as ``pinned`` and ``checked_files``.
    """
    return {path: where for path, where in checked_files(pinned(name, version)).items() if _ships(path)}


def pinned(name: str, version: str) -> metadata.Distribution:
    """A distribution to vendor.

    Raises:
        PackageError: it is not installed, in another version, not pure Python, or not for the image's Python.
    """
    installed = distribution(name)
    if installed.version != version:
        raise PackageError(
            f"{name} {installed.version} is installed, and {version} ships inside code/vendor: packages are "
            f"the same on every machine; pip install {name}=={version}"
        )
    if "Root-Is-Purelib: true" not in (installed.read_text("WHEEL") or ""):
        raise PackageError(f"the installed {name!r} is not pure Python, so it cannot ship in code/vendor")
    return installed


def distribution(name: str) -> metadata.Distribution:
    """An installed distribution that the image's Python can run.

    Raises:
        PackageError: it is not installed, or asks for another Python than the image's.
    """
    from packaging.specifiers import SpecifierSet

    bundled = metadata.distributions(name=name, path=[str(_BUNDLED)])
    installed = next(iter(bundled), None) or next(iter(metadata.distributions(name=name)), None)
    if installed is None:
        raise PackageError(
            f"the package {name!r}, which runs inside the container, is not installed; "
            "install inf2kit with its 'local' extra: pip install 'inf2kit[local]'"
        )
    python = catalog.image().versions["python"]
    asked = ",".join(installed.metadata.get_all("Requires-Python") or ())
    if not SpecifierSet(asked).contains(python):
        raise PackageError(
            f"{name} {installed.version} asks for Python {asked}, and the endpoint's image has {python}; "
            "install a version of it that runs there"
        )
    return installed


def checked_files(installed: metadata.Distribution) -> dict[PurePath, Path]:
    """RECORD, and the files that it names but for the installer's own, by their path in the distribution.

    Raises:
        PackageError: one of them is missing, or is not what was installed.
    """
    name = installed.metadata["Name"]
    again = f"pip install --force-reinstall --no-deps {name}=={installed.version}"
    files: dict[PurePath, Path] = {}
    # Not by found.files: it leaves out what is missing.
    for written, recorded, _size in csv.reader((installed.read_text(_RECORD) or "").splitlines()):
        file, path = PurePosixPath(written), Path(str(installed.locate_file(written)))
        described = file.parts[0].endswith(".dist-info")
        if (described and file.name in _INSTALLERS_OWN) or ".." in file.parts or file.suffix == ".pyc":
            continue
        has_hash = not (described and file.name == _RECORD)
        if not path.is_file() or (has_hash and recorded != _record_hash(path)):
            raise PackageError(
                f"{path} is not the file that {name} {installed.version} was installed with, by the sha256 "
                f"in its RECORD; install it again: {again}"
            )
        files[file] = path
    if not files:
        raise PackageError(
            f"the installed {name!r} does not say which files it has; install it again: {again}"
        )
    return files


def _ships(path: PurePath) -> bool:
    unused = path.name in _UNUSED_FILES or set(path.parts[:-1]) & set(_UNUSED_FOLDERS)
    return not unused and path.name != _RECORD


def _record_hash(path: Path) -> str:
    """Return the sha256 as RECORD writes it: in URL-safe base64, without padding."""
    digest = bytes.fromhex(sha256_of(path))
    return f"sha256={base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"
