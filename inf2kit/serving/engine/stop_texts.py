"""Texts that end a generation, found as the new text grows, special tokens included."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence


class StopTexts:
    """Finds stop texts in one new text, and holds back what may be the beginning of one.

    Special tokens are no part of the new text. A stop text that has one, or is one, is looked for in the text
    with its special tokens, each of which is found whole or not at all; the others in the text without them.

    Args:
        stop: The stop texts, at least one.
        special_texts: The special tokens' ids, and how a stop text writes them.
        include: Whether the new text includes the stop text.

    Attributes:
        stopped: Whether a stop text has appeared.
    """

    def __init__(self, stop: Sequence[str], special_texts: Mapping[int, str], *, include: bool) -> None:
        self._include = include
        special = set(filter(None, special_texts.values()))
        self._with_special = [text for text in stop if any(token in text for token in special)]
        self._plain = [text for text in stop if text not in self._with_special]
        self._special_texts = special_texts if self._with_special else {}
        # The text that is not released yet, and where it has special tokens: begin and end of each.
        self._held = ""
        self._hidden: list[tuple[int, int]] = []
        self.stopped = False

    def push(self, piece: str, token_id: int | None = None) -> str:
        """Return the text that is certain by now.

        Args:
            piece: What the new text has grown by.
            token_id: The new token, which may be a special one.
        """
        if self.stopped:
            return ""
        self._held += piece
        if special := self._special_texts.get(token_id) if token_id is not None else None:
            self._hidden.append((len(self._held), len(self._held) + len(special)))
            self._held += special
        if match := min(self._matches(), key=lambda match: match[0], default=None):
            start, text = match
            self.stopped = True
            return self._release(start) + (text if self._include else "")
        return self._release(self._possible_start())

    def flush(self, piece: str, last_id: int | None = None) -> str:
        """Return all that is left, at the end of the generation.

        Args:
            piece: What the new text has grown by.
            last_id: A token that ended the generation by itself: a stop text that is this token alone is not
                needed any more.
        """
        if last_id is not None and self._special_texts.get(last_id) in self._with_special:
            last_id = None
        text = self.push(piece, last_id)
        return text if self.stopped else text + self._release(len(self._held))

    def _matches(self) -> Iterator[tuple[int, str]]:
        """Yield where stop texts begin in the held text, and the stop texts."""
        visible = self._visible(len(self._held))
        for text in self._plain:
            if (start := visible.find(text)) >= 0:
                yield self._place(start), text
        for text in self._with_special:
            start = self._held.find(text)
            while start >= 0 and self._divides_token(start, start + len(text)):
                start = self._held.find(text, start + 1)
            if start >= 0:
                yield start, text

    def _possible_start(self) -> int:
        """Where the held text may begin a stop text that it does not have yet."""
        visible = self._visible(len(self._held))
        starts = [self._place(_beginning(visible, self._plain))]
        if self._with_special:
            start = _beginning(self._held, self._with_special)
            while self._divides_token(start, len(self._held)):
                start = _beginning(self._held, self._with_special, start + 1)
            starts.append(start)
        return min(starts)

    def _divides_token(self, start: int, end: int) -> bool:
        return any(
            begin < end and start < until and not (start <= begin and until <= end)
            for begin, until in self._hidden
        )

    def _place(self, visible: int) -> int:
        """The index in the held text of an index in the text without special tokens."""
        for begin, until in self._hidden:
            if begin <= visible:
                visible += until - begin
        return visible

    def _visible(self, end: int) -> str:
        """The beginning of the held text without special tokens."""
        if not self._hidden:
            return self._held[:end]
        text, position = "", 0
        for begin, until in self._hidden:
            if until <= end:
                text += self._held[position:begin]
                position = until
        return text + self._held[position:end]

    def _release(self, end: int) -> str:
        """Remove the beginning of the held text, and return it without special tokens."""
        text = self._visible(end)
        self._hidden = [(begin - end, until - end) for begin, until in self._hidden if begin >= end]
        self._held = self._held[end:]
        return text


def _beginning(text: str, stop: Iterable[str], start: int = 0) -> int:
    """Where the end of a text, from ``start`` on, is the beginning of a stop text; else its length."""
    longest = max(map(len, stop), default=1) - 1
    for place in range(max(start, len(text) - longest), len(text)):
        if any(other.startswith(text[place:]) for other in stop):
            return place
    return len(text)
