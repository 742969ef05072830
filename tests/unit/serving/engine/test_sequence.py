"""How one text ends: end-of-sequence tokens, stop ids, stop texts; and what its tokens say."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import pytest

from inf2kit.serving.engine.detokenizer import TokenDecoder
from inf2kit.serving.engine.request import Request
from inf2kit.serving.engine.sequence import NextToken
from inf2kit.serving.engine.sequence import Sequence as Row
from inf2kit.serving.shapes import StaticShapes
from inf2kit.serving.wire import Generation, Parameters
from tests.helpers.servers import PATIENCE_S

EOS, END, OTHER = 20, 21, 22
INCLUDE = {"include_stop_str_in_output": True}
SPECIAL = {EOS: "</s>", END: "<|im_end|>", OTHER: "<|x|>"}


class Letters(TokenDecoder):
    """Ids 0 to 19 are letters, the others special."""

    @property
    def special_texts(self) -> Mapping[int, str]:
        return SPECIAL

    def decode(self, ids: Sequence[int], /) -> str:
        return "".join(chr(97 + token_id) for token_id in ids if token_id not in SPECIAL)


def run(ids: Sequence[int | NextToken], **parameters: object) -> Generation:
    """The generation of a row that gets these ids; the ids after its end are not used."""
    ended: list[Generation] = []
    request = Request(
        prompt_ids=[1],
        parameters=Parameters(details="tokens", **parameters),  # type: ignore[arg-type]
        max_new_tokens=len(ids),
        deadline=time.monotonic() + PATIENCE_S,
        on_token=lambda *_: None,
        on_end=lambda _count, _token, generation: ended.append(generation),
        on_error=lambda _: None,
        with_tokens=True,
    )
    row = Row(0, request, StaticShapes.resolve(1, 64), Letters(), frozenset([EOS]))
    for token in ids:
        if row.append(token if isinstance(token, NextToken) else NextToken(token)):
            break
    (generation,) = ended
    assert generation.text == "".join(token.text for token in generation.tokens)
    return generation


@pytest.mark.parametrize(
    ("ids", "parameters", "text", "finish_reason"),
    [
        ([0, 1, END, 2], {"stop": ("<|im_end|>",), "ignore_eos": True}, "ab", "stop_sequence"),
        ([0, 1, END, 2], {"stop": ("<|im_end|>",)}, "ab", "stop_sequence"),
        ([0, EOS, END], {"stop": ("<|im_end|>",), "ignore_eos": True}, "a", "stop_sequence"),
        ([0, EOS, 1], {"stop": ("</s>",), "ignore_eos": True}, "a", "stop_sequence"),
        ([0, EOS, 1], {"stop": ("</s>",)}, "a", "eos_token"),
        ([0, 1, EOS], {"stop": ("b</s>",)}, "a", "stop_sequence"),
        ([0, 1, END, 2], {"stop": ("b<|im_end|>c",)}, "a", "stop_sequence"),
        ([0, 1, END, 2], {"stop": ("x<|im_end|>",)}, "abc", "length"),
        ([0, 1, END], {"stop": ("<|im_end|>",), **INCLUDE}, "ab<|im_end|>", "stop_sequence"),
        ([0, 1, 2], {"stop_token_ids": (1,)}, "a", "stop_sequence"),
        ([0, 1, 2], {"stop_token_ids": (1,), **INCLUDE}, "ab", "stop_sequence"),
        ([0, END, 2], {"stop_token_ids": (END,), "ignore_eos": True}, "a", "stop_sequence"),
        ([0, END], {"stop_token_ids": (END,), **INCLUDE}, "a<|im_end|>", "stop_sequence"),
        ([0, EOS], {"stop_token_ids": (EOS,)}, "a", "eos_token"),
        ([0, EOS, 1], {"stop_token_ids": (EOS,), "ignore_eos": True}, "a", "stop_sequence"),
        ([0, 1, 2], {"stop_token_ids": (2,), "stop": ("bx",)}, "ab", "stop_sequence"),
        ([0, OTHER, 1], {"ignore_eos": True}, "ab", "length"),
    ],
)  # fmt: skip
def test_how_a_text_ends(
    ids: list[int], parameters: dict[str, object], text: str, finish_reason: str
) -> None:
    generation = run(ids, **parameters)
    assert (generation.text, generation.finish_reason) == (text, finish_reason)


def test_stop_ids_do_not_come_before_the_minimum_of_new_tokens() -> None:
    parameters = Parameters(min_new_tokens=3, stop_token_ids=(4, 2))
    request = Request([1], parameters, 9, time.monotonic() + PATIENCE_S, *[lambda *_: None] * 3)
    row = Row(0, request, StaticShapes.resolve(1, 64), Letters(), frozenset([EOS]))
    assert row.sampler.banned_ids.tolist() == [2, 4, EOS]


def test_special_tokens_and_top_tokens_are_named() -> None:
    top = ((0, -0.5), (END, -1.0))
    generation = run([NextToken(0, -0.5, top), OTHER, EOS])
    assert [token.special for token in generation.tokens] == [False, True, True]
    assert [(t.text, t.logprob, t.special) for t in generation.tokens[0].top_tokens] == [
        ("a", -0.5, False),
        ("<|im_end|>", -1.0, True),
    ]
