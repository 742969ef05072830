"""Ids to text: the pieces joined are the text, whatever the ids and the stop texts."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import example, given
from hypothesis import strategies as st

from inf2kit.serving.engine.detokenizer import IncrementalDetokenizer, TokenDecoder


class ByteDecoder(TokenDecoder):
    """A tokenizer whose ids are bytes: the hardest case for characters of several bytes."""

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(ids).decode("utf-8", errors="replace")


def pieces(ids: Sequence[int], stop: Sequence[str] = (), prompt: bytes = b"ab", **options: bool) -> list[str]:
    detokenizer = IncrementalDetokenizer(ByteDecoder(), list(prompt), stop, **options)
    pushed = []
    for token_id in ids:
        pushed.append(detokenizer.push(token_id))
        if detokenizer.stopped:
            return pushed
    return [*pushed, detokenizer.flush()]


def test_a_character_is_released_whole() -> None:
    assert pieces("é😀".encode()) == ["", "é", "", "", "", "😀", ""]


@example([128, 128, 128, 128, 128, 241, 128, 128, 128])
@given(st.lists(st.integers(0, 255), max_size=40))
def test_pieces_joined_are_the_text_even_of_broken_bytes(ids: list[int]) -> None:
    assert "".join(pieces(ids)) == ByteDecoder().decode(ids)


@given(st.text(max_size=30), st.text(max_size=6))
def test_the_prompts_own_characters_never_come_back(text: str, prompt: str) -> None:
    assert "".join(pieces(text.encode(), prompt=prompt.encode())) == text


@given(
    st.text(alphabet="abé", max_size=30),
    st.lists(st.text(alphabet="abé", min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_the_stop_text_that_ends_first_ends_the_text(text: str, stop: list[str]) -> None:
    # A stop text is noticed as soon as it is complete, so the one that ends first counts.
    end = min((text.index(s) + len(s) for s in stop if s in text), default=None)
    without_stop = "".join(pieces(text.encode(), stop))
    with_stop = "".join(pieces(text.encode(), stop, include_stop=True))
    if end is None:
        assert without_stop == with_stop == text
        return
    longest = max(len(s) for s in stop if text[:end].endswith(s))
    assert without_stop == text[: end - longest]
    assert with_stop == text[:end]


def test_nothing_of_a_stop_text_is_released_early() -> None:
    assert pieces(b"x\nUser", ["\nUser:"]) == ["x", "", "", "", "", "", "\nUser"]
    assert pieces(b"x\nUser:y", ["\nUser:"]) == ["x", "", "", "", "", "", ""]


@given(st.lists(st.integers(0, 255), max_size=60), st.binary(max_size=8))
def test_the_text_decoded_at_its_end_only_is_the_same(ids: list[int], prompt: bytes) -> None:
    whole = pieces(ids, prompt=prompt, only_at_end=True)
    assert "".join(whole) == "".join(pieces(ids, prompt=prompt)) == whole[-1]
