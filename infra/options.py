"""Parsing of option values: the command line gives texts, ``cdk.json`` gives JSON."""

from __future__ import annotations

import json
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from inf2kit.cdk import EndpointProps
from inf2kit.errors import DeploymentError, suggest

#: Context keys of the app that are not endpoint props.
APP_KEYS = ("package", "manifest", "preset", "compile_output", "compile_token_secret")
#: The type of every option, by name.
_TYPES = {
    name: hint
    for name, hint in typing.get_type_hints(EndpointProps).items()
    if name not in ("preset", "package")
}
#: The names of all options, which are endpoint props.
OPTIONS = tuple(_TYPES)
#: Options whose default is computed. 0 stands for the default in the props, and is refused here.
_COMPUTED = ("target_concurrency", "startup_timeout_s", "download_timeout_s", "volume_gb")
_ALLOWED = {bool: "true or false", int: "a whole number", float: "a number"}


def parse_options(
    values: Mapping[str, Any], *, where: str = "", presets: Sequence[str] = ()
) -> dict[str, Any]:
    """Parse endpoint props.

    Args:
        values: The options by name; None stands for an option that is not set.
        where: The start of error messages.
        presets: The presets' names, which an unknown option may be a misspelling of.

    Raises:
        DeploymentError: an option is unknown, or its value has the wrong type.
    """
    options = {}
    for name, value in values.items():
        if name not in _TYPES:
            known = (*APP_KEYS, *_TYPES)
            spelling = name.lower().replace("-", "_")
            close = suggest(spelling, known) or suggest(name, presets) or ";"
            raise DeploymentError(f"{where}unknown context {name!r}{close} there are {', '.join(known)}")
        if value is None:
            continue
        try:
            options[name] = _parse_value(_TYPES[name], value)
        except (ValueError, TypeError, OverflowError):
            allowed = _ALLOWED.get(_TYPES[name], "NAME=VALUE,NAME=VALUE")
            raise DeploymentError(f"{where}{name} is {value!r}; it must be {allowed}") from None
        if name in _COMPUTED and not options[name]:
            raise DeploymentError(f"{where}{name} is {value!r}; leave it out, and it fits the model")
    return options


def parse_object(name: str, value: Any) -> Mapping[str, Any]:
    """Parse the options of one preset: an object in ``cdk.json``, JSON on the command line.

    Raises:
        DeploymentError: it is not an object.
    """
    try:
        value = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        value = None
    if not isinstance(value, Mapping):
        raise DeploymentError(
            f'context {name!r} must be an object of options, such as {{"max_instances": 2}}'
        )
    return value


def split_list(value: Any) -> list[str]:
    """The items of a list: separated by commas on the command line, an array in ``cdk.json``."""
    if value is None:
        return []
    items = value.split(",") if isinstance(value, str) else value
    return [str(item).strip() for item in items if str(item).strip()]


def _parse_value(hint: Any, value: Any) -> Any:
    if hint is bool:
        return _parse_bool(value)
    if hint in (int, float):
        return _parse_number(hint, value)
    if hint is str:
        return str(value)
    if typing.get_origin(hint) is tuple:
        return tuple(split_list(value))
    if isinstance(value, Mapping):
        return {str(name): str(item) for name, item in value.items()}
    return dict(_parse_assignment(text) for text in split_list(value))


def _parse_bool(value: object) -> bool:
    text = str(value).lower()
    if text not in ("true", "false"):
        raise ValueError(value)
    return text == "true"


def _parse_number(kind: type[int] | type[float], value: Any) -> float:
    number = float(value)
    if isinstance(value, bool) or number != kind(number):
        raise ValueError(value)
    return kind(number)


def _parse_assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(text)
    return name, value
