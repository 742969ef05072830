"""Prompts to token ids: one BOS, the last tokens of too long a text, tokens that the model lacks."""

from __future__ import annotations

import pytest

from inf2kit.errors import RequestError
from inf2kit.serving.engine.prompts import PromptTokenizer
from inf2kit.serving.shapes import StaticShapes
from inf2kit.serving.wire import Chat
from tests.helpers.small_tokenizers import sentencepiece_like, with_template

SHAPES = StaticShapes.resolve(1, 128)
BOS = 1


def prompts(
    *, adds_bos: bool = True, vocabulary_size: int = 1000, template: str | None = None
) -> PromptTokenizer:
    tokenizer = with_template(sentencepiece_like(adds_bos=adds_bos), template)
    return PromptTokenizer(tokenizer, SHAPES, vocabulary_size)


@pytest.mark.parametrize(
    ("text", "leading"),
    [
        *[
            (text, 1)
            for text in ("hello", "<s>hello", "<s> hello", " <s>hello", "  <s> hello", "<s>", "a<s>")
        ],
        *[(text, 2) for text in ("<s><s>hello", "<s><s>")],
    ],
)
def test_a_prompt_has_the_bos_that_its_text_has_or_the_tokenizers_one(text: str, leading: int) -> None:
    ids = prompts().tokenize(text).ids
    assert ids[:leading] == [BOS] * leading
    assert ids[leading : leading + 1] != [BOS]


@pytest.mark.parametrize("text", ["hello", "<s>hello", "<s><s>hello", " <s>hello"])
def test_a_tokenizer_that_adds_no_bos_changes_nothing(text: str) -> None:
    expected = sentencepiece_like(adds_bos=False)(text)["input_ids"]
    assert prompts(adds_bos=False).tokenize(text).ids == expected
    assert expected.count(BOS) == text.count("<s>")


def test_a_template_that_writes_bos_gets_no_second_one_and_is_as_transformers_has_it() -> None:
    template = "{{ bos_token }}{% for message in messages %}{{ message.content }}{% endfor %}"
    subject = prompts(template=template)
    messages = [{"role": "user", "content": "hello"}]
    ids = subject.tokenize(Chat(tuple(messages))).ids
    assert ids == with_template(sentencepiece_like(), template).apply_chat_template(messages)
    assert ids.count(BOS) == 1


def test_truncation_keeps_the_last_tokens_after_bos() -> None:
    text = "hello the world " * 9
    whole = prompts().tokenize(text).ids
    assert prompts().tokenize(text, 7).ids == [BOS, *whole[-6:]]
    assert prompts(adds_bos=False).tokenize(text, 7).ids == whole[-7:]
    assert prompts().tokenize(text, 1).ids == whole[-1:]
    assert prompts().tokenize(text, 10_000).ids == whole
    chat = Chat(({"role": "user", "content": text},))
    template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    assert prompts(adds_bos=False, template=template).tokenize(chat, 7).ids == whole[-7:]


def test_six_megabytes_are_cut_before_they_are_tokenized() -> None:
    """The tokenizer sees no more characters than the kept tokens can have."""
    seen: list[int] = []
    tokenizer = sentencepiece_like()

    class Watched(type(tokenizer)):  # type: ignore[misc]
        def __call__(self, text: str, *args: object, **options: object) -> object:
            seen.append(len(text))
            return super().__call__(text, *args, **options)

    tokenizer.__class__ = Watched
    subject = PromptTokenizer(tokenizer, SHAPES, 1000)
    text = "hello the world. " * 350_000
    ids = subject.tokenize(text, 50).ids
    assert ids == [BOS, *sentencepiece_like()(text[-10_000:])["input_ids"][-49:]]
    assert max(seen) < 2_000


def test_the_models_vocabulary_counts_and_not_the_tokenizers() -> None:
    subject = prompts(vocabulary_size=346)
    assert subject.tokenize("the").ids
    with pytest.raises(
        RequestError, match=r"the token '▁hello' \(346\), which the tokenizer knows"
    ) as refused:
        subject.tokenize("hello")
    assert refused.value.status == 422
