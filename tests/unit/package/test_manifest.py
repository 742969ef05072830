"""The manifest of a compiled model: its versions, and the presets and images that it fits."""

from __future__ import annotations

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
