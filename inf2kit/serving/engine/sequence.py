"""One row of the static batch: a prompt, its new ids, and the rules that end it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from inf2kit.errors import RequestError
from inf2kit.serving.engine.backend import PrefillChunk
from inf2kit.serving.engine.detokenizer import IncrementalDetokenizer, TokenDecoder
from inf2kit.serving.engine.sampler import RowSampler
from inf2kit.serving.shapes import StaticShapes
from inf2kit.serving.wire import Generation, Parameters, Token


@dataclass
class Call:
    """What the prompts of one call share.

    Attributes:
        has_tokens: Whether any of them has a new token.
        left: How many of them are inside.
    """

    has_tokens: bool = False
    left: int = 0


@dataclass
class Job:
    """One prompt on its way through the engine.

    Attributes:
        prompt_ids: The prompt's tokens.
        parameters: How to generate.
        max_new_tokens: The bound after clamping to the row.
        deadline: Monotonic time at which the job ends with what it has.
        on_token: Called with the count and the token, for every new token but the last.
        on_end: Called once with the count, the last token and the whole. There is no token where the
            deadline came before this prompt had one, but not before another one of its call had.
        on_error: Called once instead: the job had no token before its deadline, or cannot go on.
        arrival: Monotonic time of arrival; the queue is in this order.
        prompt_text: Put before the new text where the full text was asked for.
        warnings: What was changed about the request.
        with_tokens: Whether anyone wants the tokens one by one: their texts and probabilities.
        cancelled: Set from any thread when the caller went away.
        call: Shared by the prompts of one call.
    """

    prompt_ids: Sequence[int]
    parameters: Parameters
    max_new_tokens: int
    deadline: float
    on_token: Callable[[int, Token], None]
    on_end: Callable[[int, Token | None, Generation], None]
    on_error: Callable[[RequestError], None]
    arrival: float = field(default_factory=time.monotonic)
    prompt_text: str = ""
    warnings: tuple[str, ...] = ()
    with_tokens: bool = False
    cancelled: bool = False
    call: Call = field(default_factory=lambda: Call())

    def end_without_a_token(self) -> None:
        """The deadline came first: nothing for this prompt, so that what its call has is not lost."""
        generation = Generation(
            text="",
            prompt=self.prompt_text,
            finish_reason="time_limit",
            input_length=len(self.prompt_ids),
            generated_tokens=0,
            warnings=self.warnings,
        )
        self.on_end(0, None, generation)


class Slot:
    """A job that holds a row.

    Attributes:
        row: Of the batch.
        job: What it generates.
        sampling: How its tokens are chosen.
        encoding: The ids that its row must hold before the next token can be chosen.
        encoded: How many of them the row holds already.
        tokens: The new tokens so far.

    Args:
        shapes: The static shapes.
        tokenizer: For the new text.
        eos_ids: Ids that end a text.
        seeded: Whether the draws come from the seed, so that the answer can name it; a device's do not.
    """

    def __init__(
        self,
        row: int,
        job: Job,
        shapes: StaticShapes,
        tokenizer: TokenDecoder,
        eos_ids: frozenset[int],
        *,
        seeded: bool = True,
    ) -> None:
        self.row = row
        self.job = job
        self._seeded = seeded
        self.sampling = RowSampler(job.parameters, job.prompt_ids, sorted(eos_ids))
        self.encoding = list(job.prompt_ids)
        self.encoded = 0
        self._shapes = shapes
        self._eos_ids = frozenset() if job.parameters.ignore_eos else eos_ids
        self._ids = list(job.prompt_ids)
        self.tokens: list[Token] = []
        self._in_row = len(self._ids)
        self._refills = 0
        self._text = IncrementalDetokenizer(
            tokenizer,
            job.prompt_ids,
            job.parameters.stop,
            include_stop=job.parameters.include_stop_str_in_output,
            only_at_end=not job.with_tokens,
        )

    @property
    def last_id(self) -> int:
        """The id that the next decode step starts from."""
        return self._ids[-1]

    def next_chunk(self, size: int | None) -> PrefillChunk:
        """The ids to encode next, at most ``size``."""
        end = len(self.encoding) if size is None else min(self.encoded + size, len(self.encoding))
        ids = self.encoding[self.encoded : end]
        self.encoded = end
        return PrefillChunk(self.row, ids, last=end == len(self.encoding), parameters=self.job.parameters)

    def is_full(self) -> bool:
        """Whether the row has no room for the last id."""
        return self._in_row > self._shapes.sequence_length

    def refill(self) -> None:
        """Start over with a window of what the row holds: the first tokens and the most recent ones."""
        self.encoding = self._shapes.window(self._ids)
        self.encoded = 0
        self._in_row = len(self.encoding)
        self._refills += 1

    def take(self, token_id: int, logprob: float | None = None) -> str | None:
        """Accept the next id and tell the caller; the finish reason when the row is finished."""
        self._ids.append(token_id)
        self._in_row += 1
        self.sampling.record(token_id)
        finish_reason = self._finish_reason_of(token_id)
        text = self._text.flush() if finish_reason == "eos_token" else self._text.push(token_id)
        if self._text.stopped:
            finish_reason = "stop_sequence"
        elif finish_reason not in (None, "eos_token"):
            text += self._text.flush()
            finish_reason = "stop_sequence" if self._text.stopped else finish_reason
        token = Token(token_id, text, logprob, special=not text and token_id in self._eos_ids)
        self.tokens.append(token)
        self.job.call.has_tokens = True
        if finish_reason is None:
            self.job.on_token(len(self.tokens), token)
            return None
        self.job.on_end(len(self.tokens), token, self._generation(finish_reason))
        return finish_reason

    def _finish_reason_of(self, token_id: int) -> str | None:
        if token_id in self._eos_ids:
            return "eos_token"
        if len(self.tokens) + 1 >= self.job.max_new_tokens:
            return "length"
        if time.monotonic() >= self.job.deadline:
            return "time_limit"
        return None

    def _generation(self, finish_reason: str) -> Generation:
        parameters = self.job.parameters
        warnings = self.job.warnings
        if self._refills:
            warnings = (
                *warnings,
                f"the row was full {self._refills} times and went on with the first and the most recent "
                "tokens only (overflow 'sinks'): what lay between them is forgotten",
            )
        return Generation(
            text="".join(token.text for token in self.tokens),
            prompt=self.job.prompt_text,
            finish_reason=finish_reason,
            input_length=len(self.job.prompt_ids),
            generated_tokens=len(self.tokens),
            seed=self.sampling.seed if self._seeded else None,
            tokens=tuple(self.tokens) if parameters.details else (),
            warnings=warnings,
        )
