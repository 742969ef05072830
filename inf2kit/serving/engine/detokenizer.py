"""Token ids to text, one id at a time, without broken characters and without the beginning of a stop text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from inf2kit.serving.engine.stop_texts import StopTexts

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

    @property
    def special_texts(self) -> Mapping[int, str]:
        """The ids that ``decode`` leaves out, and how the vocabulary writes them."""
        return MappingProxyType({})

    def decode(self, ids: Sequence[int], /) -> str:
        """Return the text of ids, without special tokens and without clean-up of spaces."""

    def token_text(self, token_id: int, /) -> str:
        """Return the text of one id alone; a special token's is what the vocabulary writes."""
        return self.special_texts.get(token_id) or self.decode([token_id])


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
        self._stop = StopTexts(stop, decoder.special_texts, include=include_stop) if stop else None
        self._only_at_end = only_at_end and not stop
        self._ids, self._decoded = _context(decoder, prompt_ids)
        # ids[_start:_end] are decoded already, to _decoded, and are the context of the next piece.
        self._start, self._end = 0, len(self._ids)

    @property
    def stopped(self) -> bool:
        """Whether a stop text has appeared."""
        return self._stop is not None and self._stop.stopped

    def push(self, token_id: int) -> str:
        """Append one id and return the text that it makes certain, possibly empty."""
        self._ids.append(token_id)
        if self._only_at_end:
            return ""
        piece = self._decode_new(final=False)
        return self._stop.push(piece, token_id) if self._stop else piece

    def flush(self, last_id: int | None = None) -> str:
        """Return the text still held back, at the end of the generation.

        Args:
            last_id: The id that ended the generation, if it is no part of the text. It still completes a stop
                text that has a special token after other text.
        """
        piece = self._decode_new(final=True)
        return self._stop.flush(piece, last_id) if self._stop else piece

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


def _context(decoder: TokenDecoder, prompt_ids: Sequence[int]) -> tuple[list[int], str]:
    """Return the prompt's last ids and their text; more of them where the last ones are without text."""
    size = _CONTEXT
    while True:
        ids = list(prompt_ids[-size:])
        text = decoder.decode(ids)
        if text or size >= len(prompt_ids):
            return ids, text
        size *= 4
