"""The memory of models: figures by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

import inf2kit
from inf2kit import catalog
from inf2kit.errors import CompileError
from inf2kit.fit import Architecture, check_cores, estimate_memory, published
from inf2kit.fit.memory import (
    GIB,
    HOST_PROCESSES,
    RUNTIME_ON_FIRST_CORE,
    sharded_heads,
    weights_per_core,
)
from inf2kit.planning.published import engines
from inf2kit.serving.shapes import StaticShapes

LLAMA_7B = Architecture.find("meta-llama/Llama-2-7b-hf")
LLAMA_13B = Architecture.find("meta-llama/Llama-2-13b-hf")
LLAMA_31_8B = Architecture.find("meta-llama/Llama-3.1-8B")
TINY = Architecture.find("TinyLlama/TinyLlama-1.1B-Chat-v1.0")


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


def test_the_first_core_has_the_embeddings_and_the_output_layer_once_more_and_decides() -> None:
    shapes = StaticShapes.resolve(32, 4096)
    memory = estimate_memory(LLAMA_31_8B, shapes, 8, "bfloat16")
    # 7/8 of two tables of 128,256 x 4096 numbers of two bytes.
    assert memory.first_core_more == 1_838_678_016 + RUNTIME_ON_FIRST_CORE
    assert memory.first_core == memory.per_core + memory.first_core_more
    device = catalog.instances()["ml.inf2.48xlarge"]
    assert memory.device_use(device) == memory.first_core / (16 * GIB)
    assert estimate_memory(TINY, shapes, 1, "float16").first_core_more == 0
    # Between the two limits the others have room and the first core has none.
    rows = next(
        rows
        for rows in range(1, 257)
        if estimate_memory(LLAMA_31_8B, StaticShapes.resolve(rows, 4096), 8, "bfloat16").verdict(device)
        == "does not fit"
    )
    assert estimate_memory(LLAMA_31_8B, StaticShapes.resolve(rows, 4096), 8, "bfloat16").per_core < 14 * GIB
    # The source of the measurement computes 665,792 tokens of all rows from its table.
    assert (rows - 1) * 4096 == pytest.approx(665_792, rel=0.1)


def test_the_sums_are_those_that_were_published_within_a_tenth() -> None:
    measurements = published.measurements()
    assert [measurement.core for measurement in measurements] == ["first", "others"]
    for measurement in measurements:
        estimated = measurement.estimated_mib()
        for part in ("weights", "kv_cache", "together"):
            assert estimated[part] == pytest.approx(measurement.mib[part], rel=0.1), (measurement.core, part)
        assert sum(size for part, size in estimated.items() if part != "together") == pytest.approx(
            estimated["together"]
        )


def test_engines_that_others_ran_have_room() -> None:
    """An estimate that is too large is wrong as well: these engines ran, on cores of 16 GiB."""
    families = {"llama-2-7b": LLAMA_7B, "llama-2-13b": LLAMA_13B, "llama-3-8b": LLAMA_31_8B}
    families["llama-3.1-8b"] = LLAMA_31_8B
    checked = 0
    for engine in engines():
        name = next((name for name in families if name in engine.model.lower()), None)
        if name is not None:
            shapes = StaticShapes.resolve(engine.batch_size, engine.sequence_length)
            memory = estimate_memory(families[name], shapes, engine.cores, "bfloat16")
            assert memory.first_core < 16 * GIB, engine
            checked += 1
    assert checked > 30


def test_cores_that_a_model_cannot_be_split_over() -> None:
    for cores in catalog.TENSOR_PARALLEL_SIZES:
        check_cores(LLAMA_7B, cores)
        check_cores(TINY, cores)
    with pytest.raises(CompileError, match="one number must divide the other; choose among 1, 12, 24"):
        check_cores(Architecture.find("HuggingFaceTB/SmolLM2-135M-Instruct"), 2)
