"""Static shapes: what is resolved, read back and changed, and which requests fit."""

from __future__ import annotations

import dataclasses

import pytest

from inf2kit.errors import RequestError
from inf2kit.serving.shapes import StaticShapes


@pytest.mark.parametrize(
    ("max_context_length", "resolved", "prefill_length"),
    [(None, 31, 32), (16, 16, 16), (31, 31, 32), (32, 31, 32)],
)
def test_prompts_are_as_long_as_the_sequence_allows_unless_limited(
    max_context_length: int | None, resolved: int, prefill_length: int
) -> None:
    shapes = StaticShapes.resolve(4, 32, max_context_length)
    assert (shapes.max_context_length, shapes.prefill_length) == (resolved, prefill_length)
    assert StaticShapes.from_dict(dataclasses.asdict(shapes)) == shapes


@pytest.mark.parametrize("context", [{}, {"max_context_length": None}, {"max_context_length": 32}])
def test_a_manifest_or_a_compilation_without_a_limit_of_its_own_has_the_longest(
    context: dict[str, int | None],
) -> None:
    assert StaticShapes.from_dict({"batch_size": 4, "sequence_length": 32, **context}) == StaticShapes(
        4, 32, 31
    )


@pytest.mark.parametrize(
    ("batch_size", "sequence_length", "context"), [(0, 32, None), (1, 1, None), (1, 32, 0)]
)
def test_shapes_that_hold_nothing_are_refused(
    batch_size: int, sequence_length: int, context: int | None
) -> None:
    with pytest.raises(ValueError, match="must be"):
        StaticShapes.resolve(batch_size, sequence_length, context)


def test_another_sequence_length_leaves_prompts_unlimited_or_at_their_limit() -> None:
    unlimited, limited = StaticShapes(4, 32, 31), StaticShapes(4, 32, 16)
    assert unlimited.with_changes(sequence_length=64) == StaticShapes(4, 64, 63)
    assert limited.with_changes(batch_size=2, sequence_length=64) == StaticShapes(2, 64, 16)
    assert limited.with_changes(sequence_length=8) == StaticShapes(4, 8, 7)
    assert unlimited.with_changes(max_context_length=4) == StaticShapes(4, 32, 4)
    assert limited.with_changes() == limited


@pytest.mark.parametrize(
    ("input_length", "max_new_tokens", "expected"), [(10, 5, 5), (10, 50, 22), (31, 5, 1), (10, None, 22)]
)
def test_new_tokens_within_the_row(input_length: int, max_new_tokens: int | None, expected: int) -> None:
    assert StaticShapes.resolve(1, 32).new_tokens_within(input_length, max_new_tokens) == expected


def test_a_prompt_that_does_not_fit_is_refused() -> None:
    with pytest.raises(RequestError, match="32 tokens") as refused:
        StaticShapes.resolve(1, 32).new_tokens_within(32, 1)
    assert refused.value.code == "prompt_too_long"
