"""``inf2kit presets``."""

from __future__ import annotations

import pytest
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


@pytest.mark.parametrize(
    "options",
    [
        ["--max-context-length", "5000"],
        ["--sequence-length", "512", "--max-context-length", "513"],
    ],
)
@pytest.mark.parametrize("command", ["check", "check --model", "compile"])
def test_prompts_that_fit_no_row_are_refused_by_the_check_as_by_the_compilation(
    command: str, options: list[str]
) -> None:
    rows = ["--sequence-length", "2048", "--batch-size", "1", "--tensor-parallel-size", "2"]
    arguments = {
        "check": ["presets", "check", "llama2-7b-budget"],
        "check --model": [
            *["presets", "check", "--model", "meta-llama/Llama-2-7b-hf"],
            *["--instance-type", "ml.inf2.xlarge", *rows],
        ],
        "compile": ["compile", "llama2-7b-budget", "--output", "out", "--dry-run"],
    }[command]
    result = CliRunner().invoke(main, [*arguments, *options])
    assert result.exit_code == 1
    sequence_length = "512" if "512" in options else "2048"
    assert f"it must be within 1..sequence_length, which is {sequence_length}" in result.output


def test_a_prompt_may_be_as_long_as_the_row() -> None:
    arguments = ["presets", "check", "llama2-7b-budget", "--sequence-length", "512"]
    assert CliRunner().invoke(main, [*arguments, "--max-context-length", "512"]).exit_code == 0
