"""TOML files: Python 3.11 reads them, and nothing in the standard library writes them."""

from __future__ import annotations

import datetime as dt
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TOMLDecodeError = tomllib.TOMLDecodeError
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def read(path: Path) -> dict[str, Any]:
    """Read a file.

    Raises:
        TOMLDecodeError: it is not TOML.
    """
    return tomllib.loads(path.read_text(encoding="utf-8"))


def dumps(values: Mapping[str, object]) -> str:
    """Write values and one level of tables. A value is a text, number, boolean, date or list of these."""
    lines = [_line(key, value) for key, value in values.items() if not isinstance(value, Mapping)]
    for name, table in values.items():
        if isinstance(table, Mapping):
            lines += ["", f"[{_key(name)}]", *(_line(key, value) for key, value in table.items())]
    return "\n".join(lines).lstrip("\n") + "\n"


def _line(key: str, value: object) -> str:
    return f"{_key(key)} = {_value(value)}"


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _text(key)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return _text(str(value))


def _text(text: str) -> str:
    # A JSON string is a TOML string, except that JSON does not escape the control character DEL.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
