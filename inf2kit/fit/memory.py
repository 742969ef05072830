"""The memory of a compiled model: formulas, each with its source.

Sizes are those of optimum-neuron 0.4, and tests compare them with it: ``attention/gqa.py`` (padded and
repeated heads), ``kvcache/kv_cache_manager.py`` (the cache), ``llama/modeling_llama.py`` (which weights are
split, and how), and the parallel layers of neuronx_distributed (padding of split weights). What the compiler
and the runtime add can only be measured on a device. It is an allowance, and is called one;
``fit/published.py`` compares the sums with what others measured.
"""

from __future__ import annotations

from dataclasses import dataclass

from inf2kit import catalog
from inf2kit.catalog import Instance
from inf2kit.checkpoint.architecture import Architecture
from inf2kit.checkpoint.config import positions_fault
from inf2kit.errors import CheckpointError, CompileError
from inf2kit.serving.shapes import StaticShapes

GIB = 2**30
BYTES = {"float16": 2, "bfloat16": 2, "float32": 4}
#: From this length on, a kernel computes a prompt's attention without holding all scores at once
#: (``attention_base.get_flash_attention_strategy``), but for families whose scores have a scale of their own.
#: What it holds is an allowance: so many scores of each token, which agrees with the published measurement.
_FLASH_FROM = 4096
#: Allowance on each core for compiled code, rings, collectives and the runtime's own memory.
RUNTIME_PER_CORE = 1 * GIB
#: What these took more on the first of eight cores than on the others, in the only published measurement:
#: collectives 472 MiB against 126, rings 392 against 220, code 319 against 228, the rest 8 against 7.
RUNTIME_ON_FIRST_CORE = 610 * 2**20
#: Host memory beside the shards, in two parts. 1.5 GiB were measured as resident memory, which counts pages
#: of shared libraries once per process: 0.73 GB each for the toolkit's process and for the one that workers
#: are forked from (both import torch and transformers), 0.12 GB for Java, 0.06 GB for gateway and supervisor.
#: 2.5 GiB are an allowance: 1.5 GiB for the engine with Python, torch and the Neuron runtime, 1 GiB for the
#: system and SageMaker's agent.
HOST_PROCESSES = 4 * GIB
#: The part of ``HOST_PROCESSES`` that every further engine of an instance needs again.
_HOST_ENGINE = 3 * GIB // 2
#: Memory use above this share of an instance's memory is called tight.
TIGHT = 0.9


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that a compiled model needs.

    Attributes:
        weights: Weights on each core.
        kv_cache: Key-value cache on each core.
        activations: Allowance on each core for the intermediates of one layer and the logits.
        runtime: Allowance on each core for compiled code and the runtime.
        first_core_more: Allowance for what the first core needs beyond the others.
        host: Host memory while weights are loaded: the shards of one engine's cores, and an allowance for the
            processes.
        host_processes: The part of ``host`` that is the allowance for the processes of all engines.
        cores: Number of cores that the model is split over.
        attention_heads: Number of attention heads after padding.
        key_value_heads: Number of key and value heads after padding and repetition.
        engines: Number of engines on one instance, each with cores of its own.
    """

    weights: int
    kv_cache: int
    activations: int
    runtime: int
    first_core_more: int
    host: int
    host_processes: int
    cores: int
    attention_heads: int
    key_value_heads: int
    engines: int

    @property
    def per_core(self) -> int:
        """Bytes on each core but the first."""
        return self.weights + self.kv_cache + self.activations + self.runtime

    @property
    def first_core(self) -> int:
        """Bytes on the first core, which decides whether a model fits."""
        return self.per_core + self.first_core_more

    def verdict(self, instance: Instance) -> str:
        """Return ``fits``, ``tight`` or ``does not fit``."""
        if self.engines * self.cores > instance.cores:
            return "does not fit"
        used = max(self.device_use(instance), self.host_use(instance))
        return "does not fit" if used > 1 else "tight" if used > TIGHT else "fits"

    def device_use(self, instance: Instance) -> float:
        """Return the share of the first core's memory that is needed."""
        return self.first_core / (instance.device_memory_gib * GIB / instance.cores)

    def host_use(self, instance: Instance) -> float:
        """Return the share of the host's memory that is needed."""
        return self.host / (instance.host_memory_gib * GIB)

    def step_floor_s(self, instance: Instance) -> float:
        """Return the least seconds of a decode step, in which each core reads its weights and cache once."""
        return (self.weights + self.kv_cache) / (instance.bandwidth_gb_s * 1e9 / instance.cores)


