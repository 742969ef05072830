"""Families of models: those let in run here as transformers runs them, others are refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from transformers import PreTrainedTokenizerFast

import inf2kit
from inf2kit.checkpoint import check_config, inspect
from inf2kit.checkpoint.families import FAMILIES
from inf2kit.cli.commands import main
from inf2kit.errors import CheckpointError
from inf2kit.fit import Architecture
from tests.helpers import packages
from tests.helpers.small_models import write_model


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_of_each_family_runs_here_as_transformers_runs_it(family: str, tmp_path: Path) -> None:
    model = write_model(family, tmp_path / family)
    inspection = inspect(tmp_path / family)
    assert (inspection.faults, inspection.model_type) == ((), family)
    architecture = Architecture.find(str(tmp_path / family))
    assert architecture.parameters == sum(parameter.numel() for parameter in model.parameters())
    prompts = ["Rome is", "A longer prompt than that"]
    loaded = inf2kit.load(tmp_path / family, batch_size=2, sequence_length=64)
    results = loaded.generate(prompts, max_new_tokens=12)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tmp_path / family)
    for prompt, result in zip(prompts, results, strict=True):
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        new = model.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :]
        assert result.text == tokenizer.decode(new, skip_special_tokens=True)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (
            {"model_type": "gpt2"},
            "model_type is 'gpt2', which optimum-neuron 0.4.1 in the endpoint's image does not",
        ),
        ({"model_type": "gpt2"}, "choose a model of granite, llama, phi3, qwen2, qwen3, smollm3"),
        ({"model_type": "mistral"}, "model_type is 'mistral'"),
        (
            {"model_type": "x", "auto_map": {"AutoModel": "m.X"}},
            r"and its own code \(auto_map\) is never run",
        ),
        ({"model_type": None}, "model_type is None; it must name the model's family"),
        ({"model_type": "qwen3_moe"}, "a mixture of experts, whose memory inf2kit cannot compute"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "which does not generate text"),
        (
            {"quantization_config": {"quant_method": "awq", "bits": 4}},
            "quantized with awq to 4 bits, and inf2kit",
        ),
        ({"quantization_config": {"quant_method": "gptq", "bits": 8}}, "quantized with gptq to 8 bits"),
        (
            {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
            "quantized with bitsandbytes to 4 bits",
        ),
        (
            {"quantization_config": {"quant_method": "fp8"}},
            "quantized with fp8, and inf2kit serves plain weights",
        ),
        (
            {"quantization_config": {"quant_method": "compressed-tensors"}},
            "quantized with compressed-tensors",
        ),
        ({"quantization_config": {"quant_method": "mxfp4"}}, "quantized with mxfp4"),
        ({"quantization": {"group_size": 64, "bits": 4}}, "quantized to 4 bits"),
        ({"hidden_size": "x"}, "hidden_size is 'x'; it must be a whole number of at least 1"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000, which no model has"),
        ({"vocab_size": None}, "vocab_size is None; it must be a whole number of at least 1"),
        ({"num_attention_heads": 3}, "3 heads cannot share 2 key and value heads evenly"),
        (
            {"attention_bias": True},
            "attention_bias is set, which optimum-neuron does not compile for a llama",
        ),
        ({"head_dim": 8}, "2 heads of head_dim 8 are not hidden_size 4"),
        ({"partial_rotary_factor": 0.5}, r"partial_rotary_factor is 0\.5, which optimum-neuron ignores"),
    ],
)
def test_a_model_that_cannot_be_served_is_refused_with_one_sentence_by_every_command(
    changed: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    path = packages.write_weights(tmp_path / "weights")
    packages.write_json(path / "config.json", {**packages.SMALL_CONFIG, **changed})
    with pytest.raises(CheckpointError, match=sentence) as refused:
        check_config({**packages.SMALL_CONFIG, **changed}, str(path / "config.json"))
    error = f"Error: {refused.value}"
    for arguments in (
        ["package", path, "--preset", "llama2-7b-budget", "--output", tmp_path / "out"],
        ["compile", "llama2-7b-budget", "--model", path, "--output", tmp_path / "out", "--dry-run"],
        ["compile", "llama2-7b-budget", "--model", path, "--output", tmp_path / "out"],
        ["presets", "check", "--model", path, *CHECKED],
        ["presets", "check", "--model", path / "config.json", *CHECKED],
    ):
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert (result.exit_code, result.stderr.splitlines()[-1]) == (1, error), arguments
    assert not list((tmp_path / "out").glob("*"))


#: What ``presets check --model`` needs besides.
CHECKED = (
    *("--instance-type", "ml.inf2.xlarge", "--batch-size", "1"),
    *("--sequence-length", "128", "--tensor-parallel-size", "2"),
)


@pytest.mark.parametrize(
    "names",
    [
        ["model.layers.0.mlp.up_proj.qweight", "model.layers.0.mlp.up_proj.qzeros"],
        ["model.layers.0.mlp.up_proj.weight_packed", "model.layers.0.mlp.up_proj.weight_scale"],
        ["model.layers.0.mlp.up_proj.weight.absmax"],
        ["model.layers.0.mlp.experts.gate_up_proj_blocks"],
    ],
)
def test_quantized_tensors_are_found_without_a_word_in_the_configuration(
    names: list[str], tmp_path: Path
) -> None:
    path = packages.write_weights(tmp_path / "weights", shards=1)
    packages.write_safetensors(
        path / "model-00001-of-00001.safetensors",
        tensors={**packages.SMALL_TENSORS, **dict.fromkeys(names, (4,))},
    )
    with pytest.raises(CheckpointError, match=r"the weights are quantized \(model\.layers\.0\.mlp"):
        inspect(path).check()
    packages.write_safetensors(
        path / "model-00001-of-00001.safetensors", tensors=packages.SMALL_TENSORS, dtype="F8_E4M3"
    )
    with pytest.raises(CheckpointError, match=r"quantized \(of type F8_E4M3\)"):
        inspect(path).check()


def test_a_cpu_runs_what_optimum_neuron_does_not_compile(tmp_path: Path) -> None:
    path = packages.write_weights(tmp_path / "weights")
    packages.write_json(path / "config.json", {**packages.SMALL_CONFIG, "partial_rotary_factor": 0.5})
    assert inspect(path, compiles=False).faults == ()


def test_rows_longer_than_the_model_attends_to_are_refused(tmp_path: Path) -> None:
    path = packages.write_weights(tmp_path / "weights")
    config = {**packages.SMALL_CONFIG, "use_sliding_window": True, "sliding_window": 2047}
    packages.write_json(path / "config.json", config)
    assert inspect(path, sequence_length=2047).faults == ()
    (fault,) = inspect(path, sequence_length=2048).faults
    assert "attends to the last 2047 tokens only (sliding_window)" in fault
    (fault,) = inspect(path, sequence_length=8193).faults
    assert "sequence_length is 8193" in fault
    assert "has 8192 positions; lower it" in fault
    packages.write_json(path / "config.json", {**config, "use_sliding_window": False})
    assert inspect(path, sequence_length=8192).faults == ()
