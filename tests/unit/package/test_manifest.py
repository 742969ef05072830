"""The manifest of a compiled model: its versions, and the presets and images that it fits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import inf2kit
from inf2kit.errors import PackageError
from inf2kit.package import collect
from tests.helpers import packages

NEURON = inf2kit.load_preset("llama2-7b-budget")


def test_an_artefact_of_the_right_versions_becomes_a_package_that_says_them(tmp_path: Path) -> None:
    manifest = collect(
        NEURON, packages.write_artifacts(tmp_path / "artefact", NEURON), revision="main"
    ).manifest
    assert (manifest.target, manifest.revision, manifest.notice) == ("inf2", "main", None)
    assert manifest.versions["neuronx_cc"] == "2.21.18209.0"
    assert str(manifest.image_tag).endswith("sdk2.26.0-ubuntu22.04")
    manifest.check_fits(NEURON, str(manifest.image_tag))
    with pytest.raises(PackageError, match=r"for the image .* loads only in the image that compiled it"):
        manifest.check_fits(NEURON, "another-tag")
    with pytest.raises(
        PackageError, match="made for the preset 'llama2-7b-budget', not for 'llama2-7b-latency'"
    ):
        manifest.check_fits(inf2kit.load_preset("llama2-7b-latency"), str(manifest.image_tag))


def test_a_package_says_where_its_model_chooses_tokens_and_serves_the_preset_either_way(
    tmp_path: Path,
) -> None:
    device = replace(NEURON, compute=replace(NEURON.compute, sampling="device"))
    digests = set()
    for on_device in (False, True):
        artefact = packages.write_artifacts(tmp_path / str(on_device), NEURON)
        config = json.loads((artefact / "neuron_config.json").read_text(encoding="utf-8"))
        config["on_device_sampling"] = on_device
        (artefact / "neuron_config.json").write_text(json.dumps(config), encoding="utf-8")
        for preset in (NEURON, device):
            manifest = collect(preset, artefact).manifest
            assert manifest.preset["compute"].get("sampling") == ("device" if on_device else None)
            manifest.check_fits(NEURON, str(manifest.image_tag))
            digests.add(manifest.digest)
    assert len(digests) == 2


def test_a_package_of_one_engine_names_no_number_of_engines_and_does_not_serve_three(tmp_path: Path) -> None:
    one = inf2kit.load_preset("llama2-7b-throughput")
    one = replace(one, compute=replace(one.compute, tensor_parallel_size=8))
    three = replace(one, compute=replace(one.compute, data_parallel_size=3))
    artefact = packages.write_artifacts(tmp_path / "artefact", one)
    manifest = collect(one, artefact).manifest
    assert "data_parallel_size" not in manifest.preset["compute"], "packages of earlier releases are the same"
    with pytest.raises(PackageError, match=r"has compute\.data_parallel_size 1, .* asks for 3"):
        manifest.check_fits(three, str(manifest.image_tag))
    # The number of engines is no property of the compiled model.
    collect(three, artefact).manifest.check_fits(three, str(manifest.image_tag))


def test_a_rehearsal_has_the_engines_and_cores_that_its_preset_has_now(tmp_path: Path) -> None:
    """Alarms and scaling are those of the preset: they would be of engines that the container lacks."""
    one = inf2kit.load_preset("llama2-7b-throughput")
    three = replace(one, compute=replace(one.compute, tensor_parallel_size=8, data_parallel_size=3))
    manifest = collect(one, packages.write_weights(tmp_path / "weights"), rehearsal=True).manifest
    manifest.check_fits(one, "any")
    assert manifest.preset["compute"]["tensor_parallel_size"] == 24, (
        "its engines see the cores of the preset's"
    )
    with pytest.raises(PackageError, match=r"has compute\.data_parallel_size 1, .* asks for 3"):
        manifest.check_fits(three, "any")
