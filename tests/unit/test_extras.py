"""The command that installs an extra."""

from __future__ import annotations

from pathlib import Path

import pytest

import inf2kit
from inf2kit.extras import install_command

CHECKOUT = Path(inf2kit.__file__).parents[1]


def test_a_checkout_installs_from_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # A wheel's command is in tests/unit/cli/test_core_environment.py.
    monkeypatch.chdir(CHECKOUT)
    assert install_command("bench", "local") == "pip install -e '.[bench,local]'"
    monkeypatch.chdir(tmp_path)
    assert install_command("bench") == f"pip install -e '{CHECKOUT}[bench]'"
