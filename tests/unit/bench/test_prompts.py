"""A prompt has exactly the number of tokens that was asked for, by the endpoint's own count."""

from __future__ import annotations

import pytest

from inf2kit.bench.prompts import PromptBuilder
from inf2kit.errors import Inf2KitError

#: Words that the vocabulary of these tests splits.
_LONG = {"about": 2, "because": 3, "your": 2}


class Vocabulary:
    """Counts as a tokenizer does: a beginning-of-sequence token, and one or more for each word."""

    def __init__(self) -> None:
        self.calls = 0

    def count(self, text: str) -> int:
        self.calls += 1
        return 1 + sum(_LONG.get(word, 1) for word in text.split())


@pytest.mark.parametrize("tokens", [2, 3, 256, 768])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_prompt_has_exactly_its_tokens(tokens: int, seed: int) -> None:
    vocabulary = Vocabulary()
    builder = PromptBuilder.measure(vocabulary.count)
    assert vocabulary.count(builder.build(tokens, seed)) == tokens


def test_split_words_are_left_out_in_few_calls() -> None:
    vocabulary = Vocabulary()
    text = PromptBuilder.measure(vocabulary.count).build(5000)
    assert not set(text.split()) & set(_LONG)
    assert vocabulary.calls < 50


def test_a_prompt_can_be_built_again_and_others_differ() -> None:
    builder = PromptBuilder.measure(Vocabulary().count)
    assert builder.build(64, seed=3) == builder.build(64, seed=3)
    assert len({builder.build(64, seed) for seed in range(100)}) == 100


def test_a_count_that_says_nothing_is_refused() -> None:
    with pytest.raises(Inf2KitError, match=r"only 0 of \d+ common words are one token each"):
        PromptBuilder.measure(lambda _: 7)
    with pytest.raises(Inf2KitError, match="only 0 of"):
        PromptBuilder.measure(len)


def test_a_prompt_shorter_than_the_shortest_is_refused() -> None:
    with pytest.raises(Inf2KitError, match="the shortest one has 2 here"):
        PromptBuilder.measure(Vocabulary().count).build(1)
