"""Ids to text, one at a time, safe in the middle of a character and of a stop text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

#: Ids of the prompt that are decoded along, since some tokenizers drop a space at the start of a text.
_CONTEXT = 6
#: A character has at most four bytes, and so at most four ids; what is unfinished after more is broken.
_LONGEST_CHARACTER = 8
#: Ids that are decoded again with every new one, at most.
_WINDOW = 24
_REPLACEMENT = "\ufffd"


class Detokenizer(Protocol):
    """The part of a transformers tokenizer that is used here."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens left out, nothing cleaned up."""


class TextStream:
    """The text of one row.

    ``push`` gives the text that is certain by now. Held back are an unfinished UTF-8 character and
    whatever may still turn out to be the beginning of a stop text; ``flush`` gives the rest. The pieces
    joined are the text, so a streamed answer and a whole one cannot differ.

    Args:
        tokenizer: Decodes.
        prompt_ids: What goes before.
        stop: Texts that end it.
        include_stop: Whether the stop text belongs to it.
        at_the_end: Whether nobody looks at it before its end, so that ``flush`` may give all of it at once: a
            tenth of the time. Not where there are stop texts, which must be met when they are there.

    Attributes:
        stopped: Whether a stop text was met.
    """

    def __init__(
        self,
        tokenizer: Detokenizer,
        prompt_ids: Sequence[int],
        stop: Sequence[str] = (),
        *,
        include_stop: bool = False,
        at_the_end: bool = False,
    ) -> None:
        self._tokenizer = tokenizer
        self._stop = tuple(stop)
        self._include_stop = include_stop
        self._at_the_end = at_the_end and not stop
        self._ids = list(prompt_ids[-_CONTEXT:])
        # ids[_start:_read] are released already and decoded again as context of the next piece.
        self._start, self._read = 0, len(self._ids)
        self._before = tokenizer.decode(self._ids)
        self._held = ""
        self.stopped = False

    def push(self, token_id: int) -> str:
        """Take one id and give the text that it releases, possibly none."""
        self._ids.append(token_id)
        if self._at_the_end:
            return ""
        return self._release(self._decode_new(final=False))

    def flush(self) -> str:
        """The text still held back, at the end of the generation."""
        text = self._release(self._decode_new(final=True))
        held, self._held = self._held, ""
        return text if self.stopped else text + held

    def _decode_new(self, *, final: bool) -> str:
        after = self._tokenizer.decode(self._ids[self._start :])
        unfinished = after.endswith(_REPLACEMENT) and len(self._ids) - self._read < _LONGEST_CHARACTER
        if len(after) < len(self._before) or (unfinished and not final):
            return ""
        held = 0
        if after.endswith(_REPLACEMENT) and not final:
            after, held = self._without_unfinished(after)
        # Ids without a text, such as special tokens, leave it as it was.
        piece = after[len(self._before) :]
        self._before, self._read = after, len(self._ids) - held
        if self._read - self._start > _WINDOW:
            self._start = self._read - _CONTEXT
            self._before = self._tokenizer.decode(self._ids[self._start : self._read])
        return piece

    def _without_unfinished(self, after: str) -> tuple[str, int]:
        """The text without the last character's beginning, and how many ids that is: behind broken ones there
        may be a character that is only just coming."""
        for held in range(_LONGEST_CHARACTER - 1, 0, -1):
            rest = self._tokenizer.decode(self._ids[-held:])
            before = self._tokenizer.decode(self._ids[self._start : -held])
            if rest == _REPLACEMENT and after == before + rest and len(before) >= len(self._before):
                return before, held
        return after, 0

    def _release(self, piece: str) -> str:
        if not self._stop or self.stopped:
            return "" if self.stopped else piece
        self._held += piece
        met = [(self._held.index(text), text) for text in self._stop if text in self._held]
        if met:
            start, text = min(met, key=lambda found: found[0])
            self.stopped = True
            released, self._held = self._held[: start + (len(text) if self._include_stop else 0)], ""
            return released
        keep = self._possible_start()
        released, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return released

    def _possible_start(self) -> int:
        """How many last characters of the held text may be the beginning of a stop text."""
        longest = max(len(text) for text in self._stop) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            if any(text.startswith(self._held[-length:]) for text in self._stop):
                return length
        return 0
