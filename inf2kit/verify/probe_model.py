"""The model of the checks: a small random Llama and a tokenizer of bytes, made here and not fetched."""

from __future__ import annotations

from pathlib import Path

from inf2kit.serving.shapes import StaticShapes

#: What the probe is compiled for.
SHAPES = StaticShapes(batch_size=4, sequence_length=512, max_context_length=256)

#: Large enough for two cores and for logits that lie far apart, small enough to compile in minutes.
_SIZES = {
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 512,
    "max_position_embeddings": 2048,
}
_INITIALIZER_RANGE = 0.08


def write_model(target: Path) -> Path:
    """Write the model, which is the same every time, and return its folder."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    config = LlamaConfig(
        **_SIZES, initializer_range=_INITIALIZER_RANGE, bos_token_id=0, eos_token_id=1, pad_token_id=1
    )
    LlamaForCausalLM(config).to(torch.float32).save_pretrained(target)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<s>": 0, "</s>": 1, **{letter: index + 2 for index, letter in enumerate(alphabet)}}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",  # noqa: S106 - a mark in texts
        eos_token="</s>",  # noqa: S106
        pad_token="</s>",  # noqa: S106
        model_input_names=["input_ids", "attention_mask"],
    ).save_pretrained(target)
    return target
