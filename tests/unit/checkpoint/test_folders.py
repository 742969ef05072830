"""Folders that are no model's, or not a whole one: each is refused with what it is and what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

import inf2kit
from inf2kit.checkpoint import inspect
from inf2kit.cli.commands import main
from inf2kit.errors import CheckpointError, CompileError, PackageError
from inf2kit.package import collect
from tests.helpers import packages

LOCAL = inf2kit.load_preset("smollm2-135m-local")
SHARD = "model-00001-of-00002.safetensors"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A whole model in two shards, with a tokenizer, in a folder with a space and an umlaut in its name."""
    return packages.write_weights(tmp_path / "my modèle")


def remove(*names: str) -> Callable[[Path], object]:
    """Return a damage that deletes files."""
    return lambda path: [(path / name).unlink() for name in names]


def write(name: str, content: bytes) -> Callable[[Path], object]:
    """Return a damage that writes a file."""

    def damage(path: Path) -> None:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)

    return damage


def cut_shard(path: Path) -> None:
    (path / SHARD).write_bytes((path / SHARD).read_bytes()[:-1])


def link_to_nowhere(path: Path) -> None:
    (path / SHARD).unlink()
    (path / SHARD).symlink_to("../blobs/0123")


def shout(path: Path) -> None:
    """Leave one file, whose name is in capitals."""
    remove(SHARD, "model.safetensors.index.json", "model-00002-of-00002.safetensors")(path)
    packages.write_safetensors(path / "MODEL.SAFETENSORS", tensors=packages.SMALL_TENSORS)


def only(*names: str) -> Callable[[Path], object]:
    """Return a damage that leaves nothing but these files of one byte."""

    def damage(path: Path) -> None:
        for file in path.iterdir():
            file.unlink()
        for name in names:
            write(name, b"\x80")(path)

    return damage


FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 4976698672\n"


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (
            remove("model-00002-of-00002.safetensors"),
            r"lacks model-00002-of-00002\.safetensors, of the 2 files",
        ),
        (cut_shard, "should have .* by its own header; fetch it again"),
        (write(SHARD, b"\xff" * 100), "is not a safetensors file; fetch it again"),
        (write(SHARD, b"\x08\0\0\0\0\0\0\0[1, 2]  "), "is not a safetensors file; fetch it again"),
        (write(SHARD, b""), f"{SHARD} is empty; fetch it again"),
        (
            write(SHARD, POINTER),
            r"is a pointer of Git LFS, not the file of 4,976,698,672 bytes; run 'git lfs pull'",
        ),
        (write("tokenizer.json", POINTER), r"tokenizer\.json is a pointer of Git LFS"),
        (link_to_nowhere, r"is a link to \.\./blobs/0123, which does not exist; fetch the file again"),
        (remove("tokenizer.json"), r"lacks its tokenizer \(tokenizer\.json\); save it there"),
        (write("tokenizer.json", b"{}"), r"tokenizer\.json holds no vocabulary"),
        (remove("config.json"), r"lacks config\.json; give a directory that save_pretrained has written"),
        (write("config.json", b"{'a': 1}"), r"config\.json is not JSON \("),
        (write("config.json", b"[]"), r"config\.json is not a JSON object"),
        (write("config.json", b"\xff\xfe"), r"config\.json is not JSON"),
        (write("chat_template.jinja", b"\xff\xfe{"), r"chat_template\.jinja is not text in UTF-8; save it"),
        (write("generation_config.json", b"{"), r"generation_config\.json is not JSON"),
        (write("code/inference.py", b""), r"holds code/inference\.py, so it is a package already"),
        (write("model.safetensors.index.json", b"{"), r"index\.json is not JSON"),
        (write("model.safetensors.index.json", b"{}"), r"index\.json names no weights; save the model again"),
        (
            remove("model.safetensors.index.json"),
            r"and lacks model\.safetensors\.index\.json, which says where",
        ),
        (shout, r"holds MODEL\.SAFETENSORS, and transformers looks for model\.safetensors; rename it"),
        (only(), r"lacks config\.json; give a directory"),
        (
            only("consolidated.00.pth", "params.json", "tokenizer.model"),
            r"its maker's own layout \(consolidated\.00\.pth, params\.json\).*convert_llama_weights_to_hf",
        ),
        (
            only(
                "adapter_config.json",
                "adapter_model.safetensors",
                "tokenizer.json",
                "checkpoint-5/optimizer.pt",
            ),
            r"is an adapter alone.*merge_and_unload\(\)\.save_pretrained",
        ),
        (only("adapter_config.json", "adapter_model.bin", "config.json"), "is an adapter alone"),
        (only("llama-Q4_K_M.gguf"), r"its weights as GGUF \(llama-Q4_K_M\.gguf\), which is for llama\.cpp"),
        (only("config.json", "pytorch_model.bin"), r"lacks model\.safetensors: its weights are pickled"),
        (only("config.json", "pytorch_model-00001-of-00002.bin"), "its weights are pickled"),
        (only("config.json", "onnx/model.onnx"), "weights for another framework"),
        (only("config.json", "tokenizer.json"), r"lacks model\.safetensors; save the model again"),
        (only("unet/config.json", "model_index.json"), "holds its models in folders: unet"),
        (
            only("checkpoint-500/config.json", "checkpoint-1000/config.json"),
            "holds its models in folders: checkpoint-500, checkpoint-1000; give one .* as .*/checkpoint-1000",
        ),
        (
            only("snapshots/0123/config.json", "refs/main"),
            "holds its models in folders: snapshots/0123; give one",
        ),
        (
            only("config.json", "global_step100/mp_rank_00_model_states.pt"),
            "shards of a distributed training",
        ),
    ],
)
def test_a_folder_that_is_not_a_whole_model_is_refused_in_one_sentence(
    weights: Path, damage: Callable[[Path], object], sentence: str, tmp_path: Path
) -> None:
    damage(weights)
    result = CliRunner().invoke(
        main, ["package", str(weights), "--preset", LOCAL.name, "--output", str(tmp_path / "out")]
    )
    assert result.exit_code == 1
    last_line = result.stderr.splitlines()[-1]
    assert re.search(sentence, last_line), last_line
    assert last_line.startswith("Error: ")
    for kind in (CheckpointError, CompileError, PackageError):
        with pytest.raises(kind, match=sentence):
            collect(LOCAL, weights)
    assert not list((tmp_path / "out").glob("*"))


