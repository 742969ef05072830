"""Calls as lines of the engine's socket."""

from __future__ import annotations

import pytest

from inf2kit.serving.engine.protocol import MAX_LINE, EngineCall, decode_call, encode_call
from inf2kit.serving.gateway.bodies import MAX_BODY


@pytest.mark.parametrize("letter", ["a", "\u0436", "\u4e2d", "\U0001f600"])
def test_the_longest_body_is_a_line(letter: str) -> None:
    """In ASCII, JSON would write up to three times as many bytes."""
    text = letter * (MAX_BODY // len(letter.encode()))
    assert len(encode_call(EngineCall("generate", {"inputs": text}, 1.5))) < min(MAX_LINE, MAX_BODY + 1024)


def test_every_text_comes_back() -> None:
    body = {"inputs": "\u0436\u2028\x85\n\U0001f600", "half \ud83d": "\x00"}
    line = encode_call(EngineCall("generate", body, 1.5))
    assert line.count(b"\n") == 1
    assert decode_call(line) == EngineCall("generate", body, 1.5)
