"""Kinds of values: how an option's value is read, and what an error says is allowed."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

MAX_STOP_STRINGS = 16
#: Entries of ``logit_bias`` and of ``stop_token_ids``.
MAX_TOKEN_IDS = 1024
_MAX_TOKEN_ID = 2**31 - 1
#: A number as people write it. Longer texts are none that a parameter can use.
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_MAX_NUMBER = 40
#: A tuple, as it is much faster than ``int | float``.
_NUMBERS = (int, float)
_WORDS: dict[str, object] = {"true": True, "false": False, "null": None, "none": None}


class Kind(ABC):
    """A kind of values."""

    @property
    @abstractmethod
    def allowed(self) -> str:
        """What is allowed, as a part of a sentence."""

    @abstractmethod
    def read(self, value: object) -> object:
        """Return the value as the engine takes it.

        Raises:
            ValueError: it is not allowed.
        """

    def takes_text(self, text: str) -> bool:  # noqa: ARG002
        """Whether a text is a value, rather than one that a form has put between quotation marks."""
        return False


@dataclass(frozen=True)
class Flag(Kind):
    """True or false."""

    allowed = "true or false"

    def read(self, value: object) -> object:
        """Return a boolean."""
        if not isinstance(value, bool):
            raise ValueError
        return value


@dataclass(frozen=True)
class Whole(Kind):
    """A whole number.

    Attributes:
        low: The lowest one.
        high: The highest one, or None.
        special: Values outside of the range that stand for another, such as -1 for no limit.
    """

    low: int
    high: int | None = None
    special: dict[int, int | None] = field(default_factory=dict)

    @property
    def allowed(self) -> str:
        """What is allowed, as a part of a sentence."""
        limit = f" and at most {self.high}" if self.high is not None else ""
        special = "".join(f", or {value}" for value in self.special if value < self.low)
        return f"a whole number of at least {self.low}{limit}{special}"

    def read(self, value: object) -> object:
        """Return an integer, or what a special value stands for."""
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError
        if value in self.special:
            return self.special[value]
        if value < self.low or (self.high is not None and value > self.high):
            raise ValueError
        return value


@dataclass(frozen=True)
class Number(Kind):
    """A number.

    Attributes:
        low: The lowest one.
        high: The highest one, or None.
        most: What a higher number is lowered to.
        above: Whether the lowest one itself is not allowed.
    """

    low: float
    high: float | None = None
    most: float = math.inf
    above: bool = False

    @property
    def allowed(self) -> str:
        """What is allowed, as a part of a sentence."""
        limit = f" and at most {self.high:g}" if self.high is not None else ""
        return f"a number {'above' if self.above else 'of at least'} {self.low:g}{limit}"

    def read(self, value: object) -> object:
        """Return a finite number."""
        if isinstance(value, bool) or not isinstance(value, _NUMBERS):
            raise ValueError
        try:
            number = float(value)
        except OverflowError:
            raise ValueError from None
        if not math.isfinite(number) or number < self.low or (self.high is not None and number > self.high):
            raise ValueError
        if self.above and number == self.low:
            raise ValueError
        return min(number, self.most)


@dataclass(frozen=True)
class Choice(Kind):
    """One of several values.

    Attributes:
        values: Each value, and what it stands for.
        reason: Why there are no others, if an error should say it.
    """

    values: dict[object, object]
    reason: str = ""

    @property
    def allowed(self) -> str:
        """What is allowed, as a part of a sentence."""
        *names, last = [_json_word(value) for value in self.values]
        return f"{', '.join(names)} or {last}{self.reason}"

    def read(self, value: object) -> object:
        """Return what the value stands for."""
        # 1 equals true, but is not true.
        if not isinstance(value, bool | str) or value not in self.values:
            raise ValueError
        return self.values[value]

    def takes_text(self, text: str) -> bool:
        """Whether it is one of the values."""
        return text in self.values


class Texts(Kind):
    """A text, or a list of texts."""

    allowed = f"a text, or a list of at most {MAX_STOP_STRINGS} texts, none of them empty"

    def read(self, value: object) -> object:
        """Return the texts as a tuple."""
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list | tuple) or len(texts) > MAX_STOP_STRINGS:
            raise ValueError
        if not all(isinstance(text, str) and text and is_encodable(text) for text in texts):
            raise ValueError
        return tuple(texts)

    def takes_text(self, text: str) -> bool:  # noqa: ARG002
        """Every text is one."""
        return True


class TokenIds(Kind):
    """A list of token ids."""

    allowed = f"a list of at most {MAX_TOKEN_IDS} token ids"

    def read(self, value: object) -> object:
        """Return the ids as a tuple."""
        if not isinstance(value, list | tuple) or len(value) > MAX_TOKEN_IDS:
            raise ValueError
        if any(isinstance(each, str) for each in value):
            raise ValueError  # only the keys of an object must be texts
        return tuple(_token_id(each) for each in value)


class Biases(Kind):
    """What is added to the logits of tokens."""

    allowed = (
        f"an object of at most {MAX_TOKEN_IDS} token ids and numbers from -100 to 100, such as "
        '{"5234": -100}'
    )

    def read(self, value: object) -> object:
        """Return pairs of an id and a number, in the order of the ids."""
        if not isinstance(value, dict) or len(value) > MAX_TOKEN_IDS:
            raise ValueError
        number = Number(-100.0, 100.0)
        biases = {_token_id(key): number.read(bias) for key, bias in value.items()}
        return tuple(sorted(biases.items()))


class StreamOptions(Kind):
    """OpenAI's options of a stream."""

    allowed = (
        'an object such as {"include_usage": true}, with vLLM\'s "continuous_usage_stats" if you like; '
        '"include_obfuscation" is passed over, and no other is known'
    )

    def read(self, value: object) -> object:
        """Return which chunks have token counts, a ``StreamUsage``."""
        if not isinstance(value, dict):
            raise ValueError
        known = ("include_usage", "continuous_usage_stats", "include_obfuscation")
        if any(option for key, option in value.items() if key not in known):
            raise ValueError
        usage, continuous = (Flag().read(value.get(key) or False) for key in known[:2])
        # vLLM passes over the second one without the first.
        return ("all" if continuous else "last") if usage else "none"


def from_text(text: str) -> object:
    """Return the number, boolean or null that a text between quotation marks stands for.

    Raises:
        ValueError: it stands for nothing, or not clearly.
    """
    word = text.strip()
    if word.lower() in _WORDS:
        return _WORDS[word.lower()]
    if len(word) > _MAX_NUMBER or not _NUMBER.fullmatch(word):
        raise ValueError
    return int(word) if word.lstrip("+-").isdigit() else float(word)


def is_encodable(text: str) -> bool:
    """Whether a text can be encoded, which half a surrogate pair cannot."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def json_type(value: object) -> str:
    """Return the name that JSON has for a value's type."""
    kinds = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
    return kinds.get(type(value), "number")


def _token_id(value: object) -> int:
    if isinstance(value, str):
        if not re.fullmatch(r"\d{1,10}", value, re.ASCII):
            raise ValueError
        value = int(value)
    token_id = Whole(0, _MAX_TOKEN_ID).read(value)
    assert isinstance(token_id, int)  # noqa: S101 - for the type checker
    return token_id


def _json_word(value: object) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)
