"""The largest shapes and the cheapest instance, for ten thousand random shapes."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable
from dataclasses import replace

import torch
from click.testing import CliRunner
from transformers import LlamaConfig, LlamaForCausalLM

from inf2kit import catalog, paths, toml
from inf2kit.catalog import Instance, prices
from inf2kit.cli.commands import main
from inf2kit.fit import (
    Architecture,
    cheapest_instance,
    estimate_memory,
    largest_batch_size,
    largest_sequence_length,
)
from inf2kit.fit.memory import can_be_split
from inf2kit.serving.shapes import StaticShapes

COMBINATIONS, SHAPES_EACH = 10_000, 50


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
        estimate_memory(architecture, shapes.with_changes(sequence_length=sequence_length + 1), cores, dtype),
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


def test_the_cheapest_instance_is_that_of_the_prices_that_were_refreshed() -> None:
    path = paths.prices()
    table = {
        "ml.inf2.xlarge": 99.0,
        "ml.inf2.8xlarge": 1.23,
        "ml.inf2.24xlarge": 50.0,
        "ml.inf2.48xlarge": 60.0,
    }
    content = {"date": dt.date(2026, 11, 26), "source": "a test", "eu-west-1": table}
    path.write_text(toml.dumps(content), encoding="utf-8")
    try:
        architecture = Architecture.find("TinyLlama/TinyLlama-1.1B-Chat-v1.0")
        choice = cheapest_instance(architecture, StaticShapes.resolve(1, 128), "float16")
        assert choice is not None
        assert (choice.instance_type, choice.price.usd_per_hour) == ("ml.inf2.8xlarge", 1.23)
        checked = CliRunner().invoke(main, ["presets", "check", "tinyllama-1.1b-starter"])
        assert "$1.23 an hour in eu-west-1 (2026-11-26)" in checked.stdout
    finally:
        path.unlink()
