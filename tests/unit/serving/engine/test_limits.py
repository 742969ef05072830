"""Texts that cannot fit a row are refused before their tokens are counted."""

from __future__ import annotations

import pytest

from inf2kit.errors import RequestError
from inf2kit.serving.engine.limits import check_size, max_body_bytes
from inf2kit.serving.shapes import StaticShapes
from inf2kit.serving.wire import Chat, GenerateRequest, Parameters

SHAPES = StaticShapes.resolve(1, 32)


def test_a_text_may_have_as_many_characters_as_the_longest_tokens_have() -> None:
    check_size(GenerateRequest(form="tgi", prompts=("x" * 310,)), SHAPES, longest_token=10)
    with pytest.raises(RequestError, match="311 characters, more than 31 tokens can hold"):
        check_size(GenerateRequest(form="tgi", prompts=("x", "x" * 311)), SHAPES, longest_token=10)


def test_a_chat_counts_its_roles_and_contents_together() -> None:
    message = {"role": "user", "content": "x" * 6}
    check_size(GenerateRequest(form="chat", prompts=(Chat((message,) * 31),)), SHAPES, longest_token=10)
    with pytest.raises(RequestError, match="310 characters"):
        check_size(GenerateRequest(form="chat", prompts=(Chat((message,) * 31),)), SHAPES, longest_token=9)
    with pytest.raises(RequestError, match="'messages' has 32 messages"):
        check_size(GenerateRequest(form="chat", prompts=(Chat((message,) * 32),)), SHAPES, longest_token=10)


def test_the_longest_body_has_six_bytes_a_character() -> None:
    assert max_body_bytes(SHAPES, max_prompts=4, longest_token=10) == 4 * 31 * 10 * 6 + 64 * 1024


def test_what_truncation_makes_fit_is_not_refused() -> None:
    long_text, message = "x" * 6_000_000, {"role": "user", "content": "x" * 6_000_000}
    for prompt in (long_text, Chat((message,))):
        check_size(GenerateRequest("tgi", (prompt,), Parameters(truncate=31)), SHAPES, longest_token=10)
        with pytest.raises(RequestError, match="31 tokens can hold"):
            check_size(GenerateRequest("tgi", (prompt,), Parameters(truncate=32)), SHAPES, longest_token=10)
