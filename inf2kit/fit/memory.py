"""The memory that a compiled model takes: formulas, each with its source.

Sizes are optimum-neuron 0.4's own, read in its code and compared with it by tests: ``attention/gqa.py``
(padded and repeated heads), ``kvcache/kv_cache_manager.py`` (the cache), ``llama/modeling_llama.py`` (which
weights are split, and how), neuronx_distributed's parallel layers (padding of what is split). What the
compiler and the runtime add is not known before it is measured on a device; for that there are allowances,
named as such.
"""

from __future__ import annotations

from dataclasses import dataclass

from inf2kit import catalog
from inf2kit.catalog import Instance
from inf2kit.errors import CompileError
from inf2kit.fit.architecture import Architecture
from inf2kit.serving.shapes import StaticShapes

GIB = 2**30
BYTES = {"float16": 2, "bfloat16": 2, "float32": 4}
#: From this length on a prompt's attention is a kernel that never holds all scores
#: (``attention_base.get_flash_attention_strategy``).
_FLASH_FROM = 4096
#: Allowance on each core for compiled code, rings, collectives and what the runtime keeps. Not measured.
RUNTIME_PER_CORE = 1 * GIB
#: Host memory beside the shards. 1.5 GiB of it were measured, as resident memory, in which pages of
#: libraries that processes share count more than once: the toolkit's own process and the one that workers
#: are forked from 0.73 GB each, since both have imported torch and transformers; Java 0.12 GB; gateway and
#: supervisor 0.06 GB. The rest is an allowance: the engine with Python, torch and the Neuron runtime 1.5
#: GiB, the system and SageMaker's agent 1 GiB.
HOST_PROCESSES = 4 * GIB
#: A need above this part of what there is is called tight.
TIGHT = 0.9


@dataclass(frozen=True)
class Need:
    """Bytes that a compiled model needs.

    Attributes:
        weights: On each core.
        kv_cache: On each core.
        activations: On each core; an allowance for the intermediates of one layer and the logits.
        runtime: On each core; an allowance.
        host: On the host while weights are loaded: the shards of all cores at once, and an allowance.
        cores: That the model is split over.
        attention_heads: After padding.
        key_value_heads: After padding and repetition.
    """

    weights: int
    kv_cache: int
    activations: int
    runtime: int
    host: int
    cores: int
    attention_heads: int
    key_value_heads: int

    @property
    def core(self) -> int:
        """All of it on one core."""
        return self.weights + self.kv_cache + self.activations + self.runtime

    def verdict(self, instance: Instance) -> str:
        """``fits``, ``tight`` or ``does not fit``."""
        if self.cores > instance.cores:
            return "does not fit"
        used = max(self.device_use(instance), self.host_use(instance))
        return "does not fit" if used > 1 else "tight" if used > TIGHT else "fits"

    def device_use(self, instance: Instance) -> float:
        """The part of a core's memory that is needed."""
        return self.core / (instance.device_memory_gib * GIB / instance.cores)

    def host_use(self, instance: Instance) -> float:
        """The part of the host's memory that is needed."""
        return self.host / (instance.host_memory_gib * GIB)

    def step_floor_s(self, instance: Instance) -> float:
        """Seconds a decode step takes at the very least: each core reads its weights and cache once."""
        return (self.weights + self.kv_cache) / (instance.bandwidth_gb_s * 1e9 / instance.cores)


