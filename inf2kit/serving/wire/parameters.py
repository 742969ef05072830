"""Generation parameters: their names, ranges and defaults."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal

from inf2kit.errors import RequestError, suggest

#: New tokens of a request without ``max_new_tokens``; Text Generation Inference's default.
DEFAULT_MAX_NEW_TOKENS = 100
MAX_STOP_STRINGS = 16
MAX_SEED = 2**63 - 1
#: Below this temperature the division of float32 logits overflows, and sampling equals greedy search anyway.
GREEDY_BELOW = 1e-5
#: At this temperature all tokens are equally likely; higher values would be infinite in float32.
MAX_TEMPERATURE = 1e30
#: Outside this range float32 logits overflow; useful values are near 1.
PENALTY_RANGE = (0.01, 100.0)

#: OpenAI's names of parameters that have another name here.
OPENAI_ALIASES = {"max_tokens": "max_new_tokens", "max_completion_tokens": "max_new_tokens"}


@dataclass(frozen=True)
class Parameters:
    """How to generate.

    Attributes:
        max_new_tokens: Upper bound of new tokens; None means as many as the row holds.
        min_new_tokens: Lower bound: the end-of-sequence token is not chosen before it.
        ignore_eos: Continue after the end-of-sequence token; benchmarks need fixed lengths.
        do_sample: Sample rather than take the best token. Without it, a request samples if it has a
            temperature, top_k or top_p.
        temperature: Divides the logits before sampling; 0 means greedy search.
        top_k: Number of best tokens to sample from; 0 means all.
        top_p: Sample from the best tokens whose probabilities sum to this.
        min_p: Sample from the tokens that are at least this share as likely as the best one; 0 means all.
        typical_p: Sample from the tokens whose surprise is closest to the expected one, and whose
            probabilities sum to this; 1 means all.
        repetition_penalty: Above 1, tokens of the prompt and of the new text become less likely.
        presence_penalty: Subtracted from the logit of each token of the new text, as OpenAI defines it.
        frequency_penalty: Subtracted from the logit of each token of the new text once per occurrence.
        logit_bias: Token ids and what is added to their logits, before everything else.
        seed: Seed of the request's random numbers. The same request with the same seed gives the same text.
        overflow: What happens when the row is full. ``stop`` ends the text; ``sinks`` continues with the
            first and the most recent tokens only, and ``max_new_tokens`` is not limited by the row.
        stop: Texts that end the generation.
        stop_token_ids: Token ids that end the generation, besides the model's own end-of-sequence tokens and
            also with ``ignore_eos``.
        truncate: Keep only this many tokens of the prompt, the last ones; None keeps all.
        n: Number of answers to each prompt. The first has the request's seed, the others the seeds after it.
        include_stop_str_in_output: Keep the stop text at the end of the new text.
        return_full_text: Put the prompt before the new text. Defaults to false, as in Text Generation
            Inference (a transformers pipeline defaults to true).
        details: What to add to the answer: nothing, the counts and the finish reason, or these and every
            token with its log-probability.
        logprobs: Add the tokens' log-probabilities to OpenAI's answers.
        top_n_tokens: Number of most likely tokens to add to each token that the answer lists.
        decoder_input_details: Add the prompt's tokens to the details.
    """

    max_new_tokens: int | None = DEFAULT_MAX_NEW_TOKENS
    min_new_tokens: int = 0
    ignore_eos: bool = False
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    seed: int | None = None
    overflow: Literal["stop", "sinks"] = "stop"
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    truncate: int | None = None
    n: int = 1
    include_stop_str_in_output: bool = False
    return_full_text: bool = False
    details: Literal["none", "counts", "tokens"] = "none"
    logprobs: bool = False
    top_n_tokens: int = 0
    decoder_input_details: bool = False

    @property
    def lists_tokens(self) -> bool:
        """Whether the answer lists every token with its log-probability."""
        return self.logprobs or self.details == "tokens"


_MAX_WARNINGS = 8
_MAX_SHOWN_KEY, _MAX_SHOWN_VALUE = 40, 60
_NAMES = tuple(field.name for field in fields(Parameters))
#: Every name of a parameter in a request.
PARAMETER_NAMES = (*_NAMES, "stop_sequences")
_FLAGS = ("ignore_eos", "do_sample", "include_stop_str_in_output", "return_full_text")


def parse_parameters(raw: Mapping[str, object], *, chat: bool = False) -> tuple[Parameters, list[str]]:
    """Validate parameters, and return a warning for each one that is unknown or has no effect.

    Args:
        raw: The ``parameters`` object of a request. A null counts as not set.
        chat: Whether the request is a chat. Its default length is the room in the row, as OpenAI's is.

    Raises:
        RequestError: 422 ``invalid_parameter`` naming the key, its value and what is allowed.
    """
    values = {str(key): value for key, value in raw.items() if value is not None}
    unknown = [key for key in values if key not in _NAMES and key != "stop_sequences"]
    warnings = warn_of_ignored(
        unknown, lambda key: f"unknown parameter {key!r} was ignored{suggest(key, _NAMES)}"
    )
    known: dict[str, object] = {name: parse_flag(values, name) for name in _FLAGS if name in values}
    if "details" in values:
        known["details"] = "tokens" if parse_flag(values, "details") else "none"
    if chat:
        known["max_new_tokens"] = None
    for name, low, high in (("max_new_tokens", 1, None), ("min_new_tokens", 0, None), ("top_k", 0, None)):
        if name in values:
            known[name] = _integer(values, name, low, high)
    if "seed" in values:
        known["seed"] = _integer(values, "seed", 0, MAX_SEED)
    temperature = None
    if "temperature" in values:
        temperature = known["temperature"] = min(_number(values, "temperature", 0.0, None), MAX_TEMPERATURE)
    if "top_p" in values:
        known["top_p"] = _number(values, "top_p", 0.0, 1.0, above_low=True)
    if "repetition_penalty" in values:
        known["repetition_penalty"] = _number(values, "repetition_penalty", *PENALTY_RANGE)
    if "overflow" in values:
        if values["overflow"] not in ("stop", "sinks"):
            raise invalid_parameter("overflow", values["overflow"], "'stop' or 'sinks'")
        known["overflow"] = values["overflow"]
    if "stop" in values or "stop_sequences" in values:
        known["stop"] = _stop_strings(values)

    sampling = [name for name in ("temperature", "top_k", "top_p") if name in values]
    if temperature is not None and temperature < GREEDY_BELOW:
        known["do_sample"], known["temperature"] = False, 1.0
    elif known.get("do_sample") is False and sampling:
        warnings.append(f"do_sample is false, so {' and '.join(sampling)} had no effect")
    elif sampling:
        known.setdefault("do_sample", True)
    return Parameters(**known), warnings  # type: ignore[arg-type]


def warn_of_ignored(keys: Sequence[str], message: Callable[[str], str]) -> list[str]:
    """Return a warning for each ignored key, at most eight, as warnings are part of every answer."""
    warnings = [message(_shorten(key, _MAX_SHOWN_KEY)) for key in keys[:_MAX_WARNINGS]]
    if len(keys) > _MAX_WARNINGS:
        warnings.append(f"{len(keys) - _MAX_WARNINGS} more unknown keys were ignored")
    return warnings


def invalid_parameter(name: str, value: object, allowed: str) -> RequestError:
    """Return a 422 that names the key, the value and what is allowed."""
    shown = _shorten(repr(value), _MAX_SHOWN_VALUE)
    return RequestError(422, "invalid_parameter", f"'{name}' is {shown}; it must be {allowed}")


def parse_flag(values: Mapping[str, object], name: str) -> bool:
    """Return a boolean; false where it is missing or null.

    Raises:
        RequestError: 422 ``invalid_parameter`` for any other value.
    """
    value = values.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise invalid_parameter(name, value, "true or false")
    return value


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else text[:length] + "..."


def _integer(values: Mapping[str, object], name: str, low: int, high: int | None) -> int:
    value = values[name]
    allowed = f"a whole number of at least {low}" + (f" and at most {high}" if high is not None else "")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise invalid_parameter(name, value, allowed)
    if value < low or (high is not None and value > high):
        raise invalid_parameter(name, value, allowed)
    return value


def _number(
    values: Mapping[str, object], name: str, low: float, high: float | None, *, above_low: bool = False
) -> float:
    value = values[name]
    allowed = f"a number {'above' if above_low else 'of at least'} {low:g}"
    allowed += f" and at most {high:g}" if high is not None else ""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise invalid_parameter(name, value, allowed)
    try:
        number = float(value)
    except OverflowError:
        raise invalid_parameter(name, value, allowed) from None
    too_low = number <= low if above_low else number < low
    if not math.isfinite(number) or too_low or (high is not None and number > high):
        raise invalid_parameter(name, value, allowed)
    return number


def _stop_strings(values: Mapping[str, object]) -> tuple[str, ...]:
    name = "stop" if "stop" in values else "stop_sequences"
    value = values[name]
    texts = [value] if isinstance(value, str) else value
    allowed = f"a text, or a list of at most {MAX_STOP_STRINGS} texts, none of them empty"
    if not isinstance(texts, list) or len(texts) > MAX_STOP_STRINGS:
        raise invalid_parameter(name, value, allowed)
    if not all(isinstance(text, str) and text for text in texts):
        raise invalid_parameter(name, value, allowed)
    return tuple(texts)
