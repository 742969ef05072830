"""What is installed is pinned by its sha256, and what ships is what is installed."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest

import inf2kit

ROOT = Path(inf2kit.__file__).parents[1]
_HASHES = re.compile(r"^([\w.-]+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE)


def read_pins(name: str) -> dict[str, tuple[str, str]]:
    """Read the version and the hashes of each package of a file."""
    text = (ROOT / name).read_text(encoding="utf-8")
    pins = {match[1].lower(): (match[2], match[3]) for match in _HASHES.finditer(text)}
    assert len(pins) == len(re.findall(r"^[\w.-]+==", text, re.MULTILINE)), "each has its hashes"
    return pins


@pytest.mark.parametrize(
    "name",
    [*(f"constraints{part}.txt" for part in ("", "-dev", "-build", "-tools")), "docs/site/requirements.txt"],
)
def test_everything_is_pinned_by_its_sha256(name: str) -> None:
    assert read_pins(name)


def test_what_ships_is_among_what_is_installed_by_its_sha256() -> None:
    everything = read_pins("constraints.txt")
    for name, (version, hashes) in read_pins("inference/vendor.txt").items():
        installed = everything[name.replace("_", "-")]
        assert installed[0] == version
        for each in re.findall(r"[0-9a-f]{64}", hashes):
            assert each in installed[1]


def test_this_environment_is_the_one_that_is_pinned() -> None:
    different = {
        name: (version, metadata.version(name))
        for name, (version, _) in {**read_pins("constraints.txt"), **read_pins("constraints-dev.txt")}.items()
        if metadata.version(name) != version
    }
    assert different == {}
