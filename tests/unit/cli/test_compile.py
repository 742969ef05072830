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


def dry_run(preset: str, *options: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["compile", preset, "--output", "out", "--dry-run", *options])
    return result.exit_code, result.output


@pytest.fixture
def _no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.usefixtures("_no_hub")
def test_a_plan_is_for_all_engines_of_a_preset() -> None:
    """Each has cores and a copy of its own: what fits once may not fit three times."""
    assert "for 3 engines on ml.inf2.48xlarge: it fits" in dry_run("llama2-7b-fleet")[1]
    status, text = dry_run("llama2-7b-fleet", "--tensor-parallel-size", "24")
    assert status == 1
    assert "has 3 engines, which need 72 cores with 24 each, and the largest instance has 24" in text
    # A preset of one engine may be compiled for another instance than its own.
    assert "for ml.inf2.xlarge: it does not fit" in dry_run(PRESET, "--tensor-parallel-size", "4")[1]
