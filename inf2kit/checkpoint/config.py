"""``config.json``: what the endpoint's image cannot run, and what is rewritten so that it reads it right.

transformers 5 writes the rotary embedding as ``rope_parameters`` and the precision as ``dtype``. Version
4.55, which the image has, reads neither, and takes its defaults without a word (``configuration_*.py`` of
both).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inf2kit import catalog
from inf2kit.checkpoint import rope
from inf2kit.checkpoint.families import EXPERTS, FAMILIES

#: The sizes that every configuration must have.
SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "vocab_size",
    "max_position_embeddings",
)
#: Above the sizes and the layers of every model; each layer is some names of tensors in memory.
_MAX_SIZE, _MAX_LAYERS = 100_000_000, 10_000
#: Keys of configurations that quantized weights have, as transformers, MLX and others write them.
_QUANTIZATION = ("quantization_config", "quantization", "compression_config")


def find_faults(
    config: Mapping[str, Any], where: str, *, compiles: bool, sequence_length: int | None = None
) -> list[str]:
    """Return what keeps a model from being served, each with what to do.

    Args:
        config: The values of ``config.json``, rewritten for the image.
        where: The file's or model's name in the sentences.
        compiles: Whether it is to be compiled for Neuron, which supports less than the CPU does.
        sequence_length: Tokens in a row; None where it is not known yet.
    """
    faults = [
        fault for fault in (_find_quantization(config, where), _find_unsupported(config, where)) if fault
    ]
    if faults:
        return faults
    if fault := _find_wrong_size(config, where):
        return [fault]
    faults = rope.find_faults(config, where)
    if sequence_length is not None:
        positions = config["max_position_embeddings"]
        faults += filter(None, [positions_fault(where, sequence_length, positions, window(config))])
    if compiles:
        faults += _find_uncompilable(config, where)
    return faults


def _find_wrong_size(config: Mapping[str, Any], where: str) -> str | None:
    heads = config.get("num_attention_heads")
    sizes = {name: config.get(name) for name in SIZES}
    sizes["num_key_value_heads"] = config.get("num_key_value_heads") or heads
    sizes["head_dim"] = config.get("head_dim") or 1
    for name, value in sizes.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            return (
                f"{where}: {name} is {value!r}; it must be a whole number of at least 1; fetch the file again"
            )
        if value > (_MAX_LAYERS if name == "num_hidden_layers" else _MAX_SIZE):
            return f"{where}: {name} is {value}, which no model has; fetch the file again"
    if config["num_attention_heads"] % sizes["num_key_value_heads"]:
        return (
            f"{where}: {heads} heads cannot share {sizes['num_key_value_heads']} key and value heads evenly"
        )
    return None


def _find_quantization(config: Mapping[str, Any], where: str) -> str | None:
    values = next((config[key] for key in _QUANTIZATION if config.get(key)), None)
    if values is None:
        return None
    name = "quantized"
    if isinstance(values, Mapping):
        method = values.get("quant_method") or values.get("method") or values.get("mode")
        bits = values.get("bits") or values.get("w_bit")
        if values.get("load_in_4bit") or values.get("_load_in_4bit"):
            bits = 4
        elif values.get("load_in_8bit") or values.get("_load_in_8bit"):
            bits = 8
        name = " ".join(
            filter(None, ("quantized", f"with {method}" if method else "", f"to {bits} bits" if bits else ""))
        )
    return quantized(where, name)


def quantized(where: str, how: str) -> str:
    """Return the sentence about quantized weights."""
    return (
        f"{where}: the weights are {how}, and inf2kit serves plain weights only; give the model's "
        "unquantized weights, in float16, bfloat16 or float32"
    )


def _find_unsupported(config: Mapping[str, Any], where: str) -> str | None:
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        return f"{where}: model_type is {model_type!r}; it must name the model's family; fetch the file again"
    version = catalog.image().versions["optimum_neuron"]
    supported = ", ".join(FAMILIES)
    if model_type in EXPERTS:
        return (
            f"{where}: model_type is {model_type!r}, a mixture of experts, whose memory inf2kit cannot "
            f"compute; choose a model of {supported}"
        )
    if model_type not in FAMILIES:
        own_code = ", and its own code (auto_map) is never run" if config.get("auto_map") else ""
        return (
            f"{where}: model_type is {model_type!r}, which optimum-neuron {version} in the endpoint's image "
            f"does not compile{own_code}; choose a model of {supported}"
        )
    architectures = config.get("architectures")
    if (
        isinstance(architectures, list)
        and architectures
        and not str(architectures[0]).endswith("ForCausalLM")
    ):
        return (
            f"{where}: it is a {architectures[0]}, which does not generate text; choose one saved as "
            "...ForCausalLM"
        )
    return None


def positions_fault(
    where: str, sequence_length: int, positions: int, attention_window: int | None
) -> str | None:
    """Return why a model cannot have rows of this length, or None.

    Args:
        where: The model's name in the sentence.
        sequence_length: Tokens in a row.
        positions: The model's ``max_position_embeddings``.
        attention_window: How many tokens back it attends; None where it attends to all.
    """
    if sequence_length > positions:
        return (
            f"sequence_length is {sequence_length}; {where} has {positions} positions; lower it, or choose a "
            "model with more"
        )
    if attention_window is not None and sequence_length > attention_window:
        return (
            f"sequence_length is {sequence_length}; {where} attends to the last {attention_window} tokens "
            "only (sliding_window), and inf2kit to all of them; lower it"
        )
    return None


def window(config: Mapping[str, Any]) -> int | None:
    """Return how many tokens back the model attends, or None where it attends to all.

    The backends attend to all, so their texts would differ in longer rows.
    """
    length = config.get("sliding_window")
    # Phi-3 has no switch; the others leave the window's length in the file when it is switched off.
    is_used = config.get("use_sliding_window", config.get("model_type") == "phi3")
    return length if is_used and isinstance(length, int) else None


def _find_uncompilable(config: Mapping[str, Any], where: str) -> list[str]:
    model_type = config.get("model_type")
    faults = [
        f"{where}: {bias} is set, which optimum-neuron does not compile for a {model_type}; choose a model "
        "without"
        for bias in ("attention_bias", "mlp_bias")
        if config.get(bias)
    ]
    if config.get("partial_rotary_factor", 1.0) != 1.0:
        faults.append(
            f"{where}: partial_rotary_factor is {config['partial_rotary_factor']}, which optimum-neuron "
            "ignores; choose a model without"
        )
    heads, hidden, head_dim = config["num_attention_heads"], config["hidden_size"], config.get("head_dim")
    # qwen3 alone builds its rotary embedding from head_dim (``llama/modeling_llama.py``).
    if model_type != "qwen3" and head_dim and head_dim * heads != hidden:
        faults.append(
            f"{where}: {heads} heads of head_dim {head_dim} are not hidden_size {hidden}, which "
            f"optimum-neuron takes for granted in a {model_type}; choose another model"
        )
    if model_type == "smollm3" and config.get("rope_scaling"):
        faults.append(
            f"{where}: rope_scaling is set, which optimum-neuron refuses for smollm3; choose a model without"
        )
    if model_type == "smollm3" and config.get("use_sliding_window"):
        faults.append(
            f"{where}: use_sliding_window is set, which optimum-neuron refuses for smollm3; choose a model "
            "without"
        )
    return faults


def rewrite(config: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Rewrite ``config.json`` for the image's version of transformers.

    Args:
        config: The file's values, as any version writes them.

    Returns:
        The values as version 4.55 reads them, and what was changed, in words.
    """
    values, changes = dict(config), list[str]()
    changes += rope.rewrite(values)
    if "dtype" in values:
        dtype = values.pop("dtype")
        if "torch_dtype" not in values:
            values["torch_dtype"] = dtype
            changes.append("dtype becomes torch_dtype")
    return values, changes
