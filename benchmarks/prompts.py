"""Prompts of a given length, all different from their first token on, so that nobody's cache helps."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any


class Prompts:
    """English prompts, made of the words of a dictionary that every Python has: its own help.

    Args:
        weights: The model's directory, for its tokenizer.
        seed: Of the words' order.
    """

    def __init__(self, weights: Path, seed: int = 0) -> None:
        from transformers import AutoTokenizer

        self.tokenizer: Any = AutoTokenizer.from_pretrained(weights)
        self._words = sorted(set(english().split()))
        self._random = random.Random(seed)

    def of(self, tokens: int) -> str:
        """A prompt of exactly so many tokens."""
        ids: list[int] = []
        while len(ids) < tokens:
            ids += self.tokenizer(" " + self._random.choice(self._words))["input_ids"]
        while True:
            text: str = self.tokenizer.decode(ids[:tokens])
            found = len(self.tokenizer(text)["input_ids"])
            if found == tokens:
                return text
            # Where a word was cut, its pieces may join differently: try with other words.
            ids = [*self.tokenizer(" " + self._random.choice(self._words))["input_ids"], *ids]


def english() -> str:
    """A long English text: the help on Python's syntax."""
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))
