"""``inf2kit compile``: options that contradict each other."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from inf2kit.cli.commands import main

PRESET = "tinyllama-1.1b-starter"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--public"], "--public needs --push-to-hub"),
        (["--role", "arn:aws:iam::123456789012:role/Jobs"], "--role needs --job"),
        (["--token-secret", "hub"], "--token-secret needs --job"),
        (["--subnet", "subnet-1"], "--subnet needs --job"),
        (["--revision", ""], "--revision is empty"),
        (["--model", ""], "'' is neither a folder on this machine nor the name of a model"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: list[str], sentence: str) -> None:
    result = CliRunner().invoke(main, ["compile", PRESET, "--output", "out", "--dry-run", *options])
    assert result.exit_code != 0
    assert sentence in result.output
