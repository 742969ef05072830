"""Nothing needs a patch release of Python: Debian 12 has 3.11.2, and an image may have any 3.10.

Type checkers know minor releases only. Where Debian's Python is installed, what it lacks is looked up there.
"""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

import inf2kit

ROOT = Path(inf2kit.__file__).parents[1]
#: Keywords by the function that got them in a patch release, and names that came with one.
KEYWORDS = {
    "extract": "filter",  # of tarfile: 3.10.12, 3.11.4
    "extractall": "filter",
    "unpack_archive": "filter",
    "getaddresses": "strict",  # 3.10.15, 3.11.10
    "parseaddr": "strict",
}
NAMES = {
    "data_filter",
    "tar_filter",
    "fully_trusted_filter",
    "extraction_filter",
    "verify_generated_headers",
    "SetReparseDeferralEnabled",
    "GetReparseDeferralEnabled",
    "set_int_max_str_digits",
}
#: Calls that an old 3.11 refuses, to prove the list: a call, and whether it works.
PROBES = ["tarfile.data_filter", "tarfile.TarFile.extractall.__kwdefaults__['filter']"]


def find_new(source: str) -> list[int]:
    """Return the lines that use what came with a patch release."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            lines += [node.lineno for keyword in node.keywords if keyword.arg == KEYWORDS.get(name, "")]
        if isinstance(node, ast.Attribute) and node.attr in NAMES:
            lines.append(node.lineno)
    return lines


def test_no_source_uses_what_came_with_a_patch_release() -> None:
    sources = [
        path
        for folder in ("inf2kit", "inference", "infra", "benchmarks", "tests")
        for path in (ROOT / folder).rglob("*.py")
    ]
    assert len(sources) > 300
    uses = {
        f"{path.relative_to(ROOT)}:{line}"
        for path in sources
        for line in find_new(path.read_text(encoding="utf-8"))
    }
    assert uses == set()


def test_a_use_is_found() -> None:
    assert find_new("archive.extractall(folder, filter='data')") == [1]
    assert find_new("import tarfile\narchive.extraction_filter = tarfile.data_filter") == [2, 2]
    assert find_new("archive.extractall(folder)\nhasattr(tarfile, 'data_filter')") == []


@pytest.mark.parametrize("probe", PROBES)
def test_an_old_python_lacks_it(probe: str) -> None:
    python = Path("/usr/bin/python3.11")
    version = (
        subprocess.run([python, "--version"], capture_output=True, text=True, check=False)
        if python.exists()
        else None
    )
    if version is None or version.stdout.strip() != "Python 3.11.2":
        pytest.skip("no Python 3.11.2 on this machine")
    result = subprocess.run(
        # Without site: a system's Python may be set up to change packages that it can import.
        [python, "-I", "-S", "-c", f"import tarfile; {probe}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1, f"3.11.2 has {probe}"