def test_all_faults_are_listed_before_anything_is_sent(weights: Path, tmp_path: Path) -> None:
    remove(SHARD, "tokenizer.json")(weights)
    write("generation_config.json", b"{")(weights)
    arguments = [
        "package",
        str(weights),
        "--preset",
        LOCAL.name,
        "--output",
        str(tmp_path / "out"),
        "--dry-run",
    ]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    faults = [line for line in result.stdout.splitlines() if line.startswith("  wrong: ")]
    assert len(faults) == 3
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert "(and 2 more: see --dry-run)" in result.stderr
    assert not (tmp_path / "out").exists(), "a dry run writes nothing"


def test_a_link_out_of_the_folder_is_not_published(weights: Path, tmp_path: Path) -> None:
    secret = tmp_path / "credentials"
    secret.write_text("aws_secret_access_key = x", encoding="utf-8")
    (weights / "notes.json").symlink_to(secret)
    with pytest.raises(PackageError, match=r"notes\.json is a link to .*/credentials, outside of"):
        collect(LOCAL, weights)
    (weights / "notes.json").unlink()
    (weights / "folder").symlink_to(tmp_path)
    with pytest.raises(PackageError, match="folder is a link to"):
        collect(LOCAL, weights)


def test_links_within_a_folder_and_those_of_a_hubs_cache_are_files(weights: Path, tmp_path: Path) -> None:
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


