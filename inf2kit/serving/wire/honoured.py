"""The options that are honoured, with every name that clients have for them."""

from __future__ import annotations

from inf2kit.serving.wire.chat import TemplateOptions, Tools
from inf2kit.serving.wire.option import NOTHING, Option
from inf2kit.serving.wire.values import (
    Biases,
    Choice,
    Flag,
    Number,
    StreamOptions,
    Texts,
    TokenIds,
    Whole,
)

#: At this temperature all tokens are equally likely; higher values would be infinite in float32.
_MAX_TEMPERATURE = 1e30
#: Outside this range float32 logits overflow; useful values are near 1.
_PENALTY_RANGE = (0.01, 100.0)
#: Seeds are 64-bit integers, as OpenAI's are.
_MIN_SEED, _MAX_SEED = -(2**63), 2**63 - 1
MAX_TOP_TOKENS = 20


OPTIONS: tuple[Option, ...] = (
    Option(
        "max_new_tokens",
        Whole(1),
        "At most this many new tokens; lowered to what the row holds, with a warning. Default: 100 for "
        "`inputs`, 16 for `prompt`, up to the row's end for `messages`",
        tgi="max_new_tokens",
        openai="max_completion_tokens",
        others=("max_tokens",),
    ),
    Option(
        "min_new_tokens",
        Whole(0),
        "The end-of-sequence token is not chosen before this many new tokens. Default: 0",
        others=("min_tokens",),
    ),
    Option(
        "ignore_eos",
        Flag(),
        "Goes on after the end-of-sequence token, for fixed lengths. Default: false",
        others=("ignore_eos_token",),
    ),
    Option(
        "do_sample",
        Flag(),
        "Samples. Default: true if the request has a temperature, `top_k`, `top_p`, `min_p` or `typical_p`, "
        "else false: the best token",
        tgi="do_sample",
    ),
    Option(
        "temperature",
        Number(0.0, most=_MAX_TEMPERATURE),
        "Divides the logits; 0 is greedy search. Default: 1",
        tgi="temperature",
        openai="temperature",
    ),
    Option(
        "top_k",
        Whole(0, special={-1: 0}),
        "Samples from this many best tokens; 0 and -1 are all. Default: all",
        tgi="top_k",
    ),
    Option(
        "top_p",
        Number(0.0, 1.0),
        "Samples from the best tokens whose probabilities sum to this; 0 is the best token. Default: 1",
        tgi="top_p",
        openai="top_p",
    ),
    Option(
        "min_p",
        Number(0.0, 1.0),
        "Samples from the tokens that are at least this share as likely as the best one. Default: 0, all",
    ),
    Option(
        "typical_p",
        Number(0.0, 1.0, above=True),
        "Samples from the tokens of typical surprise whose probabilities sum to this. Default: 1, all",
        tgi="typical_p",
    ),
    Option(
        "repetition_penalty",
        Number(*_PENALTY_RANGE),
        "Above 1, tokens of the prompt and of the new text become less likely. Default: 1",
        tgi="repetition_penalty",
    ),
    Option(
        "presence_penalty",
        Number(-2.0, 2.0),
        "Is subtracted from the logit of each token of the new text. Default: 0",
        openai="presence_penalty",
    ),
    Option(
        "frequency_penalty",
        Number(-2.0, 2.0),
        "Is subtracted from the logit of each token of the new text, once per occurrence, as OpenAI defines "
        "it. Default: 0",
        tgi="frequency_penalty",
        openai="frequency_penalty",
    ),
    Option(
        "logit_bias",
        Biases(),
        "Token ids and what is added to their logits, before everything else",
        openai="logit_bias",
    ),
    Option(
        "seed",
        Whole(_MIN_SEED, _MAX_SEED, special={-1: None}),
        "The same request with the same seed gives the same text. Default, and -1: drawn at random, and "
        "returned in `details`",
        tgi="seed",
        openai="seed",
        others=("random_seed",),
    ),
    Option(
        "stop",
        Texts(),
        "A text or up to 16 texts that end the generation, special tokens included. They are left out, which "
        "differs from Text Generation Inference",
        tgi="stop",
        openai="stop",
        others=("stop_sequences", "stop_strings"),
    ),
    Option(
        "stop_token_ids",
        TokenIds(),
        "Token ids that end the generation, also with `ignore_eos`",
    ),
    Option(
        "include_stop_str_in_output",
        Flag(),
        "Keeps the stop text at the end. Default: false",
    ),
    Option(
        "truncate",
        Whole(1),
        "Keeps only this many tokens of the prompt, the last ones. Default: all; 422 if they are too many",
        tgi="truncate",
        others=("truncate_prompt_tokens",),
    ),
    Option(
        "n",
        Whole(1),
        "Answers to each prompt: all to the first, then all to the second. The first has the request's seed, "
        "the others the seeds after it. A stream of `inputs` has one. Default: 1",
        openai="n",
        others=("num_return_sequences",),
    ),
    Option(
        "overflow",
        Choice({"stop": "stop", "sinks": "sinks"}),
        "`sinks`: a full row continues, see below. Default: `stop`",
    ),
    Option(
        "return_full_text",
        Flag(),
        "Puts the prompt before the new text; for texts, not for chats. Default: false, which differs from a "
        "transformers pipeline",
        tgi="return_full_text",
        forms=("tgi",),
        neutral=(False,),
        elsewhere="use 'echo' with 'prompt'; a chat has its new turn only",
    ),
    Option(
        "echo",
        Flag(),
        "Puts the prompt before the new text; not in a stream, and not with `logprobs`. Default: false",
        openai="echo",
        others=("return_full_text",),
        forms=("completion",),
        field="return_full_text",
        neutral=(False,),
        elsewhere="with 'inputs' use 'return_full_text'; a chat has its new turn only",
    ),
    Option(
        "details",
        Choice({True: "tokens", False: "none", "counts": "counts"}),
        'true: counts, finish reason, seed, and every token with its log-probability; `"counts"`: without '
        "the tokens, which is cheaper. Default: false",
        tgi="details",
        forms=("tgi",),
        neutral=(False,),
        elsewhere="OpenAI's answers have their counts in 'usage', and tokens with 'logprobs'",
    ),
    Option(
        "decoder_input_details",
        Flag(),
        "Adds the prompt's tokens to `details`. Their log-probabilities are null, since a compiled graph "
        "gives the last one only. Not in a stream",
        tgi="decoder_input_details",
        forms=("tgi",),
        neutral=(False,),
        elsewhere="it works with 'inputs' only",
    ),
    Option(
        "top_n_tokens",
        Whole(0, MAX_TOP_TOKENS),
        "This many most likely tokens at every place, in `details.top_tokens`; implies `details`. Default: 0",
        tgi="top_n_tokens",
        forms=("tgi",),
        neutral=(0,),
        elsewhere="use OpenAI's 'logprobs' and 'top_logprobs'",
    ),
    Option(
        "logprobs",
        Flag(),
        "Adds every token's log-probability in the model's own distribution. Default: false",
        openai="logprobs",
        forms=("chat",),
        neutral=(False, 0),
        elsewhere="with 'inputs' use 'details'",
    ),
    Option(
        "top_logprobs",
        Whole(0, MAX_TOP_TOKENS),
        "This many most likely tokens at every place; it needs `logprobs`. Default: 0",
        openai="top_logprobs",
        others=("top_n_tokens",),
        forms=("chat",),
        field="top_n_tokens",
        neutral=(0,),
        elsewhere="with 'prompt' use 'logprobs', with 'inputs' use 'top_n_tokens'",
    ),
    Option(
        "logprobs",
        Whole(0, MAX_TOP_TOKENS),
        "Adds every token's log-probability, and this many most likely tokens. Default: none",
        openai="logprobs",
        forms=("completion",),
        neutral=(False,),
        elsewhere="with 'inputs' use 'details'",
    ),
    Option(
        "stream",
        Flag(),
        "Answers with server-sent events. Default: false",
        tgi="stream",
        openai="stream",
    ),
    Option(
        "stream_options",
        StreamOptions(),
        "With `include_usage`, a stream ends with a chunk of token counts, and with vLLM's "
        "`continuous_usage_stats` too, every chunk has those so far. One of `inputs` always ends with them",
        openai="stream_options",
        field="usage",
        neutral=NOTHING,
    ),
    Option(
        "tools",
        Tools(),
        "Go to the chat template. Calls in the answer are not parsed: they are part of its text",
        openai="tools",
        forms=("tgi", "chat"),
        neutral=NOTHING,
        elsewhere="send a chat",
    ),
    Option(
        "tool_choice",
        Choice({"none": "none", "auto": "auto"}, ": no call can be forced"),
        "The model decides whether it calls a tool",
        openai="tool_choice",
        forms=("tgi", "chat"),
        neutral=("none", "auto"),
        elsewhere="send a chat",
    ),
    Option(
        "add_generation_prompt",
        Flag(),
        "Whether a chat's prompt ends with the beginning of a new turn. Default: true",
        forms=("tgi", "chat"),
        neutral=(True,),
        elsewhere="send a chat",
    ),
    Option(
        "continue_final_message",
        Flag(),
        "The answer continues a chat's last message rather than begins a turn. Default: false",
        forms=("tgi", "chat"),
        neutral=(False,),
        elsewhere="send a chat",
    ),
    Option(
        "chat_template_kwargs",
        TemplateOptions(),
        "Variables of the chat template, such as `enable_thinking`",
        field="template_options",
        forms=("tgi", "chat"),
        neutral=NOTHING,
        elsewhere="send a chat",
    ),
)
