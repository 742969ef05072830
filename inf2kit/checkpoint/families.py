"""The families of models: what optimum-neuron 0.4.1 compiles, and what inf2kit sizes and rehearses.

Source: the registrations for text-generation in optimum-neuron 0.4.1's ``models/inference/auto_models.py``,
and the defaults in the configurations of transformers 4.55.4.
"""

from __future__ import annotations

from dataclasses import dataclass

_ATTENTION = tuple(f"self_attn.{name}_proj.weight" for name in "qkvo")
_MLP = ("mlp.gate_proj.weight", "mlp.up_proj.weight", "mlp.down_proj.weight")
_NORMS = ("input_layernorm.weight", "post_attention_layernorm.weight")


@dataclass(frozen=True)
class Family:
    """A family of models.

    Attributes:
        layer_tensors: The tensors of a layer, by their names in a checkpoint.
        rope_theta: The base of the rotary embedding where ``config.json`` has none.
        tied: Whether the output layer is the embeddings where ``config.json`` does not say.
        head_dim: The size of a head where ``config.json`` does not say; None for an even part of the hidden
            size.
        qkv_bias: Whether queries, keys and values have biases.
        qk_norm: Whether each head's queries and keys are normalized.
        flash_attention: Whether optimum-neuron computes long prompts with its kernel. It does not where
            scores have a scale of the model's own (``attention_base.get_flash_attention_strategy``).
    """

    layer_tensors: tuple[str, ...] = (*_ATTENTION, *_MLP, *_NORMS)
    rope_theta: float = 10_000.0
    tied: bool = False
    head_dim: int | None = None
    qkv_bias: bool = False
    qk_norm: bool = False
    flash_attention: bool = True


#: The families that inf2kit serves, by their ``model_type``.
FAMILIES = {
    "granite": Family(flash_attention=False),
    "llama": Family(),
    "phi3": Family(
        ("self_attn.qkv_proj.weight", "self_attn.o_proj.weight", "mlp.gate_up_proj.weight", _MLP[2], *_NORMS)
    ),
    "qwen2": Family(
        (*_ATTENTION, *(f"self_attn.{name}_proj.bias" for name in "qkv"), *_MLP, *_NORMS), qkv_bias=True
    ),
    "qwen3": Family(
        (*_ATTENTION, "self_attn.q_norm.weight", "self_attn.k_norm.weight", *_MLP, *_NORMS),
        head_dim=128,
        qk_norm=True,
    ),
    "smollm3": Family(rope_theta=2_000_000.0, tied=True),
}
#: Mixtures of experts, which optimum-neuron compiles, and whose memory inf2kit does not know.
EXPERTS = ("llama4_text", "mixtral", "qwen3_moe")
