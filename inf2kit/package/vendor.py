"""The installed packages that ship in ``code/vendor``: the versions of ``vendor.txt``, unchanged."""

from __future__ import annotations

import base64
import csv
import re
from importlib import metadata
from pathlib import Path, PurePath, PurePosixPath

from inf2kit import catalog
from inf2kit.errors import PackageError
from inf2kit.extras import install_command
from inf2kit.serving.model_dir import sha256_of

#: Files that an installer writes into a distribution's metadata. They differ between machines.
_RECORD, _INSTALLER_FILES = "RECORD", ("INSTALLER", "REQUESTED", "direct_url.json")
#: Files that no import reads: markers for type checkers, and tests.
_UNUSED_FILES, _UNUSED_FOLDERS = ("py.typed",), ("tests", "_tests")
_PIN = re.compile(r"^([\w.-]+)==([^\s\\;]+)", re.MULTILINE)
#: A compilation job has the vendored distributions here, as data and not on Python's path.
_BUNDLED = Path(__file__).resolve().parents[2] / "vendor"


def read_pins(vendor_txt: Path) -> dict[str, str]:
    """Read a requirements file; return the pinned version of each distribution."""
    return dict(_PIN.findall(vendor_txt.read_text(encoding="utf-8")))


def list_files(name: str, version: str) -> dict[PurePath, Path]:
    """List the files of a distribution that ship, by their path in it; they are the same on every machine.

    Raises:
        PackageError: see ``find_pinned`` and ``list_checked_files``.
    """
    files = list_checked_files(find_pinned(name, version))
    return {path: installed for path, installed in files.items() if _is_shipped(path)}


def find_pinned(name: str, version: str) -> metadata.Distribution:
    """Find the installed distribution to vendor.

    Raises:
        PackageError: it is not installed, in another version, not pure Python, or not for the image's Python.
    """
    installed = find_distribution(name)
    if installed.version != version:
        raise PackageError(
            f"{name} {installed.version} is installed, and {version} ships inside code/vendor: packages are "
            f"the same on every machine; pip install {name}=={version}"
        )
    if "Root-Is-Purelib: true" not in (installed.read_text("WHEEL") or ""):
        raise PackageError(f"the installed {name!r} is not pure Python, so it cannot ship in code/vendor")
    return installed


def find_distribution(name: str) -> metadata.Distribution:
    """Find an installed distribution that the image's Python can run.

    Raises:
        PackageError: it is not installed, or requires another Python than the image's.
    """
    from packaging.specifiers import SpecifierSet

    bundled = metadata.distributions(name=name, path=[str(_BUNDLED)])
    installed = next(iter(bundled), None) or next(iter(metadata.distributions(name=name)), None)
    if installed is None:
        raise PackageError(
            f"the package {name!r}, which runs inside the container, is not installed; "
            f"install inf2kit with its 'local' extra: {install_command('local')}"
        )
    python = catalog.image().versions["python"]
    requires_python = ",".join(installed.metadata.get_all("Requires-Python") or ())
    if not SpecifierSet(requires_python).contains(python):
        raise PackageError(
            f"{name} {installed.version} asks for Python {requires_python}, and the endpoint's image has "
            f"{python}; install a version of it that runs there"
        )
    return installed


def list_checked_files(installed: metadata.Distribution) -> dict[PurePath, Path]:
    """List a distribution's files by their path in it, with RECORD and without the installer's own files.

    Raises:
        PackageError: a file is missing, or differs from its sha256 in RECORD.
    """
    name = installed.metadata["Name"]
    reinstall = f"pip install --force-reinstall --no-deps {name}=={installed.version}"
    files: dict[PurePath, Path] = {}
    # metadata.Distribution.files is of no use here: it leaves out what is missing.
    for path_text, recorded, _size in csv.reader((installed.read_text(_RECORD) or "").splitlines()):
        file, path = PurePosixPath(path_text), Path(str(installed.locate_file(path_text)))
        is_metadata = file.parts[0].endswith(".dist-info")
        if (is_metadata and file.name in _INSTALLER_FILES) or ".." in file.parts or file.suffix == ".pyc":
            continue
        has_hash = not (is_metadata and file.name == _RECORD)
        if not path.is_file() or (has_hash and recorded != _record_hash(path)):
            raise PackageError(
                f"{path} is not the file that {name} {installed.version} was installed with, by the sha256 "
                f"in its RECORD; install it again: {reinstall}"
            )
        files[file] = path
    if not files:
        raise PackageError(
            f"the installed {name!r} does not say which files it has; install it again: {reinstall}"
        )
    return files


def _is_shipped(path: PurePath) -> bool:
    is_unused = path.name in _UNUSED_FILES or set(path.parts[:-1]) & set(_UNUSED_FOLDERS)
    return not is_unused and path.name != _RECORD


def _record_hash(path: Path) -> str:
    """Return a file's sha256 as RECORD writes it: base64 for URLs, without padding."""
    digest = bytes.fromhex(sha256_of(path))
    return f"sha256={base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"
