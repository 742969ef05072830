"""A model from a folder has its own name: in the manifest, in answers, in lists."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import inf2kit
from inf2kit.checkpoint import name_of
from inf2kit.cli.commands import main
from inf2kit.package import collect
from inf2kit.serving.settings import Settings
from tests.helpers import packages

LOCAL = inf2kit.load_preset("smollm2-135m-local")
NEURON = inf2kit.load_preset("llama2-7b-budget")


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("my-fine-tune", "my-fine-tune"),
        ("Ein Modell für alle", "Ein Modell für alle"),
        ("my-fine-tune/checkpoint-500", "my-fine-tune/checkpoint-500"),
        ("my-fine-tune/merged_model", "my-fine-tune/merged_model"),
        ("hub/models--org--name/snapshots/0123abcd", "org/name"),
    ],
)
def test_a_folder_names_its_model(folder: str, name: str, tmp_path: Path) -> None:
    (tmp_path / folder).mkdir(parents=True)
    assert name_of(tmp_path / folder) == name


@pytest.mark.parametrize(
    ("origin", "name"),
    [("org/name", "org/name"), ("/home/me/tunes/model", "tunes/model"), (None, "compiled")],
)
def test_a_compiled_folder_names_what_was_compiled(origin: str | None, name: str, tmp_path: Path) -> None:
    assert name_of(packages.write_artifacts(tmp_path / "compiled", NEURON, checkpoint_id=origin)) == name


@pytest.mark.parametrize("command", ["package", "compile"])
def test_a_fine_tune_is_not_called_by_the_presets_name(command: str, tmp_path: Path) -> None:
    weights, out = packages.write_weights(tmp_path / "my-fine-tune"), tmp_path / "out"
    source = (
        [str(weights), "--preset", LOCAL.name]
        if command == "package"
        else [LOCAL.name, "--model", str(weights)]
    )
    result = CliRunner().invoke(main, [command, *source, "--output", str(out)])
    assert result.exit_code == 0, result.output
    package = Path(result.stdout.strip())
    assert json.loads((package / "inf2kit.json").read_text(encoding="utf-8"))["model_name"] == "my-fine-tune"
    assert Settings.read(package, {"INF2KIT_RUN_DIR": str(tmp_path / "run")}).model_name == "my-fine-tune"
    assert "my-fine-tune" in CliRunner().invoke(main, ["packages", "list", str(out)]).stdout
    assert "model my-fine-tune" in CliRunner().invoke(main, ["packages", "verify", str(package)]).stdout


def test_a_name_may_be_chosen_and_the_presets_own_model_keeps_its_digest(tmp_path: Path) -> None:
    weights = packages.write_weights(tmp_path / "weights")
    plain = collect(LOCAL, weights).manifest
    assert plain.model == LOCAL.model.id
    assert collect(LOCAL, weights, model_name=LOCAL.model.id).manifest == plain
    assert b"model_name" not in plain.to_bytes()
    own = collect(LOCAL, weights, model_name="legal/summaries-7b").manifest
    assert (own.model, own.digest != plain.digest) == ("legal/summaries-7b", True)
    arguments = ["package", str(weights), "--preset", LOCAL.name, "--output", str(tmp_path / "out")]
    result = CliRunner().invoke(main, [*arguments, "--model-name", "legal/summaries-7b"])
    manifest = Path(result.stdout.strip()) / "inf2kit.json"
    assert json.loads(manifest.read_text(encoding="utf-8"))["model_name"] == "legal/summaries-7b"


def test_a_package_of_a_fine_tune_can_be_deployed_with_its_preset(tmp_path: Path) -> None:
    contents = collect(NEURON, packages.write_artifacts(tmp_path / "tune", NEURON), model_name="tune")
    contents.manifest.check_fits(NEURON, str(contents.manifest.image_tag))


def test_what_stands_in_for_a_model_is_not_called_by_its_name(tmp_path: Path) -> None:
    weights = packages.write_weights(tmp_path / "weights")
    manifest = collect(NEURON, weights, rehearsal=True, model_name="my-fine-tune").manifest
    assert manifest.model == LOCAL.model.id