def test_the_tensors_must_be_those_of_the_configuration(tmp_path: Path) -> None:
    """transformers fills what is missing with random numbers, and only logs it."""
    path = packages.write_small_model(tmp_path / "model", vocabulary=10)
    packages.write_json(path / "tokenizer.json", packages.SMALL_TOKENIZER)
    assert inspect(path).faults == ()
    changes: list[tuple[dict[str, object], str]] = [
        ({"num_hidden_layers": 2}, r"lacks model\.layers\.1\.self_attn\.q_proj\.weight and 8 more tensors"),
        ({"tie_word_embeddings": False}, r"lacks lm_head\.weight, which its config\.json asks for"),
        ({"vocab_size": 12}, r"the embeddings of .* have 10 rows and its config\.json has vocab_size 12"),
        ({"model_type": "qwen2"}, r"lacks model\.layers\.0\.self_attn\.q_proj\.bias and 2 more tensors"),
        ({"hidden_size": 8}, r"embed_tokens\.weight of .* is \[10, 4\] and should be \[10, 8\]"),
        ({"num_key_value_heads": 1}, r"k_proj\.weight of .* is \[4, 4\] and should be \[2, 4\]"),
        ({"intermediate_size": 9}, r"gate_proj\.weight of .* is \[8, 4\] and should be \[9, 4\]"),
    ]
    for changed, sentence in changes:
        packages.write_json(path / "config.json", {**packages.SMALL_CONFIG, **changed})
        with pytest.raises(CheckpointError, match=sentence):
            inspect(path).check()


@pytest.mark.parametrize(
    ("prefix", "tool"),
    [
        ("base_model.model.", "PEFT"),
        ("_orig_mod.", r"torch\.compile"),
        ("module.", "DistributedDataParallel or DeepSpeed"),
    ],
)
def test_tensors_named_by_a_training_tool_are_explained(prefix: str, tool: str, tmp_path: Path) -> None:
    path = packages.write_small_model(tmp_path / "model")
    packages.write_json(path / "tokenizer.json", packages.SMALL_TOKENIZER)
    renamed = {f"{prefix}{name}": shape for name, shape in packages.SMALL_TENSORS.items()}
    packages.write_safetensors(path / "model.safetensors", tensors=renamed)
    with pytest.raises(
        CheckpointError, match=f"the tensors of .* are named as '{prefix}.*which is from {tool}"
    ):
        inspect(path).check()


def test_a_tokenizer_larger_than_the_embeddings_is_refused(weights: Path) -> None:
    tokenizer = {
        **packages.SMALL_TOKENIZER,
        "added_tokens": [{"id": 10, "content": "<pad>", **dict.fromkeys(FLAGS, False)}],
    }
    packages.write_json(weights / "tokenizer.json", tokenizer)
    with pytest.raises(
        CheckpointError, match=r"has 11 tokens and its embeddings have 10 rows; .*resize_token_emb"
    ):
        inspect(weights).check()


def test_a_tokenizer_in_a_newer_form_is_explained(weights: Path) -> None:
    tokenizer = {**packages.SMALL_TOKENIZER, "pre_tokenizer": {"type": "NotKnownYet"}}
    packages.write_json(weights / "tokenizer.json", tokenizer)
    with pytest.raises(
        CheckpointError, match=r"tokenizer\.json cannot be read by tokenizers 0\..*save the tokenizer again"
    ):
        inspect(weights).check()


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"tokenizer.model": b"\n\x05"}, "its tokenizer as SentencePiece only.*which needs sentencepiece"),
        (
            {"vocab.json": b"{}", "merges.txt": b"#"},
            r"as vocab\.json and merges\.txt only; write tokenizer\.json with",
        ),
    ],
)
def test_tokenizers_in_older_forms_are_explained(
    weights: Path, files: dict[str, bytes], sentence: str
) -> None:
    (weights / "tokenizer.json").unlink()
    for name, content in files.items():
        (weights / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=sentence):
        inspect(weights).check()


def test_a_dry_run_says_what_a_folder_is(weights: Path, tmp_path: Path) -> None:
    packages.write_json(weights / "tokenizer_config.json", {"chat_template": "{{ messages }}"})
    arguments = [
        "package",
        str(weights),
        "--preset",
        LOCAL.name,
        "--output",
        str(tmp_path / "out"),
        "--dry-run",
    ]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "my modèle: llama, 0.00 G parameters in float16, 6 files" in result.stdout
    assert "written by transformers 4.55.4; the endpoint has 4.55.4" in result.stdout
    assert "tokenizer of 10 tokens, a chat template" in result.stdout
    assert json.loads((weights / "config.json").read_text(encoding="utf-8")) == packages.SMALL_CONFIG
    assert not (tmp_path / "out").exists(), "a dry run writes nothing"
