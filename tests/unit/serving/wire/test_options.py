"""The table of options: each one is honoured, refused, or passed over because it asks for nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from inf2kit.errors import RequestError
from inf2kit.serving.wire import Form, GenerateRequest, Parameters, parse_request
from inf2kit.serving.wire.honoured import OPTIONS
from inf2kit.serving.wire.option import FORMS
from inf2kit.serving.wire.options import TABLES
from inf2kit.serving.wire.refused import REFUSALS
from inf2kit.serving.wire.table import put_in

DOCUMENT = Path(__file__).parents[4] / "docs" / "wire.md"
MESSAGES = [{"role": "user", "content": "x"}]
QUESTIONS: dict[Form, dict[str, Any]] = {
    "tgi": {"inputs": "x"},
    "chat": {"messages": MESSAGES},
    "completion": {"prompt": "x"},
}
#: What other servers take, read from their sources: TGI's GenerateParameters and ChatRequest,
#: openai-python's CompletionCreateParams, vLLM's protocol, transformers' GenerationConfig.
NAMES = {
    "tgi": """
        adapter_id best_of decoder_input_details details do_sample frequency_penalty grammar
        max_new_tokens repetition_penalty return_full_text seed stop temperature top_k top_n_tokens
        top_p truncate typical_p watermark options
    """,
    "chat": """
        audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens
        max_tokens metadata modalities model moderation n parallel_tool_calls prediction
        presence_penalty prompt_cache_key prompt_cache_options prompt_cache_retention reasoning_effort
        response_format safety_identifier seed service_tier stop store stream stream_options
        temperature tool_choice tools top_logprobs top_p user verbosity web_search_options tool_prompt
        guideline use_beam_search top_k min_p repetition_penalty length_penalty stop_token_ids
        include_stop_str_in_output ignore_eos min_tokens skip_special_tokens
        spaces_between_special_tokens truncate_prompt_tokens truncation_side prompt_logprobs
        logprob_token_ids allowed_token_ids bad_words echo add_generation_prompt continue_final_message
        add_special_tokens documents chat_template chat_template_kwargs media_io_kwargs
        mm_processor_kwargs structured_outputs priority request_id session_id
        return_tokens_as_token_ids return_token_ids cache_salt kv_transfer_params vllm_xargs
        repetition_detection stream_interval thinking_token_budget include_reasoning guided_json
        guided_regex guided_choice guided_grammar guided_decoding_backend
    """,
    "completion": "best_of echo logprobs suffix max_tokens n prompt_embeds stream_options user",
    "transformers": """
        max_length max_new_tokens min_length min_new_tokens early_stopping max_time stop_strings
        do_sample num_beams num_beam_groups penalty_alpha dola_layers use_cache cache_implementation
        temperature top_k top_p min_p typical_p epsilon_cutoff eta_cutoff diversity_penalty
        repetition_penalty encoder_repetition_penalty length_penalty no_repeat_ngram_size bad_words_ids
        force_words_ids renormalize_logits constraints forced_bos_token_id forced_eos_token_id
        remove_invalid_values exponential_decay_length_penalty suppress_tokens begin_suppress_tokens
        sequence_bias token_healing guidance_scale low_memory watermarking_config num_return_sequences
        output_attentions output_hidden_states output_scores output_logits return_dict_in_generate
        pad_token_id bos_token_id eos_token_id encoder_no_repeat_ngram_size decoder_start_token_id
        num_assistant_tokens prompt_lookup_num_tokens compile_config disable_compile
    """,
}
#: Values with which clients send what they do not want, often all in one body.
HARMLESS: list[dict[str, object]] = [
    {"best_of": 1, "watermark": False, "grammar": None, "adapter_id": None, "decoder_input_details": False},
    {"n": 1, "presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}, "tools": [], "stop": []},
    {
        "num_beams": 1,
        "length_penalty": 1.0,
        "no_repeat_ngram_size": 0,
        "early_stopping": False,
        "min_length": 0,
    },
    {
        "use_beam_search": False,
        "skip_special_tokens": True,
        "spaces_between_special_tokens": True,
        "bad_words": [],
    },
    {"response_format": {"type": "text"}, "modalities": ["text"], "tool_choice": "auto", "suffix": ""},
    {
        "user": "me",
        "metadata": {"a": "b"},
        "store": False,
        "service_tier": "auto",
        "parallel_tool_calls": True,
    },
    {
        "options": {"wait_for_model": True, "use_cache": False},
        "prompt_cache_key": "k",
        "safety_identifier": "s",
    },
    {"pad_token_id": 2, "use_cache": True, "num_return_sequences": 1, "renormalize_logits": False},
    {"return_full_text": False, "details": False, "logprobs": False, "top_logprobs": None, "model": "any"},
    {"add_generation_prompt": True, "continue_final_message": False, "chat_template_kwargs": {}},
    {"do_sample": False, "temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0, "typical_p": 1},
]
REFUSED: list[tuple[str, object]] = [
    ("best_of", 2),
    ("best_of", True),
    ("num_beams", 4),
    ("no_repeat_ngram_size", 3),
    ("length_penalty", 2.0),
    ("bad_words", ["x"]),
    ("eos_token_id", 2),
    ("max_length", 50),
    ("max_time", 5),
    ("watermark", True),
    ("grammar", {"type": "json", "value": {}}),
    ("guided_json", {"type": "object"}),
    ("response_format", {"type": "json_object"}),
    ("adapter_id", "mine"),
    ("reasoning_effort", "high"),
    ("modalities", ["text", "audio"]),
    ("functions", [{"name": "f"}]),
    ("suffix", "end"),
    ("skip_special_tokens", False),
    ("store", True),
    ("tool_choice", "required"),
    ("tool_choice", {"type": "function", "function": {"name": "f"}}),
    ("prompt_logprobs", 1),
]


def parse(form: Form, **options: object) -> GenerateRequest:
    return parse_request({**QUESTIONS[form], **options}, max_prompts=8)


@pytest.mark.parametrize("source", list(NAMES))
def test_no_option_of_another_server_is_unknown(source: str) -> None:
    for form in FORMS if source == "transformers" else (source,):
        assert set(NAMES[source].split()) <= set(TABLES[form]), form  # type: ignore[index]


@pytest.mark.parametrize("form", FORMS)
def test_an_option_has_one_entry(form: Form) -> None:
    names = [name for option in OPTIONS if form in option.forms for name in option.names]
    names += [name for refusal in REFUSALS if form in refusal.forms for name in refusal.names]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("options", HARMLESS, ids=lambda options: next(iter(options)))
def test_what_asks_for_nothing_passes_without_a_word(form: Form, options: dict[str, object]) -> None:
    request, plain = parse(form, **options), parse(form)
    assert request.warnings == ()
    assert request.prompts == plain.prompts
    assert request.parameters == plain.parameters


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("name", "value"), REFUSED, ids=lambda each: str(each)[:24])
def test_what_cannot_be_done_is_refused_and_says_what_to_use(form: Form, name: str, value: object) -> None:
    with pytest.raises(RequestError, match=f"'{name}' is .*: .*|'{name}' is .*; it must be") as refused:
        parse(form, **{name: value})
    assert (refused.value.status, refused.value.code, refused.value.param) == (422, "invalid_parameter", name)


@pytest.mark.parametrize(
    ("form", "options", "hint"),
    [
        ("tgi", {"logprobs": True}, "use 'details'"),
        ("tgi", {"top_logprobs": 2}, "use 'top_n_tokens'"),
        ("tgi", {"echo": True}, "use 'return_full_text'"),
        ("chat", {"details": True}, "'logprobs'"),
        ("chat", {"return_full_text": True}, "new turn"),
        ("chat", {"top_logprobs": 2}, "needs 'logprobs': true"),
        ("chat", {"echo": True}, "new turn"),
        ("completion", {"details": "counts"}, "'usage'"),
        ("completion", {"top_logprobs": 1}, "use 'logprobs'"),
        ("completion", {"tools": [{"type": "function", "function": {"name": "f"}}]}, "send a chat"),
        ("completion", {"echo": True, "logprobs": 1}, "leave 'logprobs' out"),
        ("completion", {"echo": True, "stream": True}, "not in a stream"),
        ("tgi", {"decoder_input_details": True, "stream": True}, "not in a stream"),
        ("tgi", {"top_n_tokens": 1, "details": "counts"}, "'details': true"),
        ("tgi", {"n": 2, "stream": True}, "one text"),
    ],
)
def test_an_option_of_another_schema_is_refused_not_dropped(
    form: Form, options: dict[str, object], hint: str
) -> None:
    with pytest.raises(RequestError, match=hint) as refused:
        parse(form, **options)
    assert refused.value.code == "invalid_parameter"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"max_tokens": 5}, {"max_new_tokens": 5}),
        ({"max_completion_tokens": 5, "max_tokens": 5}, {"max_new_tokens": 5}),
        ({"min_tokens": 3}, {"min_new_tokens": 3}),
        ({"num_return_sequences": 2, "temperature": 1}, {"n": 2}),
        ({"stop_sequences": ["a"]}, {"stop": ("a",)}),
        ({"stop": "a"}, {"stop": ("a",)}),
        ({"truncate_prompt_tokens": 9}, {"truncate": 9}),
        ({"truncate": 9}, {"truncate": 9}),
        (
            {"presence_penalty": 1, "frequency_penalty": -0.5},
            {"presence_penalty": 1.0, "frequency_penalty": -0.5},
        ),
        ({"logit_bias": {"7": -100, "5": 1}}, {"logit_bias": ((5, 1.0), (7, -100.0))}),
        ({"stop_token_ids": [1, 2]}, {"stop_token_ids": (1, 2)}),
        ({"min_p": 0.1}, {"min_p": 0.1, "do_sample": True}),
        ({"typical_p": 0.9}, {"typical_p": 0.9, "do_sample": True}),
        ({"ignore_eos": True, "include_stop_str_in_output": True}, {"ignore_eos": True}),
    ],
)
def test_what_can_be_done_is_done_by_every_name(
    form: Form, options: dict[str, object], expected: dict[str, object]
) -> None:
    request = parse(form, **options)
    assert {name: getattr(request.parameters, name) for name in expected} == expected
    assert request.warnings == ()
    if form == "tgi":
        assert parse_request({"inputs": "x", "parameters": options}, max_prompts=8) == request


@pytest.mark.parametrize(
    ("form", "options", "expected"),
    [
        ("tgi", {"details": True}, {"details": "tokens"}),
        ("tgi", {"details": "counts"}, {"details": "counts"}),
        ("tgi", {"top_n_tokens": 3}, {"details": "tokens", "top_n_tokens": 3}),
        ("tgi", {"decoder_input_details": True}, {"details": "tokens", "decoder_input_details": True}),
        ("chat", {"logprobs": True, "top_logprobs": 2}, {"logprobs": True, "top_n_tokens": 2}),
        ("completion", {"logprobs": 0}, {"logprobs": True, "top_n_tokens": 0}),
        ("completion", {"logprobs": 3}, {"logprobs": True, "top_n_tokens": 3}),
        ("completion", {"echo": True}, {"return_full_text": True}),
    ],
)
def test_what_the_answer_shows(form: Form, options: dict[str, object], expected: dict[str, object]) -> None:
    parameters = parse(form, **options).parameters
    assert {name: getattr(parameters, name) for name in expected} == expected


def test_null_log_probabilities_are_said() -> None:
    (warning,) = parse("tgi", decoder_input_details=True).warnings
    assert "null" in warning


@pytest.mark.parametrize("form", FORMS)
def test_two_names_of_one_option_must_agree(form: Form) -> None:
    with pytest.raises(RequestError, match="'max_tokens' and 'max_new_tokens' mean the same"):
        parse(form, max_tokens=5, max_new_tokens=6)
    assert parse(form, max_tokens=5, max_new_tokens=None).parameters.max_new_tokens == 5


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "options",
    [
        {"n": 0},
        {"n": 1.5},
        {"presence_penalty": 3},
        {"frequency_penalty": "much"},
        {"logit_bias": {"a": 1}},
        {"logit_bias": {"1": 101}},
        {"logit_bias": [1]},
        {"logit_bias": {str(index): 1 for index in range(2000)}},
        {"stop_token_ids": [-1]},
        {"stop_token_ids": 5},
        {"stop_token_ids": ["5"]},
        {"stop": ["a\ud800"]},
        {"stop": ["a"] * 17},
        {"min_p": 2},
        {"typical_p": 0},
        {"truncate": 0},
        {"seed": 2**63},
        {"top_k": -2},
        {"top_p": -0.1},
    ],
    ids=str,
)
def test_values_out_of_range(form: Form, options: dict[str, object]) -> None:
    (name,) = options
    with pytest.raises(RequestError, match=f"'{name}' is .*; it must be ") as refused:
        parse(form, **options)
    assert len(str(refused.value)) < 300


def test_defaults_are_those_of_the_dataclass() -> None:
    assert parse("tgi").parameters == Parameters()
    assert parse("completion").parameters == Parameters(max_new_tokens=16)
    assert parse("chat").parameters == Parameters(max_new_tokens=None)


def test_the_document_has_the_tables_of_the_code() -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    assert document == put_in(document), "run python -m inf2kit.serving.wire.table docs/wire.md"