def need(architecture: Architecture, shapes: StaticShapes, tensor_parallel_size: int, dtype: str) -> Need:
    """What a model of these static shapes needs.

    Args:
        architecture: The model's.
        shapes: The static shapes.
        tensor_parallel_size: NeuronCores.
        dtype: ``float16``, ``bfloat16`` or ``float32``.
    """
    cores, size = tensor_parallel_size, BYTES[dtype]
    heads, key_value_heads = sharded_heads(architecture, cores)
    weights = weights_per_core(architecture, cores, dtype)
    per_token = 2 * architecture.num_hidden_layers * (key_value_heads // cores) * architecture.head_dim * size
    return Need(
        weights=weights,
        kv_cache=per_token * shapes.batch_size * shapes.sequence_length,
        activations=_activations(architecture, shapes, cores, heads // cores, size),
        runtime=RUNTIME_PER_CORE,
        # optimum-neuron loads the shards of all cores before it hands any of them over
        # (``pretrained_model._load_weights_from_path``).
        host=weights * cores + HOST_PROCESSES,
        cores=cores,
        attention_heads=heads,
        key_value_heads=key_value_heads,
    )


def sharded_heads(architecture: Architecture, cores: int) -> tuple[int, int]:
    """Attention heads, and key and value heads, over all cores (``gqa.get_shardable_head_counts``).

    Heads are padded to a multiple of the cores. Key and value heads that cannot be dealt out evenly are
    repeated: once for each core where their number divides that of the cores, else for each attention head.
    """
    heads, key_value_heads = architecture.num_attention_heads, architecture.num_key_value_heads
    padded = _padded(heads, cores)
    if heads == key_value_heads:
        return padded, padded
    if key_value_heads % cores == 0:
        return padded, key_value_heads
    return padded, cores if cores % key_value_heads == 0 else padded


def check_cores(architecture: Architecture, cores: int) -> None:
    """Refuse a number of cores that makes no sense on inf2, or that the model cannot be split over.

    Key and value heads that neither divide the cores nor are divided by them would have to become as many as
    the attention heads. optimum-neuron 0.4.1 to 0.4.5 then pads them by the wrong number
    (``gqa.GroupQueryAttention_QKV.preshard_hook``), and its shards do not have the sizes of its graphs.

    Raises:
        CompileError: saying which numbers will do.
    """
    if cores not in catalog.TENSOR_PARALLEL_SIZES:
        raise CompileError(
            f"tensor_parallel_size is {cores}; on inf2 it must be one of "
            f"{', '.join(map(str, catalog.TENSOR_PARALLEL_SIZES))}, as a device has two cores and an "
            "instance 2, 12 or 24"
        )
    if not can_be_split(architecture, cores):
        good = [str(size) for size in catalog.TENSOR_PARALLEL_SIZES if can_be_split(architecture, size)]
        raise CompileError(
            f"tensor_parallel_size is {cores}; optimum-neuron cannot split "
            f"{architecture.num_key_value_heads} key and value heads over {cores} cores: one number must "
            f"divide the other; choose among {', '.join(good)}"
        )


def check_positions(architecture: Architecture, sequence_length: int, model: str) -> None:
    """Refuse rows that are longer than the model has positions for.

    Raises:
        CompileError: naming the model.
    """
    if sequence_length > architecture.max_position_embeddings:
        raise CompileError(
            f"sequence_length is {sequence_length}; {model} has {architecture.max_position_embeddings} "
            "positions; lower it, or choose a model with more"
        )


def can_be_split(architecture: Architecture, cores: int) -> bool:
    """Whether optimum-neuron makes shards for so many cores that its graphs can load."""
    heads, key_value_heads = architecture.num_attention_heads, architecture.num_key_value_heads
    return heads == key_value_heads or key_value_heads % cores == 0 or cores % key_value_heads == 0


def weights_per_core(architecture: Architecture, cores: int, dtype: str) -> int:
    """Bytes of the shard that each core gets.

    Embeddings are split over the hidden size and the output layer, which always has weights of its own, over
    the vocabulary; norms are on every core, and so is each core's number, once in each layer and once more.
    """
    hidden, layers = architecture.hidden_size, architecture.num_hidden_layers
    heads, key_value_heads = sharded_heads(architecture, cores)
    attention = 2 * hidden * (heads + key_value_heads) // cores * architecture.head_dim
    mlp = 3 * hidden * _padded(architecture.intermediate_size, cores) // cores
    embeddings = architecture.vocab_size * _padded(hidden, cores) // cores
    output = _padded(architecture.vocab_size, cores) // cores * hidden
    numbers = layers * (attention + mlp + 2 * hidden) + embeddings + output + hidden
    return numbers * BYTES[dtype] + 4 * (layers + 1)


def _activations(
    architecture: Architecture, shapes: StaticShapes, cores: int, heads_per_core: int, size: int
) -> int:
    """An allowance: what one layer holds at once, and float32 logits. The compiler may need less, or more."""

    def layer(tokens: int, scores: int) -> int:
        mlp = 2 * _padded(architecture.intermediate_size, cores) // cores
        return tokens * (4 * architecture.hidden_size + mlp) * size + scores * (4 + size)

    context = shapes.max_context_length
    prompt_scores = 0 if context >= _FLASH_FROM else heads_per_core * context * context
    prefill = layer(context, prompt_scores)
    decode = layer(shapes.batch_size, shapes.batch_size * heads_per_core * shapes.sequence_length)
    return max(prefill, decode) + 4 * shapes.batch_size * architecture.vocab_size


def _padded(number: int, to: int) -> int:
    return -(-number // to) * to
