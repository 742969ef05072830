"""What is not known before a device is asked, as data."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from inf2kit import toml


@functools.cache
def questions() -> Mapping[str, str]:
    """Each question by its name."""
    values = toml.read(Path(__file__).with_name("questions.toml"))
    return MappingProxyType({name: str(value["question"]) for name, value in values.items()})
