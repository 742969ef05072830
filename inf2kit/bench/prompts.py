"""Prompts of an exact number of tokens, without the endpoint's tokenizer: the endpoint counts them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

from inf2kit.errors import Inf2KitError

#: Every prompt begins so: at a text's beginning a tokenizer may add tokens, or read a word differently.
_BEGINNING = "The"
#: Words that most vocabularies have as one token each. Those that an endpoint's has not are left out.
_WORDS = Path(__file__).with_name("words.txt")
#: Fewer would make prompts alike.
_MIN_WORDS = 16
#: Words of one call, so that their text fits into a short row.
_WORDS_A_CALL = 64


class PromptBuilder:
    """Builds texts that have an exact number of tokens on one endpoint.

    Args:
        overhead: Tokens of a prompt that is its first word alone, special tokens included.
        words: Words that are one token each behind it.
    """

    def __init__(self, overhead: int, words: Sequence[str]) -> None:
        self._overhead, self._words = overhead, words

    @classmethod
    def measure(cls, count: Callable[[str], int], words: Sequence[str] | None = None) -> PromptBuilder:
        """Find by some calls which words are one token each.

        A word is at least one token, so words that have as many tokens as there are words have one each.
        Words that have more are divided until the long ones are alone. Most vocabularies take ten calls.

        Args:
            count: Returns how many tokens a prompt of one text has: the endpoint's own count.
            words: Words to choose from, instead of some common ones.

        Raises:
            Inf2KitError: too few words are one token each.
        """
        words = words or _WORDS.read_text(encoding="utf-8").split()
        overhead = count(_BEGINNING)
        single: list[str] = []
        for start in range(0, len(words), _WORDS_A_CALL):
            part = words[start : start + _WORDS_A_CALL]
            single += _single_tokens(part, lambda some: count(_text(some)) - overhead)
        if len(single) < min(_MIN_WORDS, len(words)):
            raise Inf2KitError(
                f"only {len(single)} of {len(words)} common words are one token each on this endpoint, so no "
                "prompt of an exact length can be built; its counts (details.input_length) or its tokenizer "
                "are not those of a Llama model"
            )
        return cls(overhead, single)

    def build(self, tokens: int, seed: int = 0) -> str:
        """Return a text of exactly this many tokens; other seeds give other texts.

        Raises:
            Inf2KitError: it would be shorter than the shortest prompt.
        """
        if tokens < self._overhead:
            raise Inf2KitError(
                f"a prompt of {tokens} tokens cannot be built: the shortest one has {self._overhead} here; "
                "ask for more"
            )
        return _text(random.Random(seed).choices(self._words, k=tokens - self._overhead))  # noqa: S311


def _text(words: Sequence[str]) -> str:
    return " ".join((_BEGINNING, *words))


def _single_tokens(words: Sequence[str], count: Callable[[Sequence[str]], int]) -> list[str]:
    if not words:
        return []
    tokens = count(words)
    if tokens == len(words):
        return list(words)
    if len(words) == 1 or tokens > 2 * len(words):
        return []
    half = len(words) // 2
    return _single_tokens(words[:half], count) + _single_tokens(words[half:], count)
