"""The contents of a package: the same files give the same digest, and nothing foreign ships."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import inf2kit
from inf2kit.package import Manifest, collect
from tests.helpers import packages

LOCAL = inf2kit.load_preset("smollm2-135m-local")
NEURON = inf2kit.load_preset("llama2-7b-budget")


def test_the_same_files_have_the_same_digest_wherever_and_whenever_they_were_written(
    weights: Path, tmp_path: Path
) -> None:
    first = collect(LOCAL, weights).manifest
    other = tmp_path / "elsewhere"
    shutil.copytree(weights, other)
    os.utime(other / "config.json", (1, 1))
    assert collect(LOCAL, other).manifest.digest == first.digest
    packages.write_json(other / "config.json", {**packages.SMALL_CONFIG, "rms_norm_eps": 1e-5})
    assert collect(LOCAL, other).manifest.digest != first.digest
    assert Manifest.parse(first.to_bytes(), "here") == Manifest.parse(first.to_bytes(), "there")
    assert Manifest.parse(first.to_bytes(), "here").digest == first.digest


def test_a_package_holds_weights_code_and_vendored_packages_and_nothing_of_the_installer(
    weights: Path,
) -> None:
    files = collect(LOCAL, weights).manifest.files
    for name in (
        "config.json",
        "code/inference.py",
        "code/inf2kit/serving/wire/request.py",
        "code/vendor/h11/__init__.py",
    ):
        assert name in files
    names = {Path(name).name for name in files}
    assert not names & {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "requirements.txt"}
    assert not any("__pycache__" in name for name in files)


def test_a_rehearsal_has_as_many_engines(weights: Path) -> None:
    fleet = inf2kit.load_preset("llama2-7b-fleet")
    manifest = collect(fleet, weights, rehearsal=True).manifest
    assert manifest.preset["compute"]["data_parallel_size"] == 3
    manifest.check_fits(fleet, "any")


def test_a_rehearsal_keeps_the_shapes_of_the_preset_and_says_what_stands_in(weights: Path) -> None:
    manifest = collect(NEURON, weights, rehearsal=True).manifest
    assert manifest.preset["shapes"]["batch_size"] == NEURON.shapes.batch_size
    assert (manifest.target, manifest.preset["compute"]["backend"]) == ("cpu", "cpu")
    assert "stands in for meta-llama/Llama-2-7b-hf on ml.inf2.8xlarge" in str(manifest.notice)
    manifest.check_fits(NEURON, "any")
