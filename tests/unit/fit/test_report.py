"""``inf2kit presets check``: every figure is explained, and bad input is one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from transformers import LlamaConfig

import inf2kit
from inf2kit.cli.commands import main


def _check(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["presets", "check", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_table_has_every_preset_for_neuron() -> None:
    lines = _check().splitlines()
    names = [name for name in inf2kit.preset_names() if inf2kit.load_preset(name).compute.backend == "neuron"]
    assert [line.split()[0] for line in lines] == ["PRESET", *names]
    assert all(" fits " in line for line in lines[1:])


def test_a_preset_is_explained() -> None:
    text = _check("llama2-7b-throughput")
    assert "32 heads are padded to 48" in text
    assert "cheapest instance with room for it: ml.inf2.8xlarge" in text
    text = _check("llama2-7b-budget", "--instance-type", "ml.inf2.xlarge")
    assert "llama2-7b-budget on ml.inf2.xlarge: does not fit" in text
    assert "host, while it loads: 16.55 of 16 GiB" in text
    assert "the host is short of memory" in text
    assert "runs on this machine's CPU" in _check("smollm2-135m-local")


def test_advice_is_given_only_where_it_helps() -> None:
    """What fits is not short of memory, and nothing is larger than the largest instance."""
    for name in inf2kit.preset_names():
        text = _check(name)
        assert "short of memory" not in text, name
        assert ("a larger instance" in text) == (" of 2 cores" in text or " of 12 cores" in text), name
    tight = _check("llama2-7b-budget", "--instance-type", "ml.inf2.xlarge", "--dtype", "float32")
    assert "does not fit" in tight.splitlines()[0]
    assert "the host is short of memory" in tight


def test_several_engines_share_an_instance(tmp_path: Path) -> None:
    one = _check("llama2-7b-throughput", "--tensor-parallel-size", "8")
    three = _check("llama2-7b-throughput", "--tensor-parallel-size", "8", "--data-parallel-size", "3")
    assert "8 of 24 cores" in one
    assert "3 engines of 8 cores each, of 24 cores" in three
    # Engines load one after the other, so only their processes add up: 1.5 GiB each.
    assert "host, while it loads: 16.55 of 768 GiB" in one
    assert "host, while it loads: 19.55 of 768 GiB" in three
    assert "cheapest instance with room for it: ml.inf2.24xlarge, 3 engines of 4 cores" in three
    four = _check("llama2-7b-throughput", "--tensor-parallel-size", "8", "--data-parallel-size", "4")
    assert "does not fit" in four.splitlines()[0]


def test_the_first_core_is_shown_apart_and_beside_what_was_published() -> None:
    text = _check("llama2-7b-budget")
    assert "first core  each other" in text
    assert "the first core decides: 57 % of it are used" in text
    rows = [line for line in _check("--published").splitlines() if " together " in line]
    assert [row.split()[-2:] for row in rows] == [["-1.5", "%"], ["-1.0", "%"]]
    refused = CliRunner().invoke(main, ["presets", "check", "llama2-7b-budget", "--published"])
    assert refused.exit_code == 2
    assert "takes neither a preset nor another option" in refused.output


def test_a_configuration_of_ones_own(tmp_path: Path) -> None:
    config = {"model_type": "llama", **LlamaConfig(num_key_value_heads=8).to_dict()}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    arguments = ["--instance-type", "ml.inf2.24xlarge", "--batch-size", "2", "--sequence-length", "2048"]
    text = _check("--model", str(tmp_path), *arguments, "--tensor-parallel-size", "8")
    assert "on ml.inf2.24xlarge: fits" in text
    text = _check("--model", str(tmp_path), *arguments, "--tensor-parallel-size", "24")
    assert "does not fit" in text.splitlines()[0]


@pytest.mark.parametrize(
    ("changed", "arguments", "sentence"),
    [
        ({"model_type": "gpt2"}, [], "model_type is 'gpt2'"),
        ({"hidden_size": "x"}, [], "hidden_size is 'x'; it must be a whole number"),
        ({"attention_bias": True}, [], "attention_bias is set"),
        ({"num_key_value_heads": 5}, [], "32 heads cannot share 5"),
        (
            {},
            ["--tensor-parallel-size", "3"],
            "tensor_parallel_size is 3; on inf2 it must be one of 1, 2, 4, 8",
        ),
        ({"num_key_value_heads": 8}, ["--tensor-parallel-size", "12"], "choose among 1, 2, 4, 8, 24"),
        ({}, ["--sequence-length", "4096"], "has 2048 positions"),
        ({}, ["--instance-type", "ml.inf2.xlrge"], "did you mean 'ml.inf2.xlarge'"),
        ({}, ["--model", "nowhere.json"], "the architecture of 'nowhere.json' is not known"),
    ],
)
def test_bad_input_is_one_sentence(
    changed: dict[str, object], arguments: list[str], sentence: str, tmp_path: Path
) -> None:
    config = {**LlamaConfig().to_dict(), **changed}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    options = ["--model", str(tmp_path), "--instance-type", "ml.inf2.xlarge", "--batch-size", "1"]
    options += ["--sequence-length", "128", "--tensor-parallel-size", "2", *arguments]
    result = CliRunner().invoke(main, ["presets", "check", *options])
    assert result.exit_code == 1
    assert sentence in result.output
    assert result.output.count("\n") == 1
