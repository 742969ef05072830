"""A request that holds a row of the static batch: its ids, its text, and the rules that end it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from inf2kit.serving.engine.backend import PrefillChunk
from inf2kit.serving.engine.detokenizer import IncrementalDetokenizer, TokenDecoder
from inf2kit.serving.engine.request import Request
from inf2kit.serving.engine.row_sampler import RowSampler
from inf2kit.serving.shapes import StaticShapes
from inf2kit.serving.wire import Generation, Token


@dataclass(frozen=True)
class NextToken:
    """What a step has chosen for one sequence.

    Attributes:
        id: The token's id.
        logprob: Its log-probability, where the answer lists it and the backend returns logits.
        top: Ids and log-probabilities of the most likely tokens, best first, where the answer lists them.
    """

    id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


class Sequence:
    """The prompt's ids and the new ids of one row.

    Attributes:
        row: Index in the batch.
        request: The request that the row works on.
        sampler: Chooses the tokens of this row.
        tokens: The new tokens so far.

    Args:
        shapes: The static shapes.
        tokenizer: Decodes the new ids.
        eos_ids: Ids that end a text.
        seeded: Whether the draws come from the seed, so that the answer can name it. A device that samples
            by itself uses no seed.
    """

    def __init__(
        self,
        row: int,
        request: Request,
        shapes: StaticShapes,
        tokenizer: TokenDecoder,
        eos_ids: frozenset[int],
        *,
        seeded: bool = True,
    ) -> None:
        self.row = row
        self.request = request
        self._stop_ids = frozenset(request.parameters.stop_token_ids)
        self.sampler = RowSampler(request.parameters, request.prompt_ids, sorted(eos_ids | self._stop_ids))
        self.tokens: list[Token] = []
        self._tokenizer = tokenizer
        self._seeded = seeded
        self._shapes = shapes
        self._eos_ids = frozenset() if request.parameters.ignore_eos else eos_ids
        self._ids = list(request.prompt_ids)
        # The ids to prefill before the next token can be chosen, and how many of them the row holds already.
        self._prefill_ids = list(request.prompt_ids)
        self._prefilled = 0
        # Positions of the row in use, counting the last id, which the next decode step writes.
        self._length = len(self._ids)
        self._refills = 0
        self._text = IncrementalDetokenizer(
            tokenizer,
            request.prompt_ids,
            request.parameters.stop,
            include_stop=request.parameters.include_stop_str_in_output,
            only_at_end=not request.with_tokens,
        )

    @property
    def last_id(self) -> int:
        """The id that the next decode step starts from."""
        return self._ids[-1]

    @property
    def in_backend(self) -> bool:
        """Whether the backend holds ids of this row, so that it must be released."""
        return self._prefilled > 0

    @property
    def is_full(self) -> bool:
        """Whether the row has no room for the last id."""
        return self._length > self._shapes.sequence_length

    def next_chunk(self, size: int | None) -> PrefillChunk:
        """The next ids to prefill, at most ``size`` of them."""
        end = len(self._prefill_ids)
        if size is not None:
            end = min(self._prefilled + size, end)
        ids = self._prefill_ids[self._prefilled : end]
        self._prefilled = end
        return PrefillChunk(
            self.row, ids, last=end == len(self._prefill_ids), parameters=self.request.parameters
        )

    def refill(self) -> None:
        """Start over with a window of the row's ids: the first ones and the most recent ones."""
        self._prefill_ids = self._shapes.window(self._ids)
        self._prefilled = 0
        self._length = len(self._prefill_ids)
        self._refills += 1

    def append(self, next_token: NextToken) -> str | None:
        """Add the next id and call the request's callbacks.

        Returns:
            The finish reason if the sequence ends with this id, else None.
        """
        token_id = next_token.id
        self._ids.append(token_id)
        self._length += 1
        self.sampler.record(token_id)
        text, finish_reason = self._extend_text(token_id)
        token = Token(
            token_id,
            text,
            next_token.logprob,
            special=not text and (token_id in self._eos_ids or token_id in self._tokenizer.special_texts),
            top_tokens=tuple(self._listed(*pair) for pair in next_token.top),
        )
        self.tokens.append(token)
        self.request.group.has_tokens = True
        if finish_reason is None:
            self.request.on_token(len(self.tokens), token)
            return None
        self.request.on_end(len(self.tokens), token, self._generation(finish_reason))
        return finish_reason

    def _extend_text(self, token_id: int) -> tuple[str, str | None]:
        """What the id adds to the text, and the finish reason if the text ends with it."""
        if token_id in self._eos_ids:
            text = self._text.flush(token_id)
            return text, "stop_sequence" if self._text.stopped else "eos_token"
        if token_id in self._stop_ids:
            text = self._text.flush(token_id)
            if self.request.parameters.include_stop_str_in_output and not self._text.stopped:
                text += self._tokenizer.token_text(token_id)
            return text, "stop_sequence"
        text = self._text.push(token_id)
        if self._text.stopped:
            return text, "stop_sequence"
        finish_reason = self._limit_reached()
        if finish_reason:
            text += self._text.flush()
            finish_reason = "stop_sequence" if self._text.stopped else finish_reason
        return text, finish_reason

    def _limit_reached(self) -> str | None:
        if len(self.tokens) + 1 >= self.request.max_new_tokens:
            return "length"
        if time.monotonic() >= self.request.ends:
            return "time_limit"
        return None

    def _listed(self, token_id: int, logprob: float) -> Token:
        special = token_id in self._tokenizer.special_texts
        return Token(token_id, self._tokenizer.token_text(token_id), logprob, special)

    def _generation(self, finish_reason: str) -> Generation:
        request, warnings = self.request, self.request.warnings
        if self._refills:
            warnings = (
                *warnings,
                f"the row was full {self._refills} times and went on with the first and the most recent "
                "tokens only (overflow 'sinks'): what lay between them is forgotten",
            )
        return Generation(
            text="".join(token.text for token in self.tokens),
            prompt=request.prompt_text,
            finish_reason=finish_reason,
            input_length=len(request.prompt_ids),
            generated_tokens=len(self.tokens),
            seed=self.sampler.seed if self._seeded else None,
            tokens=tuple(self.tokens) if request.parameters.lists_tokens else (),
            prefill=request.prompt_tokens,
            warnings=warnings,
        )
