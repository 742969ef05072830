"""Stop texts with special tokens: found in the text that has them, while the answer leaves them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inf2kit.serving.engine.detokenizer import IncrementalDetokenizer, TokenDecoder
from inf2kit.serving.engine.tokenizer import PlainDecoder
from tests.helpers.small_tokenizers import sentencepiece_like

TEXTS = ["a", "b", "<", "|", "end", "|>", "", "<|end|>", "<s>"]
SPECIAL = {7: "<|end|>", 8: "<s>"}


class WordDecoder(TokenDecoder):
    """Ids 0 to 6 are texts, one of them empty; 7 and 8 are special tokens."""

    @property
    def special_texts(self) -> Mapping[int, str]:
        return SPECIAL

    def decode(self, ids: Sequence[int], /) -> str:
        return "".join(TEXTS[token_id] for token_id in ids if token_id not in SPECIAL)


def pieces(ids: Sequence[int], stop: Sequence[str], *, include: bool = False) -> tuple[list[str], bool]:
    detokenizer = IncrementalDetokenizer(WordDecoder(), [0, 7], stop, include_stop=include)
    texts = []
    for token_id in ids:
        texts.append(detokenizer.push(token_id))
        if detokenizer.stopped:
            return texts, True
    return [*texts, detokenizer.flush()], False


def test_a_special_token_is_a_stop_text() -> None:
    assert pieces([0, 1, 7, 0], ["<|end|>"]) == (["a", "b", ""], True)
    assert pieces([0, 1, 7, 0], ["<|end|>"], include=True) == (["a", "b", "<|end|>"], True)
    assert pieces([0, 8, 7, 0], ["<|end|>"]) == (["a", "", ""], True)
    assert pieces([0, 8, 1], ["<|end|>"]) == (["a", "", "b", ""], False)


def test_a_stop_text_may_have_text_and_special_tokens() -> None:
    assert pieces([0, 1, 7, 0, 0], ["b<|end|>a"]) == (["a", "", "", ""], True)
    assert pieces([0, 1, 7, 0, 0], ["b<|end|>a"], include=True) == (["a", "", "", "b<|end|>a"], True)
    assert pieces([0, 1, 7, 2], ["b<|end|>a"]) == (["a", "", "", "b<", ""], False)
    assert pieces([0, 7, 8, 0], ["<|end|><s>"]) == (["a", "", ""], True)


def test_a_special_token_is_found_whole_or_not_at_all() -> None:
    assert pieces([0, 7, 1], ["<", "|>b", "<|end|>a"]) == (["a", "", "b", ""], False)
    assert pieces([0, 7, 0], ["aa", "b<|end|>"]) == (["", "", ""], True), "the answer would have aa"
    written = [2, 3, 4, 5]
    assert pieces([0, *written, 1], ["<|end|>"]) == (["a", "", "", "", ""], True), "as text it stops, too"


def test_the_id_that_ends_the_text_completes_a_stop_text() -> None:
    for stop, expected in (["b<|end|>"], ("", True)), (["<|end|>"], ("b", False)), (["bb"], ("b", False)):
        detokenizer = IncrementalDetokenizer(WordDecoder(), [0], stop)
        released = detokenizer.push(1)
        assert (released + detokenizer.flush(7), detokenizer.stopped) == expected


@given(
    st.lists(st.integers(0, len(TEXTS) - 1), max_size=12),
    st.lists(
        st.lists(st.sampled_from(TEXTS), min_size=1, max_size=3).map("".join).filter(bool),
        min_size=1,
        max_size=3,
    ),
    st.booleans(),
)
def test_the_text_is_that_before_the_first_stop_text_of_the_text_with_special_tokens(
    ids: list[int], stop: list[str], include: bool
) -> None:
    texts, stopped = pieces(ids, stop, include=include)
    for count in range(len(ids) + 1):
        expected = ends_of(ids[:count], stop)
        if expected:
            assert stopped
            assert "".join(texts) in [before + (text if include else "") for before, text in expected]
            return
    assert not stopped
    assert "".join(texts) == WordDecoder().decode(ids)


def ends_of(ids: list[int], stop: list[str]) -> list[tuple[str, str]]:
    """Try every place: the text before the first stop text, and that; several if they begin together."""
    whole = "".join(TEXTS[token_id] for token_id in ids)
    hidden, length = [], 0
    for token_id in ids:
        if token_id in SPECIAL:
            hidden.append((length, length + len(SPECIAL[token_id])))
        length += len(TEXTS[token_id])

    def visible(end: int) -> str:
        return "".join(
            character
            for place, character in enumerate(whole[:end])
            if not any(begin <= place < until for begin, until in hidden)
        )

    matches = []
    for text in stop:
        if any(token in text for token in SPECIAL.values()):
            matches += [
                (start, visible(start), text)
                for start in range(len(whole))
                if whole.startswith(text, start)
                and not any(begin < start < until for begin, until in hidden)
                and not any(begin < start + len(text) < until for begin, until in hidden)
            ]
        elif (place := visible(len(whole)).find(text)) >= 0:
            start = max(start for start in range(len(whole)) if len(visible(start)) == place)
            matches.append((start, visible(start), text))
    first = min(matches, default=(0, "", ""))[0]
    return [(before, text) for start, before, text in matches if start == first]


@pytest.mark.parametrize(
    ("stop", "expected"), [("\ufffd", "aé"), ("é", "a"), (" the", "aé hello"), ("<think>", "aé hello the")]
)
def test_stop_texts_of_a_real_vocabulary(stop: str, expected: str) -> None:
    """Half a character is no stop text, a space counts, and an added token that is not special is text."""
    tokenizer = sentencepiece_like(special=["<|end|>"], added=["<think>"])
    decoder = PlainDecoder(tokenizer)
    prompt, new = (
        tokenizer("hello")["input_ids"],
        tokenizer.convert_tokens_to_ids(["a", "<0xC3>", "<0xA9>", "▁hello", "<|end|>", "▁the", "<think>"]),
    )
    detokenizer = IncrementalDetokenizer(decoder, prompt, [stop])
    text = ""
    for token_id in new:
        text += detokenizer.push(token_id)
        if detokenizer.stopped:
            break
    whole = decoder.decode([*prompt, *new]).removeprefix("hello")
    assert whole == "aé hello the<think>"
    if stop == "\ufffd":
        assert text + detokenizer.flush() == whole
        assert not detokenizer.stopped
    else:
        assert text == expected
        assert detokenizer.stopped


def test_a_first_space_stays_after_a_prompt_that_ends_with_special_tokens() -> None:
    tokenizer = sentencepiece_like(special=[f"<{number}>" for number in range(9)])
    decoder = PlainDecoder(tokenizer)
    prompt = tokenizer("hello" + "".join(f"<{number}>" for number in range(9)))["input_ids"]
    detokenizer = IncrementalDetokenizer(decoder, prompt, [" the"])
    assert detokenizer.push(tokenizer.convert_tokens_to_ids("▁world")) == " world"
    assert detokenizer.push(tokenizer.convert_tokens_to_ids("▁the")) == ""
    assert detokenizer.stopped


def test_tokens_alone_have_the_text_that_they_have_within_a_text() -> None:
    tokenizer = sentencepiece_like(special=["<|end|>"], added=["<think>"])
    decoder = PlainDecoder(tokenizer)
    tokens = ["▁the", "the", "<|end|>", "<think>", "<0xC3>", "</s>"]
    texts = [decoder.token_text(token_id) for token_id in tokenizer.convert_tokens_to_ids(tokens)]
    assert texts == [" the", "the", "<|end|>", "<think>", "\ufffd", "</s>"]
    assert decoder.decode([10**6]) == decoder.token_text(10**6) == "", "a padded vocabulary has no texts"
