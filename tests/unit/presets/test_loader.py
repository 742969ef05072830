"""Presets are loaded by name or from a file."""

from __future__ import annotations

from pathlib import Path

import pytest

import inf2kit
from inf2kit.errors import PresetError


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


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(PresetError, match="did you mean 'llama2-7b-latency'"):
        inf2kit.load_preset("lama2-7b-latency")


def test_a_file_that_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(PresetError, match=r"missing\.toml cannot be read: No such file"):
        inf2kit.load_preset(str(tmp_path / "missing.toml"))
    (tmp_path / "latin.toml").write_bytes(b'description = "\xe9"')
    with pytest.raises(PresetError, match=r"latin\.toml is not TOML"):
        inf2kit.load_preset(str(tmp_path / "latin.toml"))
