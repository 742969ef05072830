"""What a folder is that cannot be a model's, and what to do about it: adapters, GGUF, other layouts."""

from __future__ import annotations

import re
from collections.abc import Mapping

from inf2kit.checkpoint.layout import SHARD, sort_files
from inf2kit.serving.model_dir import MODEL_CONFIG, NEURON_CONFIG, WEIGHTS, WEIGHTS_INDEX

_ADAPTER_CONFIG = "adapter_config.json"


def find_fault(sizes: Mapping[str, int], where: str) -> str | None:
    """Return what is wrong with a folder whose files cannot be a model's, or None.

    Args:
        sizes: The bytes of each file by its path in the folder.
        where: The folder's name in the sentence.
    """
    names = set(sizes)
    if NEURON_CONFIG in names:
        return None if MODEL_CONFIG in names else f"{where} lacks {MODEL_CONFIG}; compile the model again"
    if WEIGHTS in names or WEIGHTS_INDEX in names:
        if MODEL_CONFIG in names:
            return None
        return f"{where} lacks {MODEL_CONFIG}; give a directory that save_pretrained has written"
    return _explain_missing_weights(names, where, sort_files(sizes).models)


def _explain_missing_weights(names: set[str], where: str, models: tuple[str, ...]) -> str:
    """Return what a folder without weights is, and what to do about it."""

    def first(pattern: str) -> str | None:
        return min((name for name in names if re.fullmatch(pattern, name, re.IGNORECASE)), default=None)

    if _ADAPTER_CONFIG in names:
        return (
            f"{where} is an adapter alone, without the model that it changes; merge them: "
            f"AutoPeftModelForCausalLM.from_pretrained({where!r}).merge_and_unload().save_pretrained(OUT), "
            "and save the tokenizer there too"
        )
    if (own := first(r"consolidated.*\.(pth|safetensors)")) and "params.json" in names:
        return (
            f"{where} is in its maker's own layout ({own}, params.json), which transformers does not load; "
            "convert it with python -m transformers.models.llama.convert_llama_weights_to_hf, or fetch the "
            "repository that holds it as safetensors"
        )
    if misnamed := first(r"model(-\d+-of-\d+)?\.safetensors(\.index\.json)?"):
        if SHARD.fullmatch(misnamed):
            return (
                f"{where} holds {misnamed} and lacks {WEIGHTS_INDEX}, which says where each tensor is; fetch "
                "it too, or save the model again"
            )
        return f"{where} holds {misnamed}, and transformers looks for {misnamed.lower()}; rename it"
    if misnamed := first(re.escape(f"{MODEL_CONFIG}")) if MODEL_CONFIG not in names else None:
        return f"{where} holds {misnamed}, and transformers looks for {MODEL_CONFIG}; rename it"
    if gguf := first(r".*\.gguf"):
        return (
            f"{where} has its weights as GGUF ({gguf}), which is for llama.cpp; give the folder of "
            "safetensors that they were made from"
        )
    if models:
        others = f"{', '.join(models[:5])}{f' and {len(models) - 5} more' if len(models) > 5 else ''}"
        return (
            f"{where} holds its models in folders: {others}; give one of those, such as {where}/{models[-1]}"
        )
    if first(r"(.*/)?(global_step\d+|pytorch_model_fsdp_\d+)/.*") or "zero_to_fp32.py" in names:
        return (
            f"{where} holds the shards of a distributed training; gather them with its zero_to_fp32.py or "
            "accelerate merge-weights, and save the model with save_pretrained"
        )
    if "model_index.json" in names:
        return f"{where} is a pipeline of diffusers, which makes images; give a language model"
    if onnx := first(r"(.*/)?.*\.(onnx|h5|msgpack)"):
        return f"{where} has its weights for another framework ({onnx}); give a folder of safetensors"
    if MODEL_CONFIG not in names:
        return f"{where} lacks {MODEL_CONFIG}; give a directory that save_pretrained has written"
    if pickle := first(r"[^/]*\.(bin|pt|pth)"):
        return (
            f"{where} lacks {WEIGHTS}: its weights are pickled ({pickle}), and loading a pickle runs its "
            "code; save the model again: "
            f"AutoModelForCausalLM.from_pretrained({where!r}).save_pretrained(OUT)"
        )
    return f"{where} lacks {WEIGHTS}; save the model again with save_pretrained"
