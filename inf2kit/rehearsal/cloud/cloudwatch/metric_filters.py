"""Metric filters of CloudWatch Logs: which lines count, and with what value.

Patterns are terms and phrases that must all be in a line, such as ``"the engine ended" code``; ``?`` before a
term means any of those, ``-`` none. Or they compare the fields of a JSON line, as in
``{ $.inf2kit = "load" && $.texts > 4 }``.
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
_NUMBERS = {
    "=": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}


def matcher(pattern: str) -> Matches:
    """What tells whether a line matches a pattern.

    Raises:
        AwsError: the pattern has what is not read here.
    """
    text = pattern.strip()
    return _of_fields(text[1:-1]) if text.startswith("{") and text.endswith("}") else _of_terms(text)


def value_of(line: str, value: str) -> float | None:
    """The number that a matching line adds to its metric; None where it has none.

    Args:
        line: Of the log.
        value: The filter's MetricValue: a number, or a field of the line such as ``$.queued``.
    """
    field = _FIELD.fullmatch(value.strip())
    number = _field_of(line, field[1]) if field else value
    try:
        return None if isinstance(number, bool) else float(number)
    except (TypeError, ValueError):
        return None


def _of_terms(text: str) -> Matches:
    position, terms = 0, []
    while position < len(text):
        found = _TERM.match(text, position)
        if found is None:
            raise _not_read(text)
        terms.append((found[1], re.sub(r"\\(.)", r"\1", found[2]) if found[2] else found[3]))
        position = found.end() + len(text[found.end() :]) - len(text[found.end() :].lstrip())
    every = [term for sign, term in terms if sign == ""]
    some = [term for sign, term in terms if sign == "?"]
    none = [term for sign, term in terms if sign == "-"]
    return lambda line: (
        all(term in line for term in every)
        and (not some or any(term in line for term in some))
        and not any(term in line for term in none)
    )


def _of_fields(text: str) -> Matches:
    either = [[_condition(each, text) for each in part.split("&&")] for part in text.split("||")]
    return lambda line: any(all(holds(line) for holds in conditions) for conditions in either)


def _condition(text: str, pattern: str) -> Matches:
    found = _CONDITION.fullmatch(text.strip())
    if found is None:
        raise _not_read(pattern)
    name, sign, quoted, plain = found.groups()
    number = None if quoted is not None else value_of("", plain)
    if number is None and sign not in ("=", "!="):
        raise _not_read(pattern)

    def holds(line: str) -> bool:
        value = _field_of(line, name)
        if value is None:
            return False
        if number is not None:
            own = None if isinstance(value, str) else value_of("", str(value))
            return own is not None and bool(_NUMBERS[sign](own, number))
        shown = value if isinstance(value, str) else json.dumps(value)
        same = fnmatch.fnmatchcase(
            shown, re.sub(r"([\[\]?])", r"[\1]", quoted if quoted is not None else plain)
        )
        return same == (sign == "=")

    return holds


def _field_of(line: str, name: str) -> Any:
    """A field of a line that is a JSON object, or None."""
    try:
        value = json.loads(line)
        for part in name.split("."):
            value = value[part]
    except (ValueError, LookupError, TypeError):
        return None
    return value


def _not_read(pattern: str) -> AwsError:
    return AwsError(
        "InvalidParameterException", f"The filter pattern {pattern!r} is not read in this rehearsal."
    )
