"""What of a folder goes into a package: training state and second copies do not, and are named with sizes."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

import inf2kit
from inf2kit.checkpoint import inspect, sort_files
from inf2kit.cli.commands import main
from inf2kit.package import collect
from tests.helpers import packages

LOCAL = inf2kit.load_preset("smollm2-135m-local")
MODEL = [
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
]


@pytest.mark.parametrize(
    ("name", "left_out", "reason"),
    [
        ("checkpoint-500/optimizer.pt", "checkpoint-500/", "of a training"),
        ("checkpoint-500/config.json", "checkpoint-500/", "of a training"),
        ("global_step10/mp_rank_00_model_states.pt", "global_step10/", "of a training"),
        ("runs/Nov26/events.out.tfevents.1", "runs/", "of a training"),
        ("wandb/run-1/files/config.yaml", "wandb/", "of a training"),
        ("optimizer.pt", "optimizer.pt", "of a training"),
        ("scheduler.pt", "scheduler.pt", "of a training"),
        ("rng_state_0.pth", "rng_state_0.pth", "of a training"),
        ("trainer_state.json", "trainer_state.json", "of a training"),
        ("training_args.bin", "training_args.bin", "of a training"),
        ("train.log", "train.log", "of a training"),
        ("pytorch_model.bin", "pytorch_model.bin", "pickled, which is never loaded"),
        ("pytorch_model.bin.index.json", "pytorch_model.bin.index.json", "pickled, which is never loaded"),
        ("PYTORCH_MODEL.BIN", "PYTORCH_MODEL.BIN", "pickled, which is never loaded"),
        ("original/consolidated.00.pth", "original/", "the same model in its maker's own layout"),
        ("consolidated.safetensors", "consolidated.safetensors", "the same model in its maker's own layout"),
        ("params.json", "params.json", "the same model in its maker's own layout"),
        ("onnx/model.onnx", "onnx/", "weights for another framework"),
        ("model-Q4_K_M.gguf", "model-Q4_K_M.gguf", "weights for another framework"),
        ("flax_model.msgpack", "flax_model.msgpack", "weights for another framework"),
        (
            "adapter_model.safetensors",
            "adapter_model.safetensors",
            "an adapter, which is not applied to the weights",
        ),
        ("adapter_config.json", "adapter_config.json", "an adapter, which is not applied to the weights"),
        ("model.fp16.safetensors", "model.fp16.safetensors", "weights that the model does not load"),
        ("model-00001-of-00002.safetensors", "model-00001-of-00002.safetensors", "the same weights again"),
        ("model.safetensors.index.json", "model.safetensors.index.json", "the same weights again"),
        ("draft/config.json", "draft/", "a model of its own"),
        ("draft/model.safetensors", "draft/", "a model of its own"),
        (".git/objects/ab/cd", ".git/", "hidden"),
        (".cache/huggingface/download/x.lock", ".cache/", "hidden"),
        (".gitattributes", ".gitattributes", "hidden"),
        (".DS_Store", ".DS_Store", "hidden"),
        ("modeling_llama.py", "modeling_llama.py", "code of the model's own, which is never run"),
        ("__pycache__/modeling_llama.cpython-310.pyc", "__pycache__/", "code of the model's own"),
        ("model-00001-of-00002.safetensors.incomplete", None, "of a download that broke off"),
        ("backup.tar.gz", "backup.tar.gz", "an archive"),
    ],
)
def test_what_a_model_does_not_need_is_left_out(name: str, left_out: str | None, reason: str) -> None:
    sizes = {**dict.fromkeys(MODEL, 1), name: 7}
    if name == "draft/model.safetensors":
        sizes["draft/config.json"] = 1
    layout = sort_files(sizes)
    assert set(layout.packaged) == set(MODEL)
    (entry,) = layout.left_out
    assert entry.name == (left_out or name)
    assert entry.reason.startswith(reason)
    assert entry.size == 7 + (name == "draft/model.safetensors")


@pytest.mark.parametrize(
    "name",
    [
        "LICENSE",
        "README.md",
        "added_tokens.json",
        "additional_chat_templates/rag.jinja",
        "chat_template.jinja",
        "labels.json",
        "merges.txt",
        "special_tokens_map.json",
        "tables/prices.csv",
        "tokenizer.model",
        "vocab.json",
    ],
)
def test_what_a_tokenizer_a_licence_or_a_handler_may_need_is_kept(name: str) -> None:
    assert name in sort_files({**dict.fromkeys(MODEL, 1), name: 7}).packaged


def test_a_compiled_models_own_files_are_kept() -> None:
    names = ["neuron_config.json", "model.pt", "checkpoint/weights/tp0_sharded_checkpoint.safetensors"]
    layout = sort_files(dict.fromkeys(["config.json", "tokenizer.json", *names], 1))
    assert layout.left_out == ()


def test_a_training_folder_is_packaged_without_its_training_and_says_so(tmp_path: Path) -> None:
    weights = packages.write_weights(tmp_path / "my-fine-tune")
    digest = collect(LOCAL, weights).manifest.digest
    for name, size in {
        "checkpoint-500/optimizer.pt": 3_000_000,
        "checkpoint-500/model.safetensors": 2_000_000,
        "pytorch_model.bin": 1_500_000,
        "original/consolidated.00.pth": 1_200_000,
        "training_args.bin": 5_400,
        "model-00003-of-00002.safetensors": 64,
    }.items():
        (weights / name).parent.mkdir(exist_ok=True)
        (weights / name).write_bytes(bytes(size))
    assert collect(LOCAL, weights).manifest.digest == digest
    arguments = ["package", str(weights), "--preset", LOCAL.name, "--output", str(tmp_path / "out")]
    for result in (CliRunner().invoke(main, [*arguments, "--dry-run"]), CliRunner().invoke(main, arguments)):
        assert result.exit_code == 0, result.output
        lines = result.output.splitlines()
        named = "left out, of a training: checkpoint-500/ (2 files, 5.0 MB), training_args.bin (5.4 kB)"
        sent = next(number for number, line in enumerate(lines) if line.endswith("to send"))
        assert any(named in line for line in lines[:sent]), "it is named before anything is sent"
        assert "left out, pickled, which is never loaded: pytorch_model.bin (1.5 MB)" in result.output
        assert "maker's own layout: original/ (1.2 MB)" in result.output
        assert "does not name: model-00003-of-00002.safetensors (0.1 kB)" in result.output
    (packaged,) = (tmp_path / "out").glob("*/*.safetensors.index.json")
    assert not {path.name for path in packaged.parent.iterdir()} & {
        "checkpoint-500",
        "original",
        "pytorch_model.bin",
    }


def test_many_files_are_counted_and_the_largest_named(tmp_path: Path) -> None:
    weights = packages.write_weights(tmp_path / "weights")
    for number in range(20):
        (weights / f"part-{number:02}.bin").write_bytes(bytes(1000 + number))
    (line,) = (line for line in inspect(weights).lines() if "pickled" in line)
    assert "part-19.bin (1.0 kB)" in line
    assert line.endswith("and 12 files more (12.1 kB)")


def test_the_weights_that_transformers_loads_are_those_that_are_packaged(tmp_path: Path) -> None:
    """Of one file and shards of the same model, transformers and optimum-neuron load the one file."""
    weights = packages.write_weights(tmp_path / "weights")
    packages.write_safetensors(weights / "model.safetensors", tensors=packages.SMALL_TENSORS)
    inspection = inspect(weights)
    assert inspection.faults == ()
    assert {name for name in inspection.files if "safetensors" in name} == {"model.safetensors"}
    assert all("transformers loads model.safetensors" in entry.reason for entry in inspection.left_out)
