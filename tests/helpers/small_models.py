"""Small random models of any family, which run in no time and talk nonsense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

_SIZES = {
    "vocab_size": 258,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
    "initializer_range": 0.2,
}
#: What a family alone has, with values at which texts differ from those without it.
_OWN: dict[str, dict[str, Any]] = {
    "granite": {
        "embedding_multiplier": 3.0,
        "attention_multiplier": 0.5,
        "residual_multiplier": 0.6,
        "logits_scaling": 2.0,
    },
    "qwen3": {"head_dim": 32},
    "smollm3": {"no_rope_layer_interval": 2},
}


def write_model(family: str, path: Path, **changed: Any) -> Any:
    """Write a small random model of a family with a tokenizer of single bytes, and return it."""
    torch.manual_seed(0)
    values = {**_SIZES, **_OWN.get(family, {}), **changed}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **values)).eval()
    # Biases begin as zeros, norms as ones: it would make no difference if they were lost or exchanged.
    for parameter in model.parameters():
        if parameter.dim() == 1:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    model.save_pretrained(path)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<s>": 0, "</s>": 1, **{letter: index + 2 for index, letter in enumerate(alphabet)}}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    marks = {"bos_token": "<s>", "eos_token": "</s>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks).save_pretrained(path)
    return model
