"""What a compilation job's container gets: this inf2kit, and what its packaging copies into packages."""

from __future__ import annotations

from pathlib import Path

import inf2kit
from inf2kit.package import code, vendor

#: What inf2kit needs to read TOML on the image's Python 3.10. Its compiled parts are for another Python.
_TOML = "tomli"


def bundle() -> dict[str, Path]:
    """The files that the container needs, by their path below its input.

    What packaging vendors lies in ``vendor/`` with its metadata, as data: on Python's path it would take the
    place of the image's own packages, for the compiler too.

    Raises:
        PackageError: a package is missing, or is not the one that ships.
    """
    package = Path(inf2kit.__file__).parent
    files = {
        f"inf2kit/{path.relative_to(package).as_posix()}": path
        for path in sorted(package.rglob("*"))
        if path.suffix in (".py", ".toml") and "_inference" not in path.parts
    }
    inference = code.inference_source()
    for path in sorted(inference.rglob("*")):
        if path.suffix in (".py", ".txt"):
            files[f"inference/{path.relative_to(inference).as_posix()}"] = path
    for name, version in code.vendored().items():
        # With what the job's own packaging leaves out, so that it can compare all of RECORD.
        for file, where in vendor.checked_files(vendor.pinned(name, version)).items():
            files[f"vendor/{file.as_posix()}"] = where
    for file, where in vendor.checked_files(vendor.distribution(_TOML)).items():
        if file.parts[0] == _TOML and file.suffix == ".py":
            files[file.as_posix()] = where
    return files