def estimate_memory(
    architecture: Architecture, shapes: StaticShapes, cores: int, dtype: str, engines: int = 1
) -> MemoryEstimate:
    """Estimate the memory of a model that is compiled for static shapes.

    Args:
        architecture: The model's sizes.
        shapes: The static shapes.
        cores: Number of NeuronCores to split the model over.
        dtype: ``float16``, ``bfloat16`` or ``float32``.
        engines: Number of engines on one instance, each with so many cores of its own.
    """
    size = BYTES[dtype]
    heads, key_value_heads = sharded_heads(architecture, cores)
    weights = weights_per_core(architecture, cores, dtype)
    host_processes = HOST_PROCESSES + (engines - 1) * _HOST_ENGINE
    per_token = 2 * architecture.num_hidden_layers * (key_value_heads // cores) * architecture.head_dim * size
    return MemoryEstimate(
        weights=weights,
        kv_cache=per_token * shapes.batch_size * shapes.sequence_length,
        activations=_activations(architecture, shapes, cores, heads // cores, size),
        runtime=RUNTIME_PER_CORE,
        first_core_more=_more_on_first_core(architecture, cores, size),
        # optimum-neuron loads the shards of all cores before it sends any of them to its core
        # (``pretrained_model._load_weights_from_path``), and keeps none of them on the host. Engines of one
        # instance load one after the other.
        host=weights * cores + host_processes,
        host_processes=host_processes,
        cores=cores,
        attention_heads=heads,
        key_value_heads=key_value_heads,
        engines=engines,
    )


def sharded_heads(architecture: Architecture, cores: int) -> tuple[int, int]:
    """Return the attention heads and the key and value heads of all cores together.

    As ``gqa.get_shardable_head_counts`` does: attention heads are padded to a multiple of the cores. Key and
    value heads that the cores cannot share evenly are repeated: once for each core if their number divides
    that of the cores, else once for each attention head.
    """
    heads, key_value_heads = architecture.num_attention_heads, architecture.num_key_value_heads
    padded = _round_up(heads, cores)
    if heads == key_value_heads:
        return padded, padded
    if key_value_heads % cores == 0:
        return padded, key_value_heads
    return padded, cores if cores % key_value_heads == 0 else padded


def check_cores(architecture: Architecture, cores: int) -> None:
    """Check that inf2 has such a number of cores, and that the model can be split over it.

    If neither the number of key and value heads nor that of the cores divides the other, optimum-neuron makes
    as many key and value heads as attention heads. Releases 0.4.1 to 0.4.5 pad them by the wrong number
    (``gqa.GroupQueryAttention_QKV.preshard_hook``), so that shards and graphs differ in size.

    Raises:
        CompileError: naming the numbers that are possible.
    """
    if cores not in catalog.TENSOR_PARALLEL_SIZES:
        raise CompileError(
            f"tensor_parallel_size is {cores}; on inf2 it must be one of "
            f"{', '.join(map(str, catalog.TENSOR_PARALLEL_SIZES))}, as a device has two cores and an "
            "instance 2, 12 or 24"
        )
    if not can_be_split(architecture, cores):
        possible = [str(size) for size in catalog.TENSOR_PARALLEL_SIZES if can_be_split(architecture, size)]
        raise CompileError(
            f"tensor_parallel_size is {cores}; optimum-neuron cannot split "
            f"{architecture.num_key_value_heads} key and value heads over {cores} cores: one number must "
            f"divide the other; choose among {', '.join(possible)}"
        )


def check_positions(architecture: Architecture, sequence_length: int, model: str) -> None:
    """Check that the model has positions for rows of this length, and attends to all of them.

    Raises:
        CompileError: it has fewer.
    """
    positions, window = architecture.max_position_embeddings, architecture.window
    if fault := positions_fault(model, sequence_length, positions, window):
        raise CheckpointError(fault)


def check_context(max_context_length: int | None, sequence_length: int) -> None:
    """Check that prompts of the longest kind fit a row.

    Raises:
        CompileError: they do not.
    """
    if max_context_length is not None and max_context_length > sequence_length:
        raise CompileError(
            f"max_context_length is {max_context_length}; it must be within 1..sequence_length, which is "
            f"{sequence_length}"
        )


def can_be_split(architecture: Architecture, cores: int) -> bool:
    """Whether optimum-neuron's shards for this number of cores have the sizes of its graphs."""
    heads, key_value_heads = architecture.num_attention_heads, architecture.num_key_value_heads
    return heads == key_value_heads or key_value_heads % cores == 0 or cores % key_value_heads == 0


def weights_per_core(architecture: Architecture, cores: int, dtype: str) -> int:
    """Return the bytes of each core's shard.

    Embeddings are split over the hidden size. The output layer, which always has its own weights, is split
    over the vocabulary. Biases are split with their heads. Norms are on every core, and so is the core's
    number: once in each layer and once more.
    """
    hidden, layers = architecture.hidden_size, architecture.num_hidden_layers
    heads, key_value_heads = sharded_heads(architecture, cores)
    attention = 2 * hidden * (heads + key_value_heads) // cores * architecture.head_dim
    if architecture.family.qkv_bias:
        attention += (heads + 2 * key_value_heads) // cores * architecture.head_dim
    if architecture.family.qk_norm:
        attention += 2 * architecture.head_dim
    mlp = 3 * hidden * _round_up(architecture.intermediate_size, cores) // cores
    embeddings = architecture.vocab_size * _round_up(hidden, cores) // cores
    output = _round_up(architecture.vocab_size, cores) // cores * hidden
    numbers = layers * (attention + mlp + 2 * hidden) + embeddings + output + hidden
    return numbers * BYTES[dtype] + 4 * (layers + 1)


def _more_on_first_core(architecture: Architecture, cores: int, size: int) -> int:
    """Return the allowance for what the first core needs beyond the others, in bytes.

    A table of Llama 3.1 8B on 8 cores (optimum-neuron's ``benchmark/vllm/memory_capacity_analysis.md``, March
    2026) has 1,819 MiB more tensors on the first core, and puts that down to embeddings and an output layer
    that are not split. 7/8 of both are 1,754 MiB, so this is the formula. The cause is not certain:
    optimum-neuron splits both evenly, in its releases as in the commit that was measured, and the figures are
    peaks, which would count what passes through the first core while weights are loaded.
    """
    if cores == 1:
        return 0
    tables = 2 * architecture.vocab_size * architecture.hidden_size * size
    return tables * (cores - 1) // cores + RUNTIME_ON_FIRST_CORE


def _activations(
    architecture: Architecture, shapes: StaticShapes, cores: int, heads_per_core: int, size: int
) -> int:
    """Return the allowance for activations: one layer's intermediates and float32 logits, in bytes."""

    def layer(tokens: int, scores: int) -> int:
        mlp = 2 * _round_up(architecture.intermediate_size, cores) // cores
        return tokens * (4 * architecture.hidden_size + mlp) * size + scores * (4 + size)

    context = shapes.prefill_length
    scores = min(context, _FLASH_FROM) if architecture.family.flash_attention else context
    prefill = layer(context, heads_per_core * context * scores)
    decode = layer(shapes.batch_size, shapes.batch_size * heads_per_core * shapes.sequence_length)
    return max(prefill, decode) + 4 * shapes.batch_size * architecture.vocab_size


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
