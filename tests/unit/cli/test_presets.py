"""``inf2kit presets``."""

from __future__ import annotations

from click.testing import CliRunner

import inf2kit
from inf2kit.cli import main


def test_presets_are_listed_and_shown() -> None:
    table = CliRunner().invoke(main, ["presets"]).output
    assert [line.split()[0] for line in table.splitlines()] == ["PRESET", *inf2kit.preset_names()]
    assert "not run on a device" in table
    preset = CliRunner().invoke(
        main, ["presets", "show", "llama2-7b-budget", "--instance-type", "ml.inf2.xlarge"]
    )
    assert 'instance_type = "ml.inf2.xlarge"' in preset.output
