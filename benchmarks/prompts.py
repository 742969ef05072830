"""Prompts of a given length, all different from their first token on, so that no prefix cache helps."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any


class Prompts:
    """English prompts, made of the words of Python's own help.

    Args:
        weights: The model's directory, for its tokenizer.
        seed: Seed of the random words.
    """

    def __init__(self, weights: Path, seed: int = 0) -> None:
        from transformers import AutoTokenizer

        self.tokenizer: Any = AutoTokenizer.from_pretrained(weights)
        self._words = sorted(set(english_text().split()))
        self._random = random.Random(seed)

    def make(self, tokens: int) -> str:
        """Return a prompt of exactly so many tokens."""
        ids: list[int] = []
        while len(ids) < tokens:
            ids += self.tokenizer(" " + self._random.choice(self._words))["input_ids"]
        while True:
            text: str = self.tokenizer.decode(ids[:tokens])
            length = len(self.tokenizer(text)["input_ids"])
            if length == tokens:
                return text
            # A cut word may be tokenized differently: try with another first word.
            ids = [*self.tokenizer(" " + self._random.choice(self._words))["input_ids"], *ids]


def english_text() -> str:
    """Return a long English text: the help on Python's syntax."""
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))
