"""The options that are refused unless their value asks for nothing, and those that are passed over."""

from __future__ import annotations

from inf2kit.serving.wire.option import FORMS, NOTHING, Form, Refusal


def refuse(
    names: str, reason: str, *neutral: object, forms: tuple[Form, ...] = FORMS, strict: bool = False
) -> Refusal:
    """Describe an option that is refused.

    Args:
        names: Its names, with spaces between them.
        reason: Why, and what to use instead.
        *neutral: Values that ask for nothing, besides false, an empty text, list or object.
        forms: The schemas in which it is this one.
        strict: Whether false and the empty values ask for something, too.
    """
    return Refusal(tuple(names.split()), reason, neutral if strict else (*neutral, *NOTHING), forms)


_NO_BEAMS = "there is no beam search; use 'n' and choose among the answers"
_NO_GRAMMAR = (
    "the text cannot be forced into a grammar; describe the form in the prompt, and check the answer"
)
_NO_BANS = "tokens are banned by 'logit_bias' with -100 only"
_NO_TENSORS = "the answer has texts and log-probabilities only; 'details' has the tokens"
_NO_SUCH_SAMPLING = "use 'top_k', 'top_p', 'min_p' or 'typical_p'"
_TEXT_ONLY = "this model reads and writes text only"

REFUSALS: tuple[Refusal, ...] = (
    refuse("best_of", "use 'n' and choose among the answers", 1, 0),
    refuse("num_beams", _NO_BEAMS, 1, 0),
    refuse("num_beam_groups", _NO_BEAMS, 1, 0),
    refuse("use_beam_search early_stopping constraints force_words_ids", _NO_BEAMS),
    refuse("length_penalty", _NO_BEAMS, 1),
    refuse("diversity_penalty", _NO_BEAMS, 0),
    refuse(
        "no_repeat_ngram_size encoder_no_repeat_ngram_size",
        "use 'repetition_penalty', 'presence_penalty' or 'frequency_penalty'",
        0,
    ),
    refuse("encoder_repetition_penalty", "use 'repetition_penalty'", 1),
    refuse("repetition_detection", "use 'repetition_penalty' or 'stop'"),
    refuse("bad_words bad_words_ids suppress_tokens begin_suppress_tokens sequence_bias", _NO_BANS),
    refuse("allowed_token_ids", _NO_BANS),
    refuse("eos_token_id", "use 'stop_token_ids'; the model's own end-of-sequence tokens stay"),
    refuse("forced_bos_token_id forced_eos_token_id decoder_start_token_id", "no token can be forced"),
    refuse("max_length", "it counts the prompt, too; use 'max_new_tokens'"),
    refuse("min_length", "it counts the prompt, too; use 'min_new_tokens'", 0),
    refuse("max_time", "the endpoint has a deadline for every call (deadline_s of its preset)"),
    refuse("exponential_decay_length_penalty", "use 'max_new_tokens'"),
    refuse("penalty_alpha epsilon_cutoff eta_cutoff", _NO_SUCH_SAMPLING, 0),
    refuse("dola_layers", _NO_SUCH_SAMPLING),
    refuse("guidance_scale", "a prompt has one run of the model only", 1),
    refuse("renormalize_logits token_healing logits_processors", _NO_SUCH_SAMPLING),
    refuse("watermark watermarking watermarking_config", "the text has no watermark"),
    refuse("grammar guided_json guided_regex guided_choice guided_grammar", _NO_GRAMMAR),
    refuse("guided_decoding_backend guided_whitespace_pattern", _NO_GRAMMAR),
    refuse("structured_outputs structural_tag", _NO_GRAMMAR),
    refuse("response_format", _NO_GRAMMAR, {"type": "text"}),
    refuse(
        "adapter_id adapters", "the endpoint has one model; deploy a package with the adapter merged into it"
    ),
    refuse("reasoning_effort", "give what the chat template has in 'chat_template_kwargs'", "none"),
    refuse("thinking_token_budget", "use 'max_new_tokens'", -1),
    refuse("include_reasoning", "the answer is the whole text, reasoning included", True, strict=True),
    refuse("verbosity", "say it in the prompt", "medium"),
    refuse("audio", _TEXT_ONLY),
    refuse("modalities", _TEXT_ONLY, ["text"]),
    refuse("media_io_kwargs mm_processor_kwargs", _TEXT_ONLY),
    refuse("web_search_options moderation", "there is nothing here but the model"),
    refuse("documents", "put them into the messages"),
    refuse("functions", "use 'tools'"),
    refuse("function_call", "a call cannot be forced", "none", "auto"),
    refuse("suffix", "the model continues a text; it cannot fill a gap"),
    refuse("prefix", "put it at the beginning of the prompt"),
    refuse("handle_long_generation", "use 'truncate' or 'overflow'"),
    refuse("truncation_side", "'truncate' keeps the end of the prompt", "left"),
    refuse("skip_special_tokens", "special tokens have no text; 'details' has them", True, strict=True),
    refuse("spaces_between_special_tokens return_text", "the text is as it is", True, strict=True),
    refuse(
        "add_special_tokens",
        "the tokenizer's own special tokens are always added to a text",
        True,
        forms=("tgi", "completion"),
        strict=True,
    ),
    refuse(
        "add_special_tokens",
        "the chat template adds the special tokens of a chat",
        False,
        forms=("chat",),
        strict=True,
    ),
    refuse("chat_template", "the model's own chat template is used"),
    refuse("tool_prompt guideline", "describe it in the messages"),
    refuse("clean_up_tokenization_spaces return_tensors return_dict_in_generate", _NO_TENSORS),
    refuse("output_scores output_logits output_attentions output_hidden_states", _NO_TENSORS),
    refuse("prompt_logprobs logprob_token_ids", "log-probabilities are those of new tokens only"),
    refuse("prompt_embeds", "send a text"),
    refuse("echo", "a chat has its new turn only", forms=("chat",)),
    refuse("return_tokens_as_token_ids return_token_ids", "with 'inputs', 'details' has the ids"),
    refuse("return_prompt_text", "with 'inputs', 'return_full_text' has the prompt"),
    refuse("priority", "calls are answered in the order of their arrival", 0),
    refuse("store", "nothing is stored"),
    refuse("kv_transfer_params ec_transfer_params vllm_xargs", "they are vLLM's own"),
)

#: Options without effect on the text: who calls, how fast, what is cached.
PASSED: tuple[str, ...] = (
    "assistant_confidence_threshold",
    "assistant_early_exit",
    "assistant_lookbehind",
    "bos_token_id",
    "cache_config",
    "cache_implementation",
    "cache_prompt",
    "cache_salt",
    "compile_config",
    "disable_compile",
    "low_memory",
    "max_matching_ngram_size",
    "metadata",
    "model",
    "num_assistant_tokens",
    "num_assistant_tokens_schedule",
    "options",
    "pad_token_id",
    "parallel_tool_calls",
    "prediction",
    "prefill_chunk_size",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "prompt_lookup_num_tokens",
    "remove_invalid_values",
    "request_id",
    "return_legacy_cache",
    "return_mm_kwargs",
    "return_token_offsets",
    "routed_experts_prompt_start",
    "safety_identifier",
    "service_tier",
    "session_id",
    "stream_interval",
    "synced_gpus",
    "target_lookbehind",
    "use_cache",
    "user",
)
