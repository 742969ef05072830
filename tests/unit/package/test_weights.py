"""The source of a package is checked before anything is written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

import inf2kit
from inf2kit.cli import main
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


def break_shard(path: Path) -> None:
    (path / "model-00002-of-00002.safetensors").unlink()


def cut_shard(path: Path) -> None:
    shard = path / "model-00001-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])


def no_tokenizer(path: Path) -> None:
    (path / "tokenizer.json").unlink()


def no_config(path: Path) -> None:
    (path / "config.json").unlink()


def own_code(path: Path) -> None:
    (path / "code").mkdir()
    (path / "code/inference.py").touch()


def no_json(path: Path) -> None:
    (path / "model.safetensors.index.json").write_text("{", encoding="utf-8")


def not_safetensors(path: Path) -> None:
    (path / "model-00001-of-00002.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (break_shard, "lacks model-00002-of-00002.safetensors; save the model again"),
        (cut_shard, "should have .* by its own header; fetch it again"),
        (no_tokenizer, "lacks its tokenizer"),
        (no_config, "lacks config.json"),
        (own_code, "holds code/inference.py"),
        (no_json, "cannot be read: .*; fetch it again"),
        (not_safetensors, "is not a safetensors file; fetch it again"),
    ],
)
def test_a_source_that_is_not_whole_is_refused_in_one_sentence(
    weights: Path, damage: object, sentence: str, tmp_path: Path
) -> None:
    damage(weights)  # type: ignore[operator]
    result = CliRunner().invoke(
        main, ["package", str(weights), "--preset", LOCAL.name, "--output", str(tmp_path / "out")]
    )
    assert result.exit_code == 1
    assert re.search(sentence, result.stderr.splitlines()[-1])
    with pytest.raises(PackageError, match=sentence):
        collect(LOCAL, weights)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_link_out_of_the_source_is_not_published(weights: Path, tmp_path: Path) -> None:
    secret = tmp_path / "credentials"
    secret.write_text("aws_secret_access_key = x", encoding="utf-8")
    (weights / "notes.json").symlink_to(secret)
    with pytest.raises(PackageError, match=r"notes\.json is a link to .*/credentials, outside of"):
        collect(LOCAL, weights)
    (weights / "notes.json").unlink()
    (weights / "folder").symlink_to(tmp_path)
    with pytest.raises(PackageError, match="folder is a link to"):
        collect(LOCAL, weights)


def test_links_within_a_source_and_those_of_a_hubs_cache_are_files(weights: Path, tmp_path: Path) -> None:
    digest = collect(LOCAL, weights).manifest.digest
    snapshot, blobs = tmp_path / "models--a--b/snapshots/0123", tmp_path / "models--a--b/blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(sorted(weights.iterdir())):
        path.rename(blobs / str(number))
        (snapshot / path.name).symlink_to(Path("../../blobs") / str(number))
    assert collect(LOCAL, snapshot).manifest.digest == digest
    (snapshot / "tokenizer.json").rename(snapshot / "other.json")
    (snapshot / "tokenizer.json").symlink_to("other.json")
    assert "tokenizer.json" in collect(LOCAL, snapshot).files


def test_pickles_are_left_out_but_for_the_compiled_graphs(weights: Path, tmp_path: Path) -> None:
    digest = collect(LOCAL, weights).manifest.digest
    for name in ("pytorch_model.bin", "training_args.bin", "original/consolidated.00.pth", "model.pt"):
        (weights / name).parent.mkdir(exist_ok=True)
        (weights / name).write_bytes(b"\x80\x04")
    assert collect(LOCAL, weights).manifest.digest == digest
    compiled = packages.write_artifacts(tmp_path / "artefact", NEURON)
    (compiled / "checkpoint/weights/old.pt").write_bytes(b"\x80\x04")
    files = collect(NEURON, compiled).files
    assert "model.pt" in files
    assert "checkpoint/weights/old.pt" not in files
