"""What fits: figures by hand, and ten thousand random shapes."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from transformers import LlamaConfig, LlamaForCausalLM

import inf2kit
from inf2kit import catalog
from inf2kit.catalog import Instance, prices
from inf2kit.cli import main
from inf2kit.errors import CompileError
from inf2kit.fit import (
    Architecture,
    cheapest_instance,
    check_cores,
    estimate_memory,
    largest_batch_size,
    largest_sequence_length,
)
from inf2kit.fit.memory import GIB, HOST_PROCESSES, can_be_split, sharded_heads, weights_per_core
from inf2kit.serving.shapes import StaticShapes

LLAMA_7B = Architecture.find("meta-llama/Llama-2-7b-hf")
LLAMA_13B = Architecture.find("meta-llama/Llama-2-13b-hf")
TINY = Architecture.find("TinyLlama/TinyLlama-1.1B-Chat-v1.0")
COMBINATIONS, SHAPES_EACH = 10_000, 50


def test_figures_by_hand() -> None:
    # 2 x 32000 x 4096, and 32 x (4 x 4096^2 + 3 x 4096 x 11008 + 2 x 4096), and 4096.
    assert LLAMA_7B.parameters == 6_738_415_616
    assert round(LLAMA_7B.parameters * 2 / 1e9, 2) == 13.48
    assert LLAMA_13B.parameters == 13_015_864_320
    assert TINY.parameters == 1_100_048_384
    # Keys and values, 32 layers, 32 heads of 128, two bytes.
    assert estimate_memory(LLAMA_7B, StaticShapes.resolve(1, 2), 1, "float16").kv_cache == 2 * 524_288
    assert (
        estimate_memory(LLAMA_13B, StaticShapes.resolve(1, 2), 1, "float16").kv_cache
        == 2 * 2 * 40 * 40 * 128 * 2
    )
    # Grouped queries: 4 of TinyLlama's 32 heads have keys and values, of 64 numbers, in 22 layers.
    assert estimate_memory(TINY, StaticShapes.resolve(1, 2), 1, "float16").kv_cache == 2 * 2 * 22 * 4 * 64 * 2
    # On one core nothing is padded; each layer and the model have a number of their core.
    assert weights_per_core(LLAMA_7B, 1, "float16") == 13_476_831_232 + 4 * 33


def test_heads_are_padded_and_repeated() -> None:
    assert sharded_heads(LLAMA_7B, 24) == (48, 48)
    assert sharded_heads(LLAMA_13B, 24) == (48, 48)
    assert sharded_heads(LLAMA_7B, 2) == (32, 32)
    assert sharded_heads(TINY, 2) == (32, 4)
    assert sharded_heads(TINY, 24) == (48, 24)
    assert sharded_heads(TINY, 8) == (32, 8)
    # One core of 24: two heads instead of 1 1/3, 459 instead of 458 2/3 columns of the layers between.
    layer = 4096 * 2 * 128 * 4 + 3 * 4096 * 459 + 2 * 4096
    others = 32_000 * 171 + 1334 * 4096 + 4096
    assert weights_per_core(LLAMA_7B, 24, "float16") == 2 * (32 * layer + others) + 4 * 33


def test_the_budget_preset_has_no_room_on_the_host_of_16_gib() -> None:
    """12.55 GiB of shards, and the processes: two of them have imported torch beside the engine."""
    preset = inf2kit.load_preset("llama2-7b-budget")
    shapes = preset.shapes
    memory = estimate_memory(LLAMA_7B, shapes, 2, "float16")
    assert memory.host == pytest.approx(13.48e9 + HOST_PROCESSES, rel=1e-3)
    small, default = (catalog.instances()[name] for name in ("ml.inf2.xlarge", "ml.inf2.8xlarge"))
    assert HOST_PROCESSES == 4 * GIB
    assert memory.verdict(small) == "does not fit"
    assert (
        estimate_memory(replace(LLAMA_7B, num_hidden_layers=28), shapes, 2, "float16").verdict(small)
        == "tight"
    )
    assert memory.verdict(default) == "fits"
    assert memory.device_use(small) == memory.device_use(default) < 0.6
    assert preset.compute.instance_type == "ml.inf2.8xlarge"


def test_ten_thousand_random_shapes() -> None:
    """No exception, more of anything never needs less, and "the largest that fits" is exactly that."""
    rng = random.Random(1)
    instances = [instance for instance in catalog.instances().values() if instance.cores]
    for _ in range(COMBINATIONS // SHAPES_EACH):
        architecture = _random_architecture(rng)
        for dtype, size in ((torch.float16, 2), (torch.float32, 4)):
            assert _meta_bytes(architecture, dtype) == architecture.parameters * size
        for _ in range(SHAPES_EACH):
            _check_random_shapes(rng, architecture, rng.choice(instances))


def _check_random_shapes(rng: random.Random, architecture: Architecture, instance: Instance) -> None:
    sequence_length = rng.randint(2, architecture.max_position_embeddings)
    shapes = StaticShapes.resolve(rng.randint(1, 64), sequence_length, rng.choice([None, 1, 4096]))
    cores = rng.choice(catalog.TENSOR_PARALLEL_SIZES)
    dtype = rng.choice(["float16", "bfloat16", "float32"])
    memory = estimate_memory(architecture, shapes, cores, dtype)
    assert memory.weights * cores >= architecture.parameters * (4 if dtype == "float32" else 2)
    deeper = replace(architecture, num_hidden_layers=architecture.num_hidden_layers + 1)
    larger = [
        estimate_memory(architecture, replace(shapes, batch_size=shapes.batch_size + 1), cores, dtype),
        estimate_memory(architecture, replace(shapes, sequence_length=sequence_length + 1), cores, dtype),
        estimate_memory(deeper, shapes, cores, dtype),
    ]
    for estimate in larger:
        assert estimate.per_core >= memory.per_core
        assert estimate.host >= memory.host

    def verdict(shapes: StaticShapes) -> str:
        return estimate_memory(architecture, shapes, cores, dtype).verdict(instance)

    _check_largest(
        largest_batch_size(architecture, shapes, cores, dtype, instance),
        256,
        lambda batch_size: verdict(replace(shapes, batch_size=batch_size)),
    )
    _check_largest(
        largest_sequence_length(architecture, shapes, cores, dtype, instance),
        architecture.max_position_embeddings,
        lambda length: verdict(StaticShapes.resolve(shapes.batch_size, max(length, 2))),
    )
    if rng.random() < 0.1:
        _check_cheapest(architecture, shapes, dtype)


def _check_cheapest(architecture: Architecture, shapes: StaticShapes, dtype: str) -> None:
    choice = cheapest_instance(architecture, shapes, dtype)
    fitting = [
        name
        for name, instance in catalog.instances().items()
        for size in catalog.TENSOR_PARALLEL_SIZES
        if instance.cores and can_be_split(architecture, size)
        if estimate_memory(architecture, shapes, size, dtype).verdict(instance) != "does not fit"
    ]
    costs = [prices.shipped().find(name) for name in fitting]
    assert (choice.price if choice else None) == min(
        filter(None, costs), key=lambda price: price.usd_per_hour, default=None
    )


def _check_largest(largest: int, upper: int, verdict: Callable[[int], str]) -> None:
    assert largest == 0 or verdict(largest) != "does not fit"
    assert largest == upper or verdict(largest + 1) == "does not fit"


def _random_architecture(rng: random.Random) -> Architecture:
    key_value_heads = rng.choice([1, 2, 3, 4, 8])
    heads = key_value_heads * rng.choice([1, 2, 4, 7])
    head_dim = rng.choice([8, 64, 128])
    return Architecture(
        hidden_size=rng.choice([heads * head_dim, 96, 2048]),
        intermediate_size=rng.randint(16, 30_000),
        num_hidden_layers=rng.randint(1, 3),
        num_attention_heads=heads,
        num_key_value_heads=key_value_heads,
        head_dim=head_dim,
        vocab_size=rng.randint(10, 130_000),
        max_position_embeddings=rng.choice([64, 2048, 8192]),
        tie_word_embeddings=rng.random() < 0.3,
    )


def _meta_bytes(architecture: Architecture, dtype: torch.dtype) -> int:
    """Bytes of transformers' own model of that architecture, embeddings that are shared counted once."""
    config = LlamaConfig(
        hidden_size=architecture.hidden_size,
        intermediate_size=architecture.intermediate_size,
        num_hidden_layers=architecture.num_hidden_layers,
        num_attention_heads=architecture.num_attention_heads,
        num_key_value_heads=architecture.num_key_value_heads,
        head_dim=architecture.head_dim,
        vocab_size=architecture.vocab_size,
        tie_word_embeddings=architecture.tie_word_embeddings,
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config).to(dtype)
    model.tie_weights()
    return sum(tensor.numel() * tensor.element_size() for tensor in model.parameters())


