"""What an option of a request is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from inf2kit.serving.wire.values import Kind

#: The schemas of requests.
Form = Literal["tgi", "chat", "completion"]
FORMS: tuple[Form, ...] = ("tgi", "chat", "completion")
#: Which chunks of a stream have token counts: none, one more at its end, or each of them and that one.
StreamUsage = Literal["none", "last", "all"]
#: Values that ask for nothing, for most options.
NOTHING: tuple[object, ...] = (False, "", [], {})


@dataclass(frozen=True)
class Option:
    """An option that is honoured.

    Attributes:
        name: Its name here.
        kind: What values it has.
        does: What happens, for the documentation.
        tgi: Text Generation Inference's name, if it has the option.
        openai: OpenAI's name, if it has the option.
        others: Other names: those of vLLM, transformers and others.
        forms: The schemas that have it.
        field: The field of a request that it sets, if that has another name.
        neutral: Values that ask for nothing; they pass in every schema.
        elsewhere: What to use in the other schemas.
    """

    name: str
    kind: Kind
    does: str
    tgi: str = ""
    openai: str = ""
    others: tuple[str, ...] = ()
    forms: tuple[Form, ...] = FORMS
    field: str = ""
    neutral: tuple[object, ...] = ()
    elsewhere: str = ""

    @cached_property
    def target(self) -> str:
        """The field of a request that it sets."""
        return self.field or self.name

    @property
    def names(self) -> tuple[str, ...]:
        """All names, without repetition."""
        names = (self.name, self.tgi, self.openai, *self.others)
        return tuple(dict.fromkeys(name for name in names if name))

    def is_neutral(self, value: object) -> bool:
        """Whether a value asks for nothing, though it is of another kind."""
        return _is_among(value, self.neutral)

    def takes_text(self, text: str) -> bool:
        """Whether a text is a value of the option."""
        return self.kind.takes_text(text)


@dataclass(frozen=True)
class Refusal:
    """An option that this endpoint does not have.

    Attributes:
        names: Its names.
        reason: Why, and what to use instead.
        neutral: Values that ask for nothing.
        forms: The schemas in which it is this one.
    """

    names: tuple[str, ...]
    reason: str
    neutral: tuple[object, ...]
    forms: tuple[Form, ...] = FORMS

    def is_neutral(self, value: object) -> bool:
        """Whether a value asks for nothing."""
        return _is_among(value, self.neutral)

    def takes_text(self, text: str) -> bool:
        """Whether a text asks for nothing as it is."""
        return text in self.neutral


def _is_among(value: object, values: Sequence[object]) -> bool:
    # True equals 1, but is another value.
    return any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in values)
