"""Metric filters of CloudWatch Logs: patterns of lines, and the values that matching lines add.

A pattern has terms and phrases that must all be in a line, such as ``"the engine ended" code``. At least one
of the terms with ``?`` must be in it, and none of those with ``-``. Another kind of pattern compares fields
of a JSON line, such as ``{ $.inf2kit = "load" && $.texts > 4 }``.
"""

from __future__ import annotations

import fnmatch
import json
import operator
import re
from collections.abc import Callable
from typing import Any

from inf2kit.rehearsal.cloud.errors import AwsError

Matches = Callable[[str], bool]

_TERM = re.compile(r'([?-]?)(?:"((?:[^"\\]|\\.)+)"|([^\s"{}\[\]%()]+))(?=\s|$)')
_CONDITION = re.compile(r'\$\.([\w.-]+)\s*(!=|>=|<=|=|>|<)\s*(?:"([^"]*)"|([^\s"&|(){}]+))')
_FIELD = re.compile(r"\$\.([\w.-]+)")
_COMPARISONS = {
    "=": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}


def compile_pattern(pattern: str) -> Matches:
    """Compile a filter pattern to a predicate of log lines.

    Raises:
        AwsError: the pattern has syntax that is not simulated.
    """
    text = pattern.strip()
    if text.startswith("{") and text.endswith("}"):
        return _compile_fields(text[1:-1])
    return _compile_terms(text)


def metric_value(line: str, value: str) -> float | None:
    """The number that a matching line adds to its metric; None if it has no number.

    Args:
        line: The log line.
        value: The filter's MetricValue: a number, or a field of the line such as ``$.queued``.
    """
    field = _FIELD.fullmatch(value.strip())
    number = _json_field(line, field[1]) if field else value
    try:
        return None if isinstance(number, bool) else float(number)
    except (TypeError, ValueError):
        return None


def _compile_terms(text: str) -> Matches:
    terms = []
    rest = text
    while rest:
        match = _TERM.match(rest)
        if match is None:
            raise _unsupported(text)
        sign, phrase, term = match.groups()
        terms.append((sign, re.sub(r"\\(.)", r"\1", phrase) if phrase else term))
        rest = rest[match.end() :].lstrip()
    every = [term for sign, term in terms if sign == ""]
    some = [term for sign, term in terms if sign == "?"]
    none = [term for sign, term in terms if sign == "-"]
    return lambda line: (
        all(term in line for term in every)
        and (not some or any(term in line for term in some))
        and not any(term in line for term in none)
    )


def _compile_fields(text: str) -> Matches:
    alternatives = [
        [_compile_condition(condition, text) for condition in alternative.split("&&")]
        for alternative in text.split("||")
    ]
    return lambda line: any(all(holds(line) for holds in conditions) for conditions in alternatives)


def _compile_condition(text: str, pattern: str) -> Matches:
    match = _CONDITION.fullmatch(text.strip())
    if match is None:
        raise _unsupported(pattern)
    name, operator_, quoted, plain = match.groups()
    number = None if quoted is not None else metric_value("", plain)
    if number is None and operator_ not in ("=", "!="):
        raise _unsupported(pattern)
    # The only wildcard of a filter pattern is the asterisk.
    wildcard = re.sub(r"([\[\]?])", r"[\1]", quoted if quoted is not None else plain)

    def holds(line: str) -> bool:
        value = _json_field(line, name)
        if value is None:
            return False
        if number is not None:
            actual = None if isinstance(value, str) else metric_value("", str(value))
            return actual is not None and bool(_COMPARISONS[operator_](actual, number))
        shown = value if isinstance(value, str) else json.dumps(value)
        return fnmatch.fnmatchcase(shown, wildcard) == (operator_ == "=")

    return holds


def _json_field(line: str, name: str) -> Any:
    """A field of a line that is a JSON object; None if there is none."""
    try:
        value = json.loads(line)
        for part in name.split("."):
            value = value[part]
    except (ValueError, LookupError, TypeError):
        return None
    return value


def _unsupported(pattern: str) -> AwsError:
    return AwsError(
        "InvalidParameterException", f"The filter pattern {pattern!r} is not read in this rehearsal."
    )
