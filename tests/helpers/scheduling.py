"""A scheduler above a tiny deterministic backend: no processes, no model."""

from __future__ import annotations

import functools
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from inf2kit.errors import RequestError
from inf2kit.serving.engine.backend.base import Backend, PrefillChunk, StepOutput
from inf2kit.serving.engine.detokenizer import TokenDecoder
from inf2kit.serving.engine.request import Request, RequestGroup
from inf2kit.serving.engine.scheduler import Scheduler
from inf2kit.serving.shapes import StaticShapes
from inf2kit.serving.wire import Generation, Parameters, Token
from tests.helpers.servers import PATIENCE_S

VOCABULARY = 50
EOS = 7
LOGITS = torch.randn(997, VOCABULARY, generator=torch.Generator().manual_seed(0)) * 2


class Sums(Backend):
    """Logits that depend on the ids in the row; the contract's assertions are what is tested too."""

    max_prefill_tokens = 3

    def __init__(
        self, batch_size: int = 3, sequence_length: int = 64, max_context_length: int | None = None
    ) -> None:
        super().__init__(StaticShapes.resolve(batch_size, sequence_length, max_context_length))
        self.held: dict[int, list[int]] = {}
        self.prefills = 0

    def load(self) -> None:
        pass

    @property
    def busy(self) -> int:
        return len(self._lengths) + len(self._partial_lengths)

    def _prefill(self, chunks: Sequence[PrefillChunk], starts: Sequence[int]) -> StepOutput:
        self.prefills += 1
        for chunk, start in zip(chunks, starts, strict=True):
            self.held[chunk.row] = [*(self.held[chunk.row] if start else []), *chunk.ids]
        return self._step([chunk.row for chunk in chunks])

    def _decode(self, rows: Sequence[int], ids: Sequence[int], positions: Sequence[int]) -> StepOutput:
        self.prefills = 0
        for row, token_id, position in zip(rows, ids, positions, strict=True):
            assert len(self.held[row]) == position
            self.held[row].append(token_id)
        return self._step(rows)

    def _step(self, rows: Sequence[int]) -> StepOutput:
        seeds = [zlib.crc32(bytes(self.held[row])) for row in rows]
        return StepOutput(torch.stack([LOGITS[seed % len(LOGITS)] for seed in seeds]))


class Letters(TokenDecoder):
    """A letter per id."""

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(chr(65 + token_id) for token_id in ids if token_id != EOS)


class Outcome:
    """What a caller gets."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.end: Generation | None = None
        self.error: RequestError | None = None

    def request(
        self,
        ids: Sequence[int],
        *,
        deadline: float = 0.0,
        length: int = 64,
        group: RequestGroup | None = None,
        **parameters: object,
    ) -> Request:
        values = Parameters(**parameters)  # type: ignore[arg-type]
        return Request(
            prompt_ids=ids,
            parameters=values,
            max_new_tokens=StaticShapes.resolve(1, length).new_tokens_within(
                len(ids), values.max_new_tokens, overflow=values.overflow
            ),
            deadline=deadline or time.monotonic() + PATIENCE_S,
            on_token=lambda _, token: self.pieces.append(token.text),
            on_end=self._ended,
            on_error=lambda error: setattr(self, "error", error),
            group=group or RequestGroup(),
        )

    def _ended(self, _: int, token: Token | None, generation: Generation) -> None:
        assert self.end is None, "a caller gets the end once"
        self.pieces += [token.text] if token else []
        self.end = generation


def scheduler(queue_size: int = 4, backend: Backend | None = None, prefills_per_step: int = 1) -> Scheduler:
    return Scheduler(
        backend or Sums(),
        Letters(),
        frozenset([EOS]),
        queue_size=queue_size,
        prefills_per_step=prefills_per_step,
    )


def steps_until(subject: Scheduler, condition: Callable[[], object]) -> None:
    for _ in range(1000):
        if condition():
            return
        subject.step()
    raise AssertionError("not within 1000 steps")


def alone(caller: Caller, length: int) -> str:
    return run_alone(tuple(caller.ids), tuple(caller.parameters.items()), length)


@functools.cache
def run_alone(ids: tuple[int, ...], parameters: tuple[tuple[str, object], ...], length: int) -> str:
    outcome, subject = Outcome(), scheduler(backend=Sums(1, length))
    subject.submit([outcome.request(ids, length=length, **dict(parameters))])
    steps_until(subject, lambda: outcome.end)
    assert outcome.end is not None
    return outcome.end.text


@dataclass
class Caller:
    """One caller of a random pattern: when it comes, what it wants, when it goes away."""

    at: int
    ids: list[int]
    parameters: dict[str, object]
    leaves_at: int | None
    outcome: Outcome = field(default_factory=Outcome)
    request: Request | None = None
    refused: bool = False
