"""What people write for a model of the hub."""

from __future__ import annotations

from pathlib import Path

import pytest

from inf2kit.compile.hub import ModelReference
from inf2kit.errors import CompileError

COMMIT = "0123456789" * 4


@pytest.mark.parametrize(
    ("text", "model", "revision"),
    [
        ("org/name", "org/name", None),
        ("gpt2", "gpt2", None),
        ("org/name@v1.0", "org/name", "v1.0"),
        (f"org/name@{COMMIT}", "org/name", COMMIT),
        ("org/name@refs/pr/3", "org/name", "refs/pr/3"),
        (" org/name\n", "org/name", None),
        ("https://huggingface.co/org/name", "org/name", None),
        ("https://huggingface.co/org/name/", "org/name", None),
        ("http://www.huggingface.co/org/name/tree/main", "org/name", "main"),
        ("https://huggingface.co/org/name/tree/refs%2Fpr%2F3", "org/name", "refs/pr/3"),
        ("https://huggingface.co/org/name/blob/v2/config.json", "org/name", "v2"),
        ("https://huggingface.co/org/name/resolve/main/model.safetensors?download=true", "org/name", "main"),
        (f"https://huggingface.co/org/name/commit/{COMMIT}", "org/name", COMMIT),
        ("https://huggingface.co/org/name?library=transformers#usage", "org/name", None),
        ("https://huggingface.co/gpt2/tree/main", "gpt2", "main"),
        ("hf.co/org/name", "org/name", None),
        ("huggingface.co/org/name/tree/main", "org/name", "main"),
        ("hf://org/name@v1", "org/name", "v1"),
    ],
)
def test_a_model_is_read_from_its_name_or_address(text: str, model: str, revision: str | None) -> None:
    assert ModelReference.parse(text) == ModelReference(model, revision)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("my model", "'my model' is neither a folder on this machine nor the name of a model"),
        ("org/my model", "neither a folder on this machine"),
        ("örg/name", "neither a folder on this machine"),
        ("org/name/more", "neither a folder on this machine"),
        ("./name", "neither a folder on this machine"),
        ("/srv/models/name", "neither a folder on this machine"),
        ("../name", "neither a folder on this machine"),
        ("", "neither a folder on this machine"),
        ("org/", "neither a folder on this machine"),
        ("org/na--me", "neither a folder on this machine"),
        ("org/name.git", "neither a folder on this machine"),
        ("org/" + 97 * "x", "neither a folder on this machine"),
        (5000 * "x", "neither a folder on this machine"),
        ("org/na\0me", "neither a folder on this machine"),
        ("org/name@", "ends in '@'"),
        ("datasets/org/name", "is a dataset of the Hugging Face hub; give a model"),
        ("https://huggingface.co/datasets/org/name", "is a dataset of the Hugging Face hub; give a model"),
        ("https://huggingface.co/spaces/org/name/tree/main", "is a space of the Hugging Face hub"),
        ("https://huggingface.co/org/name/tree", "ends before its revision"),
        ("https://github.com/org/name", "is not an address of the Hugging Face hub"),
        ("s3://bucket/model", "is not an address of the Hugging Face hub"),
    ],
)
def test_what_names_no_model_is_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(CompileError) as raised:
        ModelReference.parse(text)
    assert sentence in str(raised.value)


def test_a_folder_is_a_folder_whatever_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "org" / "name@1").mkdir(parents=True)
    (tmp_path / "file").write_text("x", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert ModelReference.parse("org/name@1", "v1") == ModelReference("org/name@1", "v1")
    with pytest.raises(CompileError, match="file is a file; give the folder that holds it"):
        ModelReference.parse("file")


def test_two_revisions_must_agree() -> None:
    assert ModelReference.parse("org/name@v1", "v1").revision == "v1"
    assert ModelReference.parse("org/name", "v1").revision == "v1"
    with pytest.raises(CompileError, match="--revision is empty; give a branch, a tag or a commit"):
        ModelReference.parse("org/name", "")
    with pytest.raises(CompileError, match="has the revision v1, and --revision is v2; give one"):
        ModelReference.parse("org/name@v1", "v2")


def test_the_address_of_a_hub_of_ones_own_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.internal:8080")
    assert ModelReference.parse("http://hub.internal:8080/org/name/tree/v1") == ModelReference(
        "org/name", "v1"
    )
