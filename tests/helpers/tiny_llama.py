"""A Llama with two layers and random weights, in two files: it compiles in no time."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path

_LAYERS, _HEADS, _KEY_VALUE_HEADS = 2, 4, 2
#: Turns the higher byte of a float16 into one of a number between 2**-8 and 2**-7, of the same sign.
_SMALL = bytes(0x1C | (byte & 0x83) for byte in range(256))
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def build(source: Path, hidden: int = 32) -> dict[str, bytes]:
    """Return the files of the model, by name.

    Args:
        source: A model whose tokenizer it takes.
        hidden: Numbers of a hidden state. Each of them adds 0.1 MB to both files of weights.
    """
    source_config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    config = {
        **source_config,
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": _LAYERS,
        "num_attention_heads": _HEADS,
        "num_key_value_heads": _KEY_VALUE_HEADS,
        "head_dim": hidden // _HEADS,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
    }
    vocabulary = int(config["vocab_size"])
    shards = {
        "model-00001-of-00002.safetensors": {"model.embed_tokens.weight": (vocabulary, hidden)},
        "model-00002-of-00002.safetensors": {
            **_layers(hidden),
            "model.norm.weight": (hidden,),
            "lm_head.weight": (vocabulary, hidden),
        },
    }
    weight_map = {name: shard for shard, tensors in shards.items() for name in tensors}
    files = {name: _safetensors(tensors) for name, tensors in shards.items()}
    index = {"metadata": {"total_size": sum(map(len, files.values()))}, "weight_map": weight_map}
    files["model.safetensors.index.json"] = json.dumps(index).encode()
    files["config.json"] = json.dumps(config).encode()
    files |= {name: (source / name).read_bytes() for name in _TOKENIZER_FILES if (source / name).exists()}
    return files


def _layers(hidden: int) -> dict[str, tuple[int, ...]]:
    head_dim = hidden // _HEADS
    shapes = {
        "input_layernorm": (hidden,),
        "post_attention_layernorm": (hidden,),
        "self_attn.q_proj": (_HEADS * head_dim, hidden),
        "self_attn.k_proj": (_KEY_VALUE_HEADS * head_dim, hidden),
        "self_attn.v_proj": (_KEY_VALUE_HEADS * head_dim, hidden),
        "self_attn.o_proj": (hidden, _HEADS * head_dim),
        "mlp.gate_proj": (2 * hidden, hidden),
        "mlp.up_proj": (2 * hidden, hidden),
        "mlp.down_proj": (hidden, 2 * hidden),
    }
    return {
        f"model.layers.{layer}.{name}.weight": shape
        for layer in range(_LAYERS)
        for name, shape in shapes.items()
    }


def _safetensors(tensors: dict[str, tuple[int, ...]]) -> bytes:
    """Return a file of tensors of small random numbers."""
    header, parts, end = {}, [], 0
    generator = random.Random(0)
    for name, shape in tensors.items():
        count = 1
        for length in shape:
            count *= length
        numbers = bytearray(generator.randbytes(2 * count))
        numbers[1::2] = bytes(numbers[1::2]).translate(_SMALL)
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [end, end + len(numbers)]}
        parts.append(bytes(numbers))
        end += len(numbers)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(parts)
