"""Generation parameters, and how they are read from a request's keys."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Literal

from inf2kit.errors import suggest
from inf2kit.serving.wire.faults import Faults, shorten, show
from inf2kit.serving.wire.option import Form, Option, Refusal
from inf2kit.serving.wire.options import HONOURED, TABLES
from inf2kit.serving.wire.values import from_text

#: New tokens of a request without ``max_new_tokens``; Text Generation Inference's default.
DEFAULT_MAX_NEW_TOKENS = 100
#: Those of each form. OpenAI's completions have 16, and its chats go on to the row's end.
_DEFAULT_LENGTHS: dict[Form, int | None] = {"tgi": DEFAULT_MAX_NEW_TOKENS, "chat": None, "completion": 16}
#: Below this temperature the division of float32 logits overflows, and sampling equals greedy search anyway.
GREEDY_BELOW = 1e-5
_MAX_WARNINGS = 8
_UNKNOWN, _PASSED = "unknown", None
_MAX_SHOWN_KEY = 40
#: Parameters of sampling, and the values with which they do nothing.
_IDLE = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "typical_p": 1.0}
#: Those that ask for sampling with any value, as in Text Generation Inference.
_IMPLY_SAMPLING = frozenset(("temperature", "top_k", "top_p"))


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


_FIELDS = frozenset(field.name for field in fields(Parameters))


@dataclass
class Reading:
    """What a request's keys say.

    Attributes:
        values: Fields of ``Parameters``, of ``Chat`` and of the request, by name.
        keys: The key that each of them was sent as.
        warnings: A sentence for each thing that the answer has to say.
    """

    values: dict[str, object] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def read_options(pairs: Iterable[tuple[str, object]], form: Form, faults: Faults) -> Reading:
    """Read keys and values by the table of options. A null counts as not set.

    Args:
        pairs: Keys and values as they were sent, all of the request's own keys left out.
        form: Schema of the request.
        faults: Collects what is wrong.
    """
    table, reading = TABLES[form], Reading()
    values, keys = reading.values, reading.keys
    unknown: list[str] = []
    texts: list[str] = []
    for key, value in pairs:
        if value is None:
            continue
        entry = table.get(key, _UNKNOWN)
        if entry is _PASSED:
            continue
        plain = value
        if isinstance(value, str) and isinstance(entry, (Option, Refusal)) and not entry.takes_text(value):
            with contextlib.suppress(ValueError):
                plain = from_text(value)
            if plain is not value:
                texts.append(key)
            if plain is None:
                continue
        if isinstance(entry, Option):
            try:
                read = entry.kind.read(plain)
            except ValueError:
                if not entry.is_neutral(plain):
                    faults.add_value(key, value, entry.kind.allowed)
                continue
            target = entry.target
            if values.setdefault(target, read) != read:
                first = keys[target]
                same = f"'{key}' stands" if first == key else f"'{first}' and '{key}' mean the same and stand"
                faults.add(f"{same} in the body with two values; send one of them", param=key)
            keys[target] = key
        elif isinstance(entry, Refusal):
            if not entry.is_neutral(plain):
                faults.add(
                    f"'{key}' is {show(value)}, which this endpoint does not do: {entry.reason}", param=key
                )
        else:
            unknown.append(str(key))
    if texts:
        names = ", ".join(f"'{key}'" for key in texts[:_MAX_WARNINGS])
        reading.warnings.append(
            f"{names}: a text was taken for the value that it names; send it without quotes"
        )
    if unknown:
        reading.warnings += warn_of_unknown(unknown)
    return reading


def parse_parameters(raw: Mapping[str, object], *, form: Form = "tgi") -> tuple[Parameters, list[str]]:
    """Validate parameters alone, without a prompt.

    Args:
        raw: The ``parameters`` object of a request.
        form: Schema of the request, which has its own default length.

    Returns:
        The parameters and the warnings.

    Raises:
        RequestError: 422 naming every key that is wrong, its value and what is allowed.
    """
    faults = Faults()
    reading = read_options(raw.items(), form, faults)
    parameters = build_parameters(reading, form, faults)
    faults.raise_all()
    return parameters, reading.warnings


def build_parameters(reading: Reading, form: Form, faults: Faults) -> Parameters:
    """Return the parameters that values amount to together, and add warnings of those without effect."""
    values = {name: value for name, value in reading.values.items() if name in _FIELDS}
    values.setdefault("max_new_tokens", _DEFAULT_LENGTHS[form])
    shortest, longest = values.get("min_new_tokens", 0), values["max_new_tokens"]
    if isinstance(shortest, int) and isinstance(longest, int) and shortest > longest:
        reading.warnings.append(
            f"{reading.keys['min_new_tokens']} is more than max_new_tokens, so the text ends after {longest} "
            "tokens; raise max_new_tokens"
        )
    _settle_sampling(values, reading)
    top_n_tokens = values.get("top_n_tokens", 0)
    if form == "completion":
        # The number of top tokens turns the log-probabilities on, also if it is 0.
        if "logprobs" in values:
            values["top_n_tokens"], values["logprobs"] = values["logprobs"], True
            if values.get("return_full_text"):
                faults.add(
                    "'echo' has no log-probabilities of the prompt; leave 'logprobs' out", param="echo"
                )
    elif form == "chat" and top_n_tokens and not values.get("logprobs"):
        faults.add(f"'{reading.keys['top_n_tokens']}' needs 'logprobs': true", param="top_logprobs")
    elif form == "tgi" and (top_n_tokens or values.get("decoder_input_details")):
        if values.setdefault("details", "tokens") == "counts" and top_n_tokens:
            faults.add("'top_n_tokens' needs 'details': true", param="top_n_tokens")
        elif values["details"] == "none":
            values["details"] = "tokens"
    if values.get("decoder_input_details"):
        reading.warnings.append(
            "decoder_input_details: the log-probabilities of the prompt's tokens are null, since a compiled "
            "graph gives those of the last position only"
        )
    return Parameters(**values)  # type: ignore[arg-type]


def _settle_sampling(values: dict[str, object], reading: Reading) -> None:
    """Decide between sampling and greedy search."""
    temperature = values.get("temperature")
    if isinstance(temperature, float) and temperature < GREEDY_BELOW:
        values["do_sample"], values["temperature"] = False, 1.0
        values["top_p"] = values.get("top_p") or 1.0
    elif values.get("top_p") == 0:
        values["do_sample"], values["top_p"] = False, 1.0
    else:
        if values.get("do_sample") is False:
            vain = [reading.keys[name] for name, idle in _IDLE.items() if values.get(name, idle) != idle]
            if vain:
                reading.warnings.append(f"do_sample is false, so {' and '.join(vain)} had no effect")
        elif not _IMPLY_SAMPLING.isdisjoint(values) or any(
            values.get(name, idle) != idle for name, idle in _IDLE.items()
        ):
            values["do_sample"] = True
    if values.get("n", 1) != 1 and not values.get("do_sample"):
        reading.warnings.append(
            f"{reading.keys['n']} is {values['n']} and nothing is sampled, so these answers are the same; "
            "set a temperature"
        )


def warn_of_unknown(keys: Sequence[str]) -> list[str]:
    """Return a warning for each unknown key, at most eight, as warnings are part of every answer."""
    warnings = [_unknown(shorten(key, _MAX_SHOWN_KEY)) for key in keys[:_MAX_WARNINGS]]
    if len(keys) > _MAX_WARNINGS:
        warnings.append(f"{len(keys) - _MAX_WARNINGS} more unknown keys were ignored")
    return warnings


@lru_cache(maxsize=256)
def _unknown(key: str) -> str:
    return f"unknown key {key!r} was ignored{suggest(key, HONOURED)}"
