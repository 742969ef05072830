"""The input of a compilation job's container: this inf2kit, and the files that packaging copies."""

from __future__ import annotations

from pathlib import Path

import inf2kit
from inf2kit.package import code, vendor

#: inf2kit reads TOML with it on the image's Python 3.10. Its compiled parts are for another Python.
_TOML = "tomli"


def bundle() -> dict[str, Path]:
    """List the files that the container needs, by their path in its input.

    Vendored packages lie in ``vendor/`` with their metadata, as data. On Python's path they would take the
    place of the image's own packages, also for the compiler.

    Raises:
        PackageError: a package is missing, or is not the version that ships.
    """
    package = Path(inf2kit.__file__).parent
    files = {
        f"inf2kit/{path.relative_to(package).as_posix()}": path
        for path in sorted(package.rglob("*"))
        if path.suffix in (".py", ".toml") and "_inference" not in path.parts
    }
    inference = code.inference_folder()
    for path in sorted(inference.rglob("*")):
        if path.suffix in (".py", ".txt"):
            files[f"inference/{path.relative_to(inference).as_posix()}"] = path
    for name, version in code.vendored_versions().items():
        # All files of RECORD, also those that do not ship: the job's own packaging compares them too.
        for file, installed in vendor.list_checked_files(vendor.find_pinned(name, version)).items():
            files[f"vendor/{file.as_posix()}"] = installed
    for file, installed in vendor.list_checked_files(vendor.find_distribution(_TOML)).items():
        if file.parts[0] == _TOML and file.suffix == ".py":
            files[file.as_posix()] = installed
    return files
