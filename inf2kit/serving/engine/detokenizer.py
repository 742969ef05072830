"""Token ids to text, one id at a time, without broken characters and without the beginning of a stop text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

#: Ids that are decoded as context of new ones, since some tokenizers drop a space at the start of a text.
_CONTEXT = 6
#: Ids of the longest character: at most four bytes, and so at most four ids. An unfinished character of more
#: ids than this is broken, not unfinished.
_LONGEST_CHARACTER = 8
#: Ids that are decoded again with every new one, at most.
_WINDOW = 24
_REPLACEMENT = "\ufffd"


class TokenDecoder(Protocol):
    """The part of a transformers tokenizer that detokenizing needs."""

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, without special tokens and without clean-up of spaces."""


class IncrementalDetokenizer:
    """The text of one sequence.

    ``push`` returns the text that is certain by now. It holds back an unfinished UTF-8 character and anything
    that may be the beginning of a stop text; ``flush`` returns the rest. The pieces joined are the text, so a
    streamed answer equals a whole one.

    Args:
        decoder: The tokenizer.
        prompt_ids: The ids before the new text.
        stop: Texts that end the new text.
        include_stop: Whether the new text includes the stop text.
        only_at_end: Whether the text is read at its end only. ``flush`` then decodes all of it at once, in a
            tenth of the time. Has no effect with stop texts, which must be noticed when they appear.

    Attributes:
        stopped: Whether a stop text has appeared.
    """

    def __init__(
        self,
        decoder: TokenDecoder,
        prompt_ids: Sequence[int],
        stop: Sequence[str] = (),
        *,
        include_stop: bool = False,
        only_at_end: bool = False,
    ) -> None:
        self._decoder = decoder
        self._stop = tuple(stop)
        self._include_stop = include_stop
        self._only_at_end = only_at_end and not stop
        self._ids = list(prompt_ids[-_CONTEXT:])
        # ids[_start:_end] are decoded already, to _decoded, and are the context of the next piece.
        self._start, self._end = 0, len(self._ids)
        self._decoded = decoder.decode(self._ids)
        self._held = ""
        self.stopped = False

    def push(self, token_id: int) -> str:
        """Append one id and return the text that it makes certain, possibly empty."""
        self._ids.append(token_id)
        if self._only_at_end:
            return ""
        return self._release(self._decode_new(final=False))

    def flush(self) -> str:
        """Return the text still held back, at the end of the generation."""
        text = self._release(self._decode_new(final=True))
        held, self._held = self._held, ""
        return text if self.stopped else text + held

    def _decode_new(self, *, final: bool) -> str:
        text = self._decoder.decode(self._ids[self._start :])
        unfinished = text.endswith(_REPLACEMENT) and len(self._ids) - self._end < _LONGEST_CHARACTER
        if len(text) < len(self._decoded) or (unfinished and not final):
            return ""
        unfinished_ids = 0
        if text.endswith(_REPLACEMENT) and not final:
            text, unfinished_ids = self._without_unfinished(text)
        # Ids without text, such as special tokens, give an empty piece.
        piece = text[len(self._decoded) :]
        self._decoded, self._end = text, len(self._ids) - unfinished_ids
        if self._end - self._start > _WINDOW:
            self._start = self._end - _CONTEXT
            self._decoded = self._decoder.decode(self._ids[self._start : self._end])
        return piece

    def _without_unfinished(self, text: str) -> tuple[str, int]:
        """Return the text without an unfinished last character, and the number of its ids.

        Broken ids may be followed by a character that is only unfinished.
        """
        for count in range(_LONGEST_CHARACTER - 1, 0, -1):
            unfinished = self._decoder.decode(self._ids[-count:])
            finished = self._decoder.decode(self._ids[self._start : -count])
            if (
                unfinished == _REPLACEMENT
                and text == finished + unfinished
                and len(finished) >= len(self._decoded)
            ):
                return finished, count
        return text, 0

    def _release(self, piece: str) -> str:
        if not self._stop or self.stopped:
            return "" if self.stopped else piece
        self._held += piece
        matches = [(self._held.index(text), text) for text in self._stop if text in self._held]
        if matches:
            start, text = min(matches, key=lambda match: match[0])
            self.stopped = True
            end = start + (len(text) if self._include_stop else 0)
            released, self._held = self._held[:end], ""
            return released
        certain = len(self._held) - self._possible_stop_length()
        released, self._held = self._held[:certain], self._held[certain:]
        return released

    def _possible_stop_length(self) -> int:
        """The number of last characters of the held text that may begin a stop text."""
        longest = max(len(text) for text in self._stop) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            if any(text.startswith(self._held[-length:]) for text in self._stop):
                return length
        return 0
