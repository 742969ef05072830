"""Continuous batching on one thread: waiting requests get free rows, and each step decodes all rows once."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

from inf2kit.errors import RequestError
from inf2kit.serving.engine.admission import Admission, queue_timeout
from inf2kit.serving.engine.backend import Backend, PrefillChunk, StepOutput
from inf2kit.serving.engine.detokenizer import TokenDecoder
from inf2kit.serving.engine.fair_queue import FairQueue
from inf2kit.serving.engine.metrics import EngineMetrics
from inf2kit.serving.engine.next_tokens import choose_tokens
from inf2kit.serving.engine.request import Request
from inf2kit.serving.engine.sequence import Sequence

logger = logging.getLogger(__name__)

#: Seconds between two beats of an idle engine.
_IDLE_BEAT_S = 1.0


class Scheduler:
    """Owns the rows of one backend.

    ``submit``, ``wake``, ``end_all`` and ``stop`` may be called from any thread. Everything else belongs to
    the thread that calls ``run``, which is the only one that uses the backend.

    Args:
        backend: A loaded backend.
        tokenizer: Decodes the new ids.
        eos_ids: Ids that end a text.
        queue_size: Most requests that wait for a row.
        prefills_per_step: Most prefills between two decode steps, so that a burst of arrivals does not stall
            the running rows. One prefill may take several short prompts, or a part of a long one.
        metrics: Counts and times what happens.
        after_step: Called after every step, when the requests' callbacks have run.
        beat: Called when the backend has returned, and every second while there is nothing to do.
    """

    def __init__(
        self,
        backend: Backend,
        tokenizer: TokenDecoder,
        eos_ids: frozenset[int],
        *,
        queue_size: int,
        prefills_per_step: int = 1,
        metrics: EngineMetrics | None = None,
        after_step: Callable[[], None] = lambda: None,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._backend = backend
        self._tokenizer = tokenizer
        self._eos_ids = eos_ids
        self._admission = Admission(backend.shapes.batch_size + queue_size)
        self._prefills_per_step = prefills_per_step
        self._metrics = metrics or EngineMetrics(backend.shapes.batch_size)
        self._metrics.samples_on_device.set(backend.samples_on_device)
        self._after_step = after_step
        self._beat = beat
        self._free_rows = list(range(backend.shapes.batch_size))
        # Sequences whose ids are not all in the backend yet, in the order of their prefill.
        self._prefilling: deque[Sequence] = deque()
        # Sequences that decode, by row.
        self._running: dict[int, Sequence] = {}
        self._waiting = FairQueue()
        self._changed = threading.Condition()
        self._stopped = False
        self._failure: RequestError | None = None

    @property
    def unfinished(self) -> int:
        """Number of requests that hold a row or wait for one."""
        return self._backend.shapes.batch_size - len(self._free_rows) + len(self._waiting)

    def submit(self, requests: list[Request], *, replaces: Iterable[Request] = ()) -> None:
        """Queue the requests of one call, all or none.

        Args:
            requests: The requests; they share their ``group``.
            replaces: Earlier requests for the same call, whose caller is gone. They are cancelled, and the
                new ones are accepted even if the queue is full.

        Raises:
            RequestError: 429 ``queue_full``, or what ``fail_all`` was called with.
        """
        replaced = list(replaces)
        with self._changed:
            if self._failure:
                raise self._failure
            for request in replaced:
                request.cancelled = True
            self._admission.admit(len(requests), replaces_admitted=bool(replaced))
            requests[0].group.unfinished = len(requests)
            self._waiting.add(requests)
            self._changed.notify()

    def wake(self) -> None:
        """Notice cancelled requests: those that wait leave at once, those that run at the next step."""
        with self._changed:
            for request in self._waiting.pop_ended(-math.inf):
                self._finish(request)
            self._changed.notify()

    def end_all(self) -> None:
        """End every request with the tokens it has, as if its deadline had come."""
        with self._changed:
            now = time.monotonic()
            for request in self._all_requests():
                request.end_by(now)
            self._changed.notify()

    def fail_all(self, error: RequestError) -> None:
        """Report an error to every request and to all later ones, for a thread of ``run`` that has ended."""
        with self._changed:
            self._failure = error
            requests = self._all_requests()
        for request in requests:
            request.on_error(error)

    def run(self) -> None:
        """Run steps until ``stop`` is called."""
        while True:
            with self._changed:
                while not (self.unfinished or self._stopped):
                    self._beat()
                    self._changed.wait(_IDLE_BEAT_S)
                if self._stopped:
                    return
            self.step()

    def stop(self) -> None:
        """Let ``run`` return after its current step. Unfinished requests get no further callback."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def step(self) -> None:
        """Drop cancelled sequences, give free rows to waiting requests, prefill, and decode all rows once."""
        now = time.monotonic()
        self._beat()
        for sequence in [*self._running.values(), *self._prefilling]:
            if sequence.request.cancelled:
                self._free(sequence)
        for sequence in list(self._prefilling):
            if now >= sequence.request.deadline and not sequence.tokens:
                _end_without_tokens(sequence.request)
                self._metrics.finished("time_limit")
                self._free(sequence)
        self._refill_full_rows()
        self._fill_free_rows()
        if self._prefill():
            self._after_step()  # first tokens do not wait for the decode step
        self._decode()
        self._metrics.rows_busy.set(len(self._running) + len(self._prefilling))
        self._metrics.queue_length.set(len(self._waiting))
        self._after_step()

    def _all_requests(self) -> list[Request]:
        sequences = [*self._running.values(), *self._prefilling]
        return [*self._waiting, *(sequence.request for sequence in sequences)]

    def _fill_free_rows(self) -> None:
        seeded = not self._backend.samples_on_device
        while assignment := self._next_assignment():
            row, request = assignment
            try:
                sequence = Sequence(
                    row, request, self._backend.shapes, self._tokenizer, self._eos_ids, seeded=seeded
                )
            except Exception as error:
                self._fail(request, error, f"a request could not be given row {row}")
                with self._changed:
                    self._finish(request)
                    self._give_back(row)
                continue
            self._prefilling.append(sequence)
            self._metrics.prompt_tokens.inc(len(request.prompt_ids))

    def _next_assignment(self) -> tuple[int, Request] | None:
        """A free row and the request that gets it, or None; requests whose deadline has come are ended."""
        assignment: tuple[int, Request] | None = None
        with self._changed:
            ended = self._waiting.pop_ended(time.monotonic())
            for request in ended:
                self._finish(request)
            if self._free_rows and (next_request := self._waiting.pop()):
                assignment = self._free_rows.pop(0), next_request
        for request in ended:
            if not request.cancelled:
                _end_without_tokens(request)
        return assignment

    def _refill_full_rows(self) -> None:
        """Prefill full rows again with a window of their ids, before new prompts: they run already."""
        full = [sequence for sequence in self._running.values() if sequence.is_full]
        for sequence in full:
            sequence.refill()
            self._backend.release(sequence.row)
            del self._running[sequence.row]
            self._prefilling.appendleft(sequence)
            self._metrics.refills.inc()

    def _prefill(self) -> bool:
        """Run up to ``prefills_per_step`` prefills; whether they gave new tokens."""
        has_tokens = False
        began, stalled_rows, prefills = time.perf_counter(), len(self._running), 0
        while self._prefilling and prefills < self._prefills_per_step:
            chunks = self._next_chunks()
            step = self._backend.prefill(chunks)
            self._beat()
            prefills += 1
            complete = [index for index, chunk in enumerate(chunks) if chunk.last]
            sequences = [self._prefilling[index] for index in complete]
            new = [sequence for sequence in sequences if not sequence.tokens]
            for sequence in sequences:
                self._prefilling.remove(sequence)
                self._running[sequence.row] = sequence
            if sequences:
                has_tokens = True
                self._advance(sequences, step.select(complete))
            for sequence in new:
                self._metrics.time_to_first_token.observe(time.monotonic() - sequence.request.arrival)
        if stalled_rows and prefills:
            self._metrics.prefill_stall.observe(time.perf_counter() - began)
        return has_tokens

    def _next_chunks(self) -> list[PrefillChunk]:
        """The chunks of the next prefill, from the sequences in their order."""
        size = self._backend.max_prefill_tokens
        if size is None:
            return [self._prefilling[0].next_chunk(None)]
        chunks: list[PrefillChunk] = []
        for sequence in self._prefilling:
            chunks.append(sequence.next_chunk(size))
            size -= len(chunks[-1].ids)
            if not size:
                break
        return chunks

    def _decode(self) -> None:
        if not self._running:
            return
        began = time.perf_counter()
        sequences = [self._running[row] for row in sorted(self._running)]
        step = self._backend.decode(
            [sequence.row for sequence in sequences], [sequence.last_id for sequence in sequences]
        )
        self._advance(sequences, step)
        self._metrics.step.observe(time.perf_counter() - began)

    def _advance(self, sequences: list[Sequence], step: StepOutput) -> None:
        """Add the next token of each sequence; finished ones free their row."""
        self._metrics.generated_tokens.inc(len(sequences))
        for sequence, token in zip(sequences, choose_tokens(step, sequences), strict=True):
            try:
                if isinstance(token, RequestError):
                    raise token
                finish_reason = sequence.append(token)
            except Exception as error:
                # A failure in one row must not end the others.
                self._fail(sequence.request, error, f"row {sequence.row} could not be advanced")
                finish_reason = "error"
            if finish_reason:
                self._metrics.finished(finish_reason)
                self._free(sequence)

    @staticmethod
    def _fail(request: Request, error: Exception, what: str) -> None:
        """Report an error to one request; any but a ``RequestError`` is logged."""
        if not isinstance(error, RequestError):
            logger.error(what, exc_info=error)
            error = RequestError(500, "internal_error", "the engine could not continue this text")
        request.on_error(error)

    def _free(self, sequence: Sequence) -> None:
        """Give the sequence's row back."""
        if sequence.row in self._running or sequence.in_backend:
            self._backend.release(sequence.row)
        if self._running.pop(sequence.row, None) is None:
            self._prefilling.remove(sequence)
        with self._changed:
            self._finish(sequence.request)
            self._give_back(sequence.row)

    def _give_back(self, row: int) -> None:
        # Sorted, so that rows fill up from 0: the CPU backend computes rows 0..n up to the highest one.
        self._free_rows.append(row)
        self._free_rows.sort()

    def _finish(self, request: Request) -> None:
        """Count a request out."""
        request.group.unfinished -= 1
        remaining = request.group.unfinished
        self._admission.release(remaining + 1, remaining)


def _end_without_tokens(request: Request) -> None:
    """End a request whose deadline came before its first token.

    It is an error only if the whole call has no token, so that no other text of the call is lost.
    """
    if request.group.has_tokens:
        request.end_without_tokens()
    else:
        request.on_error(queue_timeout())
