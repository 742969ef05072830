"""Ids to text: the pieces joined are the text, whatever the ids and the stop texts."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import example, given
from hypothesis import strategies as st

from inf2kit.serving.engine.detokenizer import TextStream


class Bytes:
    """A tokenizer whose ids are bytes: the hardest case for characters of several bytes."""

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(ids).decode("utf-8", errors="replace")


def pieces(ids: Sequence[int], stop: Sequence[str] = (), prompt: bytes = b"ab", **options: bool) -> list[str]:
    stream = TextStream(Bytes(), list(prompt), stop, **options)
    given_pieces = []
    for token_id in ids:
        given_pieces.append(stream.push(token_id))
        if stream.stopped:
            return given_pieces
    return [*given_pieces, stream.flush()]


def test_a_character_is_released_whole() -> None:
    assert pieces("é😀".encode()) == ["", "é", "", "", "", "😀", ""]


@example([128, 128, 128, 128, 128, 241, 128, 128, 128])
@given(st.lists(st.integers(0, 255), max_size=40))
def test_pieces_joined_are_the_text_even_of_broken_bytes(ids: list[int]) -> None:
    assert "".join(pieces(ids)) == Bytes().decode(ids)


@given(st.text(max_size=30), st.text(max_size=6))
def test_the_prompts_own_characters_never_come_back(text: str, prompt: str) -> None:
    assert "".join(pieces(text.encode(), prompt=prompt.encode())) == text


@given(
    st.text(alphabet="abé", max_size=30),
    st.lists(st.text(alphabet="abé", min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_the_first_stop_text_ends_the_text(text: str, stop: list[str]) -> None:
    # A stop text is met as soon as it is complete, as the ids come: so the one that ends first.
    ends = min((text.index(s) + len(s) for s in stop if s in text), default=None)
    got = "".join(pieces(text.encode(), stop))
    kept = "".join(pieces(text.encode(), stop, include_stop=True))
    if ends is None:
        assert got == kept == text
        return
    met = [s for s in stop if text[:ends].endswith(s)]
    assert got == text[: ends - max(len(s) for s in met)]
    assert kept == text[:ends]


def test_nothing_of_a_stop_text_is_released_early() -> None:
    assert pieces(b"x\nUser", ["\nUser:"]) == ["x", "", "", "", "", "", "\nUser"]
    assert pieces(b"x\nUser:y", ["\nUser:"]) == ["x", "", "", "", "", "", ""]


@given(st.lists(st.integers(0, 255), max_size=60), st.binary(max_size=8))
def test_all_of_it_at_the_end_is_the_same_text(ids: list[int], prompt: bytes) -> None:
    whole = pieces(ids, prompt=prompt, at_the_end=True)
    assert "".join(whole) == "".join(pieces(ids, prompt=prompt)) == whole[-1]