def _check(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["presets", "check", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_table_has_every_preset_for_neuron() -> None:
    lines = _check().splitlines()
    names = [name for name in inf2kit.preset_names() if inf2kit.load_preset(name).compute.backend == "neuron"]
    assert [line.split()[0] for line in lines] == ["PRESET", *names]
    assert all(" fits " in line for line in lines[1:])


def test_a_preset_is_explained() -> None:
    text = _check("llama2-7b-throughput")
    assert "32 heads are padded to 48" in text
    assert "cheapest instance with room for it: ml.inf2.8xlarge" in text
    text = _check("llama2-7b-budget", "--instance-type", "ml.inf2.xlarge")
    assert "llama2-7b-budget on ml.inf2.xlarge: does not fit" in text
    assert "host, while it loads: 16.55 of 16 GiB" in text
    assert "the host is short of memory" in text
    assert "runs on this machine's CPU" in _check("smollm2-135m-local")


def test_a_configuration_of_ones_own(tmp_path: Path) -> None:
    config = {"model_type": "llama", **LlamaConfig(num_key_value_heads=8).to_dict()}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    arguments = ["--instance-type", "ml.inf2.24xlarge", "--batch-size", "2", "--sequence-length", "2048"]
    text = _check("--model", str(tmp_path), *arguments, "--tensor-parallel-size", "8")
    assert "on ml.inf2.24xlarge: fits" in text
    text = _check("--model", str(tmp_path), *arguments, "--tensor-parallel-size", "24")
    assert "does not fit" in text.splitlines()[0]


@pytest.mark.parametrize(
    ("changed", "arguments", "sentence"),
    [
        ({"model_type": "gpt2"}, [], "model_type is 'gpt2'"),
        ({"hidden_size": "x"}, [], "hidden_size is 'x'; it must be a whole number"),
        ({"attention_bias": True}, [], "attention_bias is set"),
        ({"num_key_value_heads": 5}, [], "32 heads cannot share 5"),
        (
            {},
            ["--tensor-parallel-size", "3"],
            "tensor_parallel_size is 3; on inf2 it must be one of 1, 2, 4, 8",
        ),
        ({"num_key_value_heads": 8}, ["--tensor-parallel-size", "12"], "choose among 1, 2, 4, 8, 24"),
        ({}, ["--sequence-length", "4096"], "has 2048 positions"),
        ({}, ["--instance-type", "ml.inf2.xlrge"], "did you mean 'ml.inf2.xlarge'"),
        ({}, ["--model", "nowhere"], "the architecture of 'nowhere' is not known"),
    ],
)
def test_bad_input_is_one_sentence(
    changed: dict[str, object], arguments: list[str], sentence: str, tmp_path: Path
) -> None:
    config = {**LlamaConfig().to_dict(), **changed}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    options = ["--model", str(tmp_path), "--instance-type", "ml.inf2.xlarge", "--batch-size", "1"]
    options += ["--sequence-length", "128", "--tensor-parallel-size", "2", *arguments]
    result = CliRunner().invoke(main, ["presets", "check", *options])
    assert result.exit_code == 1
    assert sentence in result.output
    assert result.output.count("\n") == 1


def test_cores_that_a_model_cannot_be_split_over() -> None:
    for cores in catalog.TENSOR_PARALLEL_SIZES:
        check_cores(LLAMA_7B, cores)
        check_cores(TINY, cores)
    with pytest.raises(CompileError, match="one number must divide the other; choose among 1, 12, 24"):
        check_cores(Architecture.find("HuggingFaceTB/SmolLM2-135M-Instruct"), 2)
    assert GIB == 1024**3
