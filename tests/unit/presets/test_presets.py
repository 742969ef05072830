"""Presets: the seven that ship, and what is said about a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

import inf2kit
from inf2kit.errors import PresetError
from inf2kit.package.environment import container_environment

GOOD = (Path(inf2kit.__file__).parent / "presets" / "llama2-7b-throughput.toml").read_text(encoding="utf-8")


def test_the_blogs_five_and_two_more() -> None:
    shapes = {}
    for name in inf2kit.preset_names():
        preset = inf2kit.load_preset(name)
        compute = preset.compute
        shapes[name] = (preset.shapes.batch_size, compute.tensor_parallel_size, compute.instance_type)
        assert preset.shapes.sequence_length == 2048
        assert (preset.status == "not run on a device") == (compute.backend == "neuron")
    assert shapes == {
        "llama2-7b-latency": (1, 24, "ml.inf2.48xlarge"),
        "llama2-7b-throughput": (4, 24, "ml.inf2.48xlarge"),
        "llama2-13b-latency": (1, 24, "ml.inf2.48xlarge"),
        "llama2-13b-throughput": (4, 24, "ml.inf2.48xlarge"),
        "llama2-7b-budget": (1, 2, "ml.inf2.8xlarge"),
        "tinyllama-1.1b-starter": (4, 2, "ml.inf2.xlarge"),
        "smollm2-135m-local": (8, 1, "local"),
    }


def test_the_blogs_instance_can_be_selected_for_the_budget() -> None:
    budget = inf2kit.load_preset("llama2-7b-budget")
    assert budget.with_instance_type("ml.inf2.xlarge").compute.instance_type == "ml.inf2.xlarge"
    with pytest.raises(PresetError, match=r"choose one of ml\.inf2\.8xlarge, ml\.inf2\.xlarge"):
        budget.with_instance_type("ml.inf2.9xlarge")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("batch_size = 4", "batch_sise = 4", r"'batch_size' is missing.*'batch_sise', misspelt\?"),
        (
            "batch_size = 4",
            "batch_size = 4\nbatchsize = 4",
            r"unknown key 'batchsize'; did you mean 'batch_size'",
        ),
        ("batch_size = 4", "batch_size = 0", r"\[shapes\]: batch_size is 0; it must be within 1\.\.256"),
        ("batch_size = 4", 'batch_size = "4"', r"batch_size is '4'; it must be"),
        ("batch_size = 4", "batch_size = true", r"batch_size is True; it must be"),
        ('"float16"', '"fp16"', r"dtype is 'fp16'; it must be one of float16, bfloat16, float32"),
        ('"neuron"', '"neurons"', r"did you mean 'neuron'"),
        (
            "= 24",
            "= 25",
            r"tensor_parallel_size is 25; it must be at most 24, the cores of ml\.inf2\.48xlarge",
        ),
        ("gated = true", "gated = 1", r"gated is 1; it must be a bool"),
        ("[serving]", "[serving]\ndeadline_s = 60", r"deadline_s is 60\.0; it must be above 0 and under 60"),
        ("[shapes]", "[shape]", r"'shapes' is missing; add a table \[shapes\]; is it 'shape', misspelt"),
        ("[model]", "[model", r"is not TOML"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_what_is_allowed(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    assert old in GOOD
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace(old, new), encoding="utf-8")
    with pytest.raises(PresetError, match=said):
        inf2kit.load_preset(str(path))


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(PresetError, match="did you mean 'llama2-7b-latency'"):
        inf2kit.load_preset("lama2-7b-latency")


@pytest.mark.parametrize("name", inf2kit.preset_names())
def test_the_environment_keeps_to_sagemakers_limits(name: str) -> None:
    variables = container_environment(inf2kit.load_preset(name))
    assert len(variables) <= 100
    assert all(len(key) <= 1024 and len(value) <= 1024 for key, value in variables.items())
    assert "INF2KIT_GATEWAY_ADDRESS" not in container_environment(inf2kit.load_preset(name), gateway=False)
