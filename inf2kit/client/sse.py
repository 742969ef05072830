"""An incremental parser of server-sent events. It knows no transport.

The format is that of https://html.spec.whatwg.org/multipage/server-sent-events.html, and bytes may be cut
anywhere: in a character, in a line end, in a record.
"""

from __future__ import annotations

import re

_LINE_END = re.compile(rb"\r\n|\n|\r")


class EventParser:
    """Splits the bytes of a stream into the data of its events.

    Only ``data`` is kept: comments and the fields ``event``, ``id`` and ``retry`` are passed over.
    """

    def __init__(self) -> None:
        self._line: list[bytes] = []
        self._data: list[bytes] = []
        self._after_carriage_return = False

    def feed(self, part: bytes) -> list[bytes]:
        """Take the next bytes, and return the data of each event that they complete."""
        if not part:
            return []
        if self._after_carriage_return and part.startswith(b"\n"):
            part = part[1:]
        if part:
            self._after_carriage_return = part.endswith(b"\r")
        else:
            self._after_carriage_return = False
        first, *rest = _LINE_END.split(part)
        self._line.append(first)
        events = []
        for following in rest:
            events += self._take_line()
            self._line.append(following)
        return events

    def end(self) -> list[bytes]:
        """Return what the stream's end completes: an event without its empty line."""
        return [*self._take_line(), *self._take_line()]

    def _take_line(self) -> list[bytes]:
        line = b"".join(self._line)
        self._line = []
        if line:
            field, _, value = line.partition(b":")
            if field == b"data":
                self._data.append(value.removeprefix(b" "))
            return []
        data, self._data = self._data, []
        return [b"\n".join(data)] if data else []
