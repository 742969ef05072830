"""Generation parameters: their names, ranges and defaults, in one table."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal

from inf2kit.errors import RequestError

#: New tokens of a call that does not say; Text Generation Inference's default.
DEFAULT_MAX_NEW_TOKENS = 100
MAX_STOP_STRINGS = 16
MAX_SEED = 2**63 - 1
#: Under this temperature a division of float32 logits overflows, and the choice is the best token anyway.
GREEDY_BELOW = 1e-5
#: More makes no difference, as every token is as likely as any other; but float32 would call it infinite.
MAX_TEMPERATURE = 1e30
#: Beyond these float32 logits overflow; useful values lie near 1.
PENALTY_RANGE = (0.01, 100.0)

#: OpenAI's names for what has another name here.
OPENAI_ALIASES = {"max_tokens": "max_new_tokens", "max_completion_tokens": "max_new_tokens"}


@dataclass(frozen=True)
class Parameters:
    """How to generate.

    Attributes:
        max_new_tokens: Upper bound of new tokens; None means as many as the row holds.
        min_new_tokens: The end-of-sequence token is not chosen before so many new tokens.
        ignore_eos: Go on after the end-of-sequence token: benchmarks need forced lengths.
        do_sample: Multinomial sampling rather than greedy search. Where a call does not say, giving a
            temperature, top_k or top_p means sampling.
        temperature: Divides the logits before sampling; 0 means greedy.
        top_k: Sample among so many best tokens; 0 means all.
        top_p: Sample among the best tokens whose probabilities sum to this.
        repetition_penalty: Above 1, tokens already seen become less likely.
        seed: Of this call's random numbers. The same request with the same seed gives the same text.
        overflow: What happens when the row is full: ``stop``, or ``sinks``: go on with the first and the
            most recent tokens only, and ``max_new_tokens`` is not lowered to what the row holds.
        stop: Texts that end the generation.
        include_stop_str_in_output: Keep the stop text that was met.
        return_full_text: Put the prompt before the new text. Defaults to false, as in Text Generation
            Inference (a transformers pipeline defaults to true).
        details: Add tokens, counts and the finish reason to the answer.
    """

    max_new_tokens: int | None = DEFAULT_MAX_NEW_TOKENS
    min_new_tokens: int = 0
    ignore_eos: bool = False
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    overflow: Literal["stop", "sinks"] = "stop"
    stop: tuple[str, ...] = ()
    include_stop_str_in_output: bool = False
    return_full_text: bool = False
    details: bool = False


_MAX_WARNINGS = 8
_SHOWN = 40
_NAMES = tuple(field.name for field in fields(Parameters))
#: Every name that a request may call a parameter by.
PARAMETER_NAMES = (*_NAMES, "stop_sequences")
_FLAGS = ("ignore_eos", "do_sample", "include_stop_str_in_output", "return_full_text", "details")


def parse_parameters(given: Mapping[str, object], *, chat: bool = False) -> tuple[Parameters, list[str]]:
    """Validated parameters, and a warning for each one that is unknown or has no effect.

    Args:
        given: The ``parameters`` object of a request. A null counts as not given.
        chat: Whether it is a chat, whose default length is the room in the row, as OpenAI's is.

    Raises:
        RequestError: 422 ``invalid_parameter`` naming the key, its value and what is allowed.
    """
    values = {str(key): value for key, value in given.items() if value is not None}
    unknown = [key for key in values if key not in _NAMES and key != "stop_sequences"]
    warnings = ignored(unknown, lambda key: f"unknown parameter {key!r} was ignored{nearest([key], *_NAMES)}")
    known: dict[str, object] = {name: _flag(values, name) for name in _FLAGS if name in values}
    if chat:
        known["max_new_tokens"] = None
    for name, low, high in (("max_new_tokens", 1, None), ("min_new_tokens", 0, None), ("top_k", 0, None)):
        if name in values:
            known[name] = _integer(values, name, low, high)
    if "seed" in values:
        known["seed"] = _integer(values, "seed", 0, MAX_SEED)
    if "temperature" in values:
        known["temperature"] = min(_number(values, "temperature", 0.0, None), MAX_TEMPERATURE)
    if "top_p" in values:
        known["top_p"] = _number(values, "top_p", 0.0, 1.0, above_low=True)
    if "repetition_penalty" in values:
        known["repetition_penalty"] = _number(values, "repetition_penalty", *PENALTY_RANGE)
    if "overflow" in values:
        if values["overflow"] not in ("stop", "sinks"):
            raise invalid("overflow", values["overflow"], "'stop' or 'sinks'")
        known["overflow"] = values["overflow"]
    if "stop" in values or "stop_sequences" in values:
        known["stop"] = _stop_strings(values)

    sampling = [name for name in ("temperature", "top_k", "top_p") if name in values]
    if "temperature" in known and values["temperature"] < GREEDY_BELOW:  # type: ignore[operator]
        known["do_sample"], known["temperature"] = False, 1.0
    elif known.get("do_sample") is False and sampling:
        warnings.append(f"do_sample is false, so {' and '.join(sampling)} had no effect")
    elif sampling:
        known.setdefault("do_sample", True)
    return Parameters(**known), warnings  # type: ignore[arg-type]


def ignored(keys: Sequence[str], sentence: Callable[[str], str]) -> list[str]:
    """A warning for each ignored key, cut short where a body is full of them: they go into every answer."""
    warnings = [sentence(key if len(key) <= _SHOWN else key[:_SHOWN] + "...") for key in keys[:_MAX_WARNINGS]]
    if len(keys) > _MAX_WARNINGS:
        warnings.append(f"{len(keys) - _MAX_WARNINGS} more unknown keys were ignored")
    return warnings


def nearest(given: Iterable[str], *known: str) -> str:
    """``; did you mean 'x'?`` for the closest spelling among the known names, or nothing."""
    for word in given:
        close = difflib.get_close_matches(word, known, n=1)
        if close:
            return f"; did you mean {close[0]!r}?"
    return ""


def invalid(name: str, value: object, allowed: str) -> RequestError:
    """A 422 that names the key, the value and what is allowed."""
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return RequestError(422, "invalid_parameter", f"'{name}' is {shown}; it must be {allowed}")


def _flag(values: Mapping[str, object], name: str) -> bool:
    value = values[name]
    if not isinstance(value, bool):
        raise invalid(name, value, "true or false")
    return value


def _integer(values: Mapping[str, object], name: str, low: int, high: int | None) -> int:
    value = values[name]
    allowed = f"a whole number of at least {low}" + (f" and at most {high}" if high is not None else "")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise invalid(name, value, allowed)
    if value < low or (high is not None and value > high):
        raise invalid(name, value, allowed)
    return value


def _number(
    values: Mapping[str, object], name: str, low: float, high: float | None, *, above_low: bool = False
) -> float:
    value = values[name]
    allowed = f"a number {'above' if above_low else 'of at least'} {low:g}"
    allowed += f" and at most {high:g}" if high is not None else ""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise invalid(name, value, allowed)
    try:
        number = float(value)
    except OverflowError:
        raise invalid(name, value, allowed) from None
    too_low = number <= low if above_low else number < low
    if not math.isfinite(number) or too_low or (high is not None and number > high):
        raise invalid(name, value, allowed)
    return number


def _stop_strings(values: Mapping[str, object]) -> tuple[str, ...]:
    name = "stop" if "stop" in values else "stop_sequences"
    value = values[name]
    texts = [value] if isinstance(value, str) else value
    allowed = f"a text, or a list of at most {MAX_STOP_STRINGS} texts, none of them empty"
    if not isinstance(texts, list) or len(texts) > MAX_STOP_STRINGS:
        raise invalid(name, value, allowed)
    if not all(isinstance(text, str) and text for text in texts):
        raise invalid(name, value, allowed)
    return tuple(texts)
