"""An environment with inf2kit's wheel and what its core requires, and nothing else; no network is needed.

The dependencies of the core are pure Python, so links to the installed ones do for other Pythons.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

import inf2kit

ROOT = Path(inf2kit.__file__).parents[1]


def build_wheel(folder: Path) -> Path:
    """Build the wheel of this checkout."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def find_pythons() -> dict[str, str]:
    """Find a Python of each version that a user may have: this one, PATH's and pyenv's."""
    pythons = {"{}.{}".format(*sys.version_info): sys.executable}
    for version in ("3.10", "3.11", "3.12", "3.13"):
        candidates = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"))
        for candidate in (*map(str, candidates), f"python{version}"):
            try:  # pyenv's shims exist without a Python
                probe = subprocess.run(
                    [candidate, "-I", "-S", "-c", "import venv, ensurepip"], capture_output=True, check=False
                )
            except OSError:
                continue
            if probe.returncode == 0:
                pythons.setdefault(version, candidate)
    return pythons


def create(python: str, wheel: Path, folder: Path) -> Path:
    """Create the environment; return its Python."""
    subprocess.run([python, "-I", "-m", "venv", "--without-pip", folder], check=True, cwd=folder.parent)
    own = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(own)]
    subprocess.run(
        [*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)],
        check=True,
        cwd=folder.parent,
        env={**os.environ, "PYTHONPATH": ""},
    )
    (site_packages,) = folder.glob("lib/python3.*/site-packages")
    version = site_packages.parent.name.removeprefix("python")
    # What the wheel says, and not the metadata of the environment that runs the tests, which may be older.
    (wheel_metadata,) = metadata.distributions(name="inf2kit", path=[str(site_packages)])
    for name in sorted(_closure(wheel_metadata.requires or [], version)):
        distribution = metadata.distribution(name)
        for top in {Path(file).parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            target = Path(str(distribution.locate_file(top)))
            if target.exists() and not (site_packages / top).exists():
                (site_packages / top).symlink_to(target)
    return own


def _closure(lines: Sequence[str], version: str) -> set[str]:
    """Return all distributions that requirements lead to, without extras."""
    names: set[str] = set()
    pending = list(lines)
    while pending:
        requirement = Requirement(pending.pop())
        values = {"extra": "", "python_version": version, "python_full_version": f"{version}.0"}
        if requirement.marker is None or requirement.marker.evaluate(values):
            if requirement.name not in names:
                pending += metadata.requires(requirement.name) or []
            names.add(requirement.name)
    return names
