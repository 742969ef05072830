"""``inf2kit presets``."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner

import inf2kit
from inf2kit.cli.commands import main

#: Characters of a line that most terminals show.
WIDTH = 120


def test_presets_are_listed_and_shown() -> None:
    table = CliRunner().invoke(main, ["presets"]).output
    lines, statuses = (part.splitlines() for part in table.split("\n\n"))
    assert [line.split()[0] for line in lines] == ["PRESET", *inf2kit.preset_names()]
    assert max(map(len, lines)) <= WIDTH
    assert re.fullmatch(r"prices: us-east-1, \d{4}-\d\d-\d\d", statuses.pop(0))
    assert statuses == ["run on the CPU: smollm2-135m-local", "not run on a device: all others"]
    preset = CliRunner().invoke(
        main, ["presets", "show", "llama2-7b-budget", "--instance-type", "ml.inf2.xlarge"]
    )
    assert 'instance_type = "ml.inf2.xlarge"' in preset.output


def test_a_preset_says_what_was_published_of_it_and_by_whom_and_what_else_to_know() -> None:
    outputs = {
        name: CliRunner().invoke(main, ["presets", "show", name]).output
        for name in ("deepseek-r1-llama-8b-fleet", "qwen3-8b-budget", "smollm2-135m-local")
    }
    fleet = outputs["deepseek-r1-llama-8b-fleet"]
    assert "published, not of inf2kit: 25.5 ms a step" in fleet, "of Llama 3.1 8B, whose sizes are the same"
    assert "(meta-llama/Llama-3.1-8B-Instruct, optimum-neuron 0.4.7.dev0, 2026-08-25; huggingface/" in fleet
    assert "nothing of this model in these shapes" in outputs["qwen3-8b-budget"]
    assert "in 0.4.5 they are marked as failing" in outputs["qwen3-8b-budget"]
    assert "published" not in outputs["smollm2-135m-local"]


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
