"""Small tokenizers of the kinds that models have, made here: no download, no model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, normalizers
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;!?{}[]()'\"_-=/<>|\\#"


def sentencepiece_like(
    *, adds_bos: bool = True, special: Sequence[str] = (), added: Sequence[str] = ()
) -> PreTrainedTokenizerFast:
    """Build a tokenizer like Llama 2's: ``▁`` for spaces, one in front of a text, bytes for other characters.

    Args:
        adds_bos: Whether ``<s>`` comes before every text.
        special: Further special tokens.
        added: Added tokens that are not special.
    """
    words = ["▁", "▁the", "▁hello", "▁world", "he", "ll", "the", "hello", "aaaa"]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *_LETTERS, *words]
    vocabulary = {token: token_id for token_id, token in enumerate(tokens)}
    merges = [tuple(merge.split()) for merge in ("h e", "l l", "t he", "he ll", "a a", "aa aa", "▁ the")]
    merges += [("hell", "o"), ("▁", "hello")]
    for left, right in merges:
        vocabulary.setdefault(left + right, len(vocabulary))
    tokenizer = Tokenizer(
        BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)  # noqa: S106
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in ("<s>", "</s>", *special)])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in added])
    if adds_bos:
        tokenizer.post_processor = TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", vocabulary["<s>"])]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",  # noqa: S106
        eos_token="</s>",  # noqa: S106
        unk_token="<unk>",  # noqa: S106
        clean_up_tokenization_spaces=False,
    )


def with_template(tokenizer: Any, template: str | dict[str, str] | None) -> Any:
    """Return the tokenizer with this chat template, or with several named ones."""
    tokenizer.chat_template = template
    return tokenizer
