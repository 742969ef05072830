"""Texts that end a generation, found as the new text grows, special tokens included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class StopTexts:
    """Finds stop texts in one new text, and holds back what may be the beginning of one.

    Special tokens are no part of the new text, but stop texts are compared with the text that has them: a
    stop text may be a special token, or contain one. A special token is found whole or not at all, so the
    stop text ``<`` does not stop at ``<|im_end|>``.

    Args:
        stop: The stop texts, at least one.
        special_texts: The special tokens' ids, and how a stop text writes them.
        include: Whether the new text includes the stop text.

    Attributes:
        found: Whether a stop text has appeared.
    """

    def __init__(self, stop: Sequence[str], special_texts: Mapping[int, str], *, include: bool) -> None:
        self._stop = tuple(stop)
        self._include = include
        self._special = {
            token_id: text
            for token_id, text in special_texts.items()
            if text and any(text in stop_text for stop_text in stop)
        }
        # The text that is not released yet, and where it has special tokens: begin and end of each.
        self._held = ""
        self._hidden: list[tuple[int, int]] = []
        self.found = False

    def push(self, piece: str, token_id: int | None = None) -> str:
        """Return the text that is certain by now.

        Args:
            piece: What the new text has grown by.
            token_id: The new token, which may be a special one.
        """
        if self.found:
            return ""
        self._held += piece
        if special := self._special.get(token_id) if token_id is not None else None:
            self._hidden.append((len(self._held), len(self._held) + len(special)))
            self._held += special
        matches = [(start, text) for text in self._stop if (start := self._find(text)) >= 0]
        if not matches:
            return self._release(len(self._held) - self._possible_length())
        start, text = min(matches, key=lambda match: match[0])
        self.found = True
        return self._release(start) + (text if self._include else "")

    def flush(self, piece: str, last_id: int | None = None) -> str:
        """Return all that is left, at the end of the generation.

        Args:
            piece: What the new text has grown by.
            last_id: A token that ended the generation by itself: a stop text that is this token alone is not
                needed any more.
        """
        if last_id is not None and self._special.get(last_id) in self._stop:
            last_id = None
        text = self.push(piece, last_id)
        return text if self.found else text + self._release(len(self._held))

    def _find(self, text: str) -> int:
        """Return where the held text has a stop text, or -1."""
        start = self._held.find(text)
        while start >= 0 and self._divides_token(start, start + len(text)):
            start = self._held.find(text, start + 1)
        return start

    def _divides_token(self, start: int, end: int) -> bool:
        return any(
            begin < end and start < until and not (start <= begin and until <= end)
            for begin, until in self._hidden
        )

    def _release(self, end: int) -> str:
        """Remove the beginning of the held text, and return it without special tokens."""
        visible, position = "", 0
        for begin, until in self._hidden:
            if until <= end:
                visible += self._held[position:begin]
                position = until
        visible += self._held[position:end]
        self._hidden = [(begin - end, until - end) for begin, until in self._hidden if begin >= end]
        self._held = self._held[end:]
        return visible

    def _possible_length(self) -> int:
        """The number of last characters of the held text that may begin a stop text."""
        longest = max(len(text) for text in self._stop) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            start = len(self._held) - length
            if any(begin < start < until for begin, until in self._hidden):
                continue
            if any(text.startswith(self._held[start:]) for text in self._stop):
                return length
        return 0
