"""Compiled models as the source of a package."""

from __future__ import annotations

from pathlib import Path

import pytest

import inf2kit
from inf2kit.errors import PackageError
from inf2kit.package import collect
from tests.helpers import packages

LOCAL = inf2kit.load_preset("smollm2-135m-local")
NEURON = inf2kit.load_preset("llama2-7b-budget")


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"neuronxcc_version": "2.19.8089.0"}, "neuronx_cc 2.19.8089.0, the image"),
        ({"optimum_neuron_version": "0.4.5"}, "optimum_neuron 0.4.5, the image"),
        ({"batch_size": 4}, "compiled with batch_size 4, the preset 'llama2-7b-budget' asks for 1"),
        ({"sequence_length": 4096}, "compiled with sequence_length 4096"),
        ({"tp_degree": 24}, "compiled with tp_degree 24"),
        ({"torch_dtype": "torch.bfloat16"}, "compiled with torch_dtype bfloat16"),
    ],
)
def test_an_artefact_that_was_compiled_for_something_else_is_refused(
    tmp_path: Path, changed: dict[str, object], sentence: str
) -> None:
    with pytest.raises(PackageError, match=sentence):
        collect(NEURON, packages.write_artifacts(tmp_path / "artefact", NEURON, **changed))


def test_a_compiled_model_and_a_preset_of_the_other_kind_are_refused(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"lacks neuron_config\.json, so it is not compiled for Neuron"):
        collect(NEURON, weights)
    with pytest.raises(
        PackageError, match="is compiled for Neuron, and 'smollm2-135m-local' runs on the CPU"
    ):
        collect(LOCAL, packages.write_artifacts(tmp_path / "artefact", NEURON))


def test_pickles_in_a_compiled_model_are_left_out_but_for_the_graphs(tmp_path: Path) -> None:
    compiled = packages.write_artifacts(tmp_path / "artefact", NEURON)
    (compiled / "checkpoint/weights/old.pt").write_bytes(b"\x80\x04")
    files = collect(NEURON, compiled).files
    assert "model.pt" in files
    assert "checkpoint/weights/old.pt" not in files


def test_a_shard_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    compiled = packages.write_artifacts(tmp_path / "artefact", NEURON)
    shard = compiled / "checkpoint/weights/tp1_sharded_checkpoint.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(PackageError, match=r"should have .* by its own header; fetch it again"):
        collect(NEURON, compiled)
