"""Generation parameters: defaults, what implies what, and values as clients write them."""

from __future__ import annotations

import pytest

from inf2kit.errors import RequestError
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


def test_a_least_length_above_the_most_is_said_to_have_no_effect() -> None:
    assert parse_parameters({"min_tokens": 200})[1] == [
        "min_tokens is more than max_new_tokens, so the text ends after 100 tokens; raise max_new_tokens"
    ]
    assert not parse_parameters({"min_new_tokens": 5, "max_new_tokens": 5})[1]


@pytest.mark.parametrize(
    "raw",
    [
        {"temperature": 0, "top_p": 0},
        {"temperature": 0.0, "top_p": 0.9, "top_k": 5},
        {"top_p": 0},
        {"top_p": 0.0, "temperature": 0.7},
        {"do_sample": True, "temperature": 0},
        {"do_sample": True, "top_p": 0},
        {"temperature": 1e-300},
    ],
)
def test_a_temperature_or_a_share_of_nothing_is_greedy(raw: dict[str, object]) -> None:
    parameters, warnings = parse_parameters(raw)
    assert not parameters.do_sample
    assert (parameters.temperature, parameters.top_p > 0) == (raw.get("temperature") or 1.0, True) or (
        parameters.temperature == 1.0
    )
    assert warnings == []


@pytest.mark.parametrize("name", ["top_k", "seed"])
def test_minus_one_is_no_limit_and_no_seed(name: str) -> None:
    parameters, warnings = parse_parameters({name: -1, "temperature": 1})
    assert (parameters.top_k, parameters.seed, warnings) == (0, None, [])


def test_seeds_of_64_bits_are_all_their_own() -> None:
    seeds = [-(2**63), -5, -2, 0, 5, 2**63 - 1]
    assert [parse_parameters({"seed": seed})[0].seed for seed in seeds] == seeds
    assert parse_parameters({"seed": "9007199254740993"})[0].seed == 9007199254740993


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"max_new_tokens": "50", "do_sample": "False"}, {"max_new_tokens": 50, "do_sample": False}),
        ({"temperature": "0.7", "top_k": " 5 "}, {"temperature": 0.7, "top_k": 5, "do_sample": True}),
        ({"top_p": ".9", "do_sample": "TRUE"}, {"top_p": 0.9, "do_sample": True}),
        ({"max_new_tokens": "1e1", "details": "true"}, {"max_new_tokens": 10, "details": "tokens"}),
        ({"seed": "null", "top_k": "None"}, {"seed": None, "top_k": 0, "do_sample": False}),
        ({"best_of": "1", "watermark": "false"}, {}),
    ],
)
def test_texts_are_taken_for_the_values_that_they_name(
    raw: dict[str, object], expected: dict[str, object]
) -> None:
    parameters, (warning,) = parse_parameters(raw)
    assert {name: getattr(parameters, name) for name in expected} == expected
    assert all(f"'{name}'" in warning for name in raw)


@pytest.mark.parametrize(
    "raw",
    [
        {"max_new_tokens": "many"},
        {"max_new_tokens": ""},
        {"max_new_tokens": "1_000"},
        {"max_new_tokens": "9" * 5000},
        {"max_new_tokens": "\uff15"},
        {"temperature": "0,7"},
        {"temperature": "nan"},
        {"temperature": "inf"},
        {"do_sample": "yes"},
        {"do_sample": "1"},
        {"do_sample": 1},
        {"details": 1},
        {"best_of": "2"},
        {"top_k": True},
    ],
    ids=lambda raw: str(raw)[:30],
)
def test_texts_that_are_not_clear_are_refused(raw: dict[str, object]) -> None:
    (name,) = raw
    with pytest.raises(RequestError, match=f"'{name}' is"):
        parse_parameters(raw)


def test_a_stop_text_that_looks_like_a_number_is_a_text() -> None:
    assert parse_parameters({"stop": "50"}) == parse_parameters({"stop": ["50"]})


def test_all_faults_are_named_at_once() -> None:
    raw = {"max_new_tokens": 0, "temperature": "hot", "top_p": 2, "num_beams": 4, "top_k": 5}
    with pytest.raises(RequestError) as refused:
        parse_parameters(raw)
    assert (refused.value.status, refused.value.code) == (422, "invalid_parameter")
    sentence = str(refused.value)
    for part in (
        "4 faults",
        "'max_new_tokens' is 0",
        "'temperature' is 'hot'",
        "'top_p' is 2",
        "'num_beams' is 4",
    ):
        assert part in sentence
    assert "top_k" not in sentence


def test_faults_are_shown_in_a_bounded_text() -> None:
    raw: dict[str, object] = {f"n{index}": index for index in range(5000)}
    names = (
        "temperature",
        "top_p",
        "top_k",
        "seed",
        "logit_bias",
        "stop",
        "best_of",
        "grammar",
        "max_length",
    )
    for name in names:
        raw[name] = {"deep" * 1000: [["x" * 100_000] * 100] * 100}
    with pytest.raises(RequestError) as refused:
        parse_parameters(raw)
    assert len(str(refused.value)) < 3000


def test_answers_that_must_be_the_same_are_said_to_be() -> None:
    _, (warning,) = parse_parameters({"n": 3})
    assert "the same" in warning
    assert parse_parameters({"n": 3, "temperature": 0.7})[1] == []
