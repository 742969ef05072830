"""Generation parameters: defaults and what implies what; test_request.py has the refusals."""

from __future__ import annotations

from inf2kit.serving.wire import parse_request
from inf2kit.serving.wire.parameters import DEFAULT_MAX_NEW_TOKENS, parse_parameters


def test_sampling_is_implied_by_its_parameters() -> None:
    assert not parse_parameters({})[0].do_sample
    assert parse_parameters({"temperature": 0.7})[0].do_sample
    assert parse_parameters({"top_k": 5})[0].do_sample
    assert not parse_parameters({"temperature": 0})[0].do_sample
    parameters, warnings = parse_parameters({"do_sample": False, "top_p": 0.5})
    assert not parameters.do_sample
    assert warnings == ["do_sample is false, so top_p had no effect"]


def test_lengths_by_default() -> None:
    assert parse_parameters({})[0].max_new_tokens == DEFAULT_MAX_NEW_TOKENS
    chat = parse_request({"messages": [{"role": "user", "content": "x"}]}, max_prompts=1)
    assert chat.parameters.max_new_tokens is None, "a chat goes on as long as the row allows"
    bounded = parse_request({"messages": [{"role": "user", "content": "x"}], "max_tokens": 7}, max_prompts=1)
    assert bounded.parameters.max_new_tokens == 7
