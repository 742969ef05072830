"""The tensors of a checkpoint, read from the headers of its safetensors: names, shapes, types."""

from __future__ import annotations

import json
import re
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inf2kit.checkpoint.families import FAMILIES, Family
from inf2kit.errors import CheckpointError

#: safetensors limits its header so; a longer one is another file's bytes.
_MAX_HEADER = 100_000_000
_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
#: Tensors that methods of quantization write beside or instead of a layer's weight.
_QUANTIZED = re.compile(
    r".*\.(qweight|qzeros|scales|g_idx|weight_packed|weight_scale(_inv)?|weight_zero_point|input_scale|SCB"
    r"|absmax|quant_map|nested_absmax|quant_state\..*|weight\.(absmax|quant_map|quant_state.*)"
    r"|\w+_blocks|\w+_scales)"
)
#: Prefixes that training tools put before the names.
_WRAPPERS = {
    "base_model.model.": "PEFT: merge its adapter with merge_and_unload",
    "_orig_mod.": "torch.compile: save the module inside it",
    "module.": "DistributedDataParallel or DeepSpeed: save the module inside it",
    "_fsdp_wrapped_module.": "FSDP: gather the model before saving it",
    "_forward_module.": "Lightning: save the module inside it",
    "language_model.": "a model of text and images: save its language model alone",
    "model.language_model.": "a model of text and images: save its language model alone",
}
_EMBEDDINGS, _OUTPUT, _NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"


@dataclass(frozen=True)
class Tensors:
    """The tensors of all files together.

    Attributes:
        shapes: The shape of each tensor by its name.
        dtypes: Bytes by type, as safetensors names it.
    """

    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    dtypes: Mapping[str, int] = field(default_factory=dict)

    @property
    def dtype(self) -> str:
        """The precision of most weights, as torch names it."""
        floats = {name: size for name, size in self.dtypes.items() if name in _DTYPES} or self.dtypes
        largest = max(floats, key=lambda name: floats[name], default="")
        return _DTYPES.get(largest, largest)

    @property
    def parameters(self) -> int:
        """The number of values in all tensors."""
        total = 0
        for shape in self.shapes.values():
            count = 1
            for length in shape:
                count *= length
            total += count
        return total

    @property
    def vocabulary(self) -> int | None:
        """The number of rows of the embeddings; None where there are none."""
        shape = self.shapes.get(_EMBEDDINGS)
        return shape[0] if shape else None


def read_tensors(paths: Sequence[Path]) -> Tensors:
    """Read the headers of safetensors files, and compare each file's size with its header.

    Raises:
        CheckpointError: a file is cut off, or is not a safetensors file.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    dtypes: Counter[str] = Counter()
    for path in paths:
        for name, entry in _read_header(path).items():
            shapes[name] = tuple(entry["shape"])
            start, end = entry["data_offsets"]
            dtypes[str(entry["dtype"])] += end - start
    return Tensors(shapes, dict(dtypes))


def _read_header(path: Path) -> dict[str, dict[str, Any]]:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size, _MAX_HEADER):
                raise ValueError("the header is longer than the file")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
        for entry in header.values():
            if not all(isinstance(length, int) for length in (*entry["shape"], *entry["data_offsets"])):
                raise TypeError(f"{entry} is no tensor")
            _ = entry["dtype"]
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        raise CheckpointError(f"{path} is not a safetensors file; fetch it again") from None
    if size != 8 + length + end:
        raise CheckpointError(
            f"{path} has {size:,} bytes and should have {8 + length + end:,} by its own header; fetch it "
            "again"
        )
    tensors: dict[str, dict[str, Any]] = header
    return tensors


def find_quantization(tensors: Tensors) -> str | None:
    """Return a tensor or type that only quantized weights have; None for plain weights."""
    odd = sorted(name for name in tensors.dtypes if name.startswith(("F8", "F4", "F6")))
    if odd:
        return f"of type {odd[0]}"
    return next((name for name in tensors.shapes if _QUANTIZED.fullmatch(name)), None)


def find_fault(tensors: Tensors, config: Mapping[str, Any], where: str) -> str | None:
    """Return what is wrong with a checkpoint's tensors, or None.

    transformers fills a missing tensor with random numbers and only logs it.

    Args:
        tensors: The tensors.
        config: The model's configuration.
        where: The folder's name in the sentence.
    """
    again = "save the model again with save_pretrained"
    family = FAMILIES.get(str(config.get("model_type")))
    layers = config.get("num_hidden_layers")
    if family is None or not isinstance(layers, int):
        return None
    required = [_EMBEDDINGS, _NORM]
    if not config.get("tie_word_embeddings", family.tied):
        required.append(_OUTPUT)
    required += [f"model.layers.{layer}.{name}" for layer in range(layers) for name in family.layer_tensors]
    missing = [name for name in required if name not in tensors.shapes]
    if missing:
        for prefix, tool in _WRAPPERS.items():
            wrapped = next((name for name in tensors.shapes if name.startswith(prefix)), None)
            if wrapped:
                return f"the tensors of {where} are named as {wrapped!r}, which is from {tool}; then {again}"
        others = f" and {len(missing) - 1} more tensors" if len(missing) > 1 else ""
        return (
            f"{where} lacks {missing[0]}{others}, which its config.json asks for and transformers would fill "
            f"with random numbers; {again}"
        )
    extra = f"model.layers.{layers}."
    if any(name.startswith(extra) for name in tensors.shapes):
        return (
            f"{where} holds more layers than the {layers} of its config.json, which would be dropped without "
            f"a word; correct num_hidden_layers, or {again}"
        )
    rows, vocabulary = tensors.vocabulary, config.get("vocab_size")
    if isinstance(vocabulary, int) and rows != vocabulary:
        return (
            f"the embeddings of {where} have {rows} rows and its config.json has vocab_size {vocabulary}; "
            f"{again}, after model.resize_token_embeddings where tokens were added"
        )
    for name, expected in _expected_shapes(config, family).items():
        stored = next((key for key in tensors.shapes if key.endswith(name)), "")
        if stored and tensors.shapes[stored] != expected:
            return (
                f"{stored} of {where} is {list(tensors.shapes[stored])} and should be {list(expected)} by "
                f"its config.json, which is another model's or was changed; fetch both again, or {again}"
            )
    return None


def _expected_shapes(config: Mapping[str, Any], family: Family) -> dict[str, tuple[int, ...]]:
    """Return the shapes of matrices that follow from the sizes of ``config.json``, by the ends of names."""
    hidden, inner, heads = (
        config.get(name) for name in ("hidden_size", "intermediate_size", "num_attention_heads")
    )
    if not (isinstance(hidden, int) and isinstance(inner, int) and isinstance(heads, int) and heads > 0):
        return {}  # a fault of the configuration, which is named there
    head = config.get("head_dim") or family.head_dim or hidden // heads
    queries, pairs = heads * head, (config.get("num_key_value_heads") or heads) * head
    return {
        _EMBEDDINGS: (config.get("vocab_size", 0), hidden),
        "self_attn.q_proj.weight": (queries, hidden),
        "self_attn.k_proj.weight": (pairs, hidden),
        "self_attn.v_proj.weight": (pairs, hidden),
        "self_attn.qkv_proj.weight": (queries + 2 * pairs, hidden),
        "self_attn.o_proj.weight": (hidden, queries),
        "mlp.gate_proj.weight": (inner, hidden),
        "mlp.up_proj.weight": (inner, hidden),
        "mlp.gate_up_proj.weight": (2 * inner, hidden),
        "mlp.down_proj.weight": (hidden, inner),
    }
