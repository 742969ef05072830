"""The faults of a request, collected so that one answer names all of them."""

from __future__ import annotations

import reprlib

from inf2kit.errors import RequestError

#: Faults that one answer names; it says how many more there are.
_MAX_FAULTS = 16
_MAX_SHOWN = 60

_shown = reprlib.Repr()
_shown.maxstring = _shown.maxother = _shown.maxlong = _MAX_SHOWN
_shown.maxlist = _shown.maxdict = 4
_shown.maxlevel = 3


class Faults:
    """The faults of one request."""

    def __init__(self) -> None:
        self._faults: list[RequestError] = []
        self._more = 0

    def add(self, message: str, *, code: str = "invalid_parameter", param: str | None = None) -> None:
        """Add a fault: a sentence, and the key that it is about."""
        if len(self._faults) < _MAX_FAULTS:
            self._faults.append(RequestError(422, code, message, param=param))
        else:
            self._more += 1

    def add_value(self, key: str, value: object, allowed: str) -> None:
        """Add a value that is not allowed."""
        self.add(f"'{key}' is {show(value)}; it must be {allowed}", param=key)

    def raise_all(self) -> None:
        """Raise the faults as one error, whose code is that of the first.

        Raises:
            RequestError: 422, there are faults.
        """
        if not self._faults:
            return
        first = self._faults[0]
        if len(self._faults) == 1:
            raise first
        sentences = [f"({number}) {fault}" for number, fault in enumerate(self._faults, 1)]
        if self._more:
            sentences.append(f"and {self._more} more")
        count = len(self._faults) + self._more
        raise RequestError(
            422, first.code, f"the request has {count} faults: {'; '.join(sentences)}", param=first.param
        )


def show(value: object) -> str:
    """Return a value as an error shows it: as Python writes it, and short however long it is."""
    return shorten(_shown.repr(value), _MAX_SHOWN)


def shorten(text: str, length: int) -> str:
    """Return the text, cut after ``length`` characters."""
    return text if len(text) <= length else text[:length] + "..."
