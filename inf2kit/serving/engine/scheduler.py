"""Waiting jobs to free rows, one decode step after the other, all on one thread."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from inf2kit.errors import RequestError
from inf2kit.serving.engine.admission import Admission, queue_timeout
from inf2kit.serving.engine.backend import Backend, PrefillChunk, StepOutput
from inf2kit.serving.engine.detokenizer import TokenDecoder
from inf2kit.serving.engine.fair_queue import Waiting
from inf2kit.serving.engine.metrics import EngineMetrics
from inf2kit.serving.engine.sampler import logprobs, sample
from inf2kit.serving.engine.sequence import Job, Slot

log = logging.getLogger(__name__)

_NONE = -1
#: Seconds between two beats of an engine that has nothing to do.
_IDLE_BEAT_S = 1.0


class Scheduler:
    """Owns the rows of one backend.

    ``submit``, ``wake``, ``end_all`` and ``stop`` may be called from any thread; everything else belongs to
    the thread that calls ``run``, which is the only one that touches the backend.

    Args:
        backend: Loaded.
        tokenizer: For the new text.
        eos_ids: Ids that end a text.
        queue_size: Jobs that may wait for a row.
        prefills_per_step: Prefills between two decode steps, so that running rows do not stall behind a burst
            of arrivals. A backend may take several short prompts, or a part of a long one, in one.
        metrics: Where to count.
        after_step: Called after every step, when jobs have been told what they got.
        beat: Called whenever the backend has answered, and every second while there is nothing to do.
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
        self._after_step = after_step
        self._beat = beat
        self._free = list(range(backend.shapes.batch_size))
        # Rows whose ids are not all in yet, in the order in which they are encoded, and rows that run.
        self._encoding: deque[Slot] = deque()
        self._live: dict[int, Slot] = {}
        self._waiting = Waiting()
        self._changed = threading.Condition()
        self._stopped = False

    @property
    def inside(self) -> int:
        """Jobs that hold a row or wait for one."""
        return self._backend.shapes.batch_size - len(self._free) + len(self._waiting)

    def submit(self, jobs: list[Job], *, instead_of: Sequence[Job] = ()) -> None:
        """Queue the jobs of one call, which share their ``call``, all or none.

        Args:
            jobs: Of one call.
            instead_of: Jobs of the same call that nobody waits for any more; they leave, and these come in
                however many others there are.

        Raises:
            RequestError: 429 ``queue_full``.
        """
        with self._changed:
            for job in instead_of:
                job.cancelled = True
            self._admission.enter(len(jobs), always=bool(instead_of))
            jobs[0].call.left = len(jobs)
            self._waiting.add(jobs)
            self._changed.notify()

    def wake(self) -> None:
        """Look at the jobs again: some were cancelled. Those that wait leave at once."""
        with self._changed:
            for job in self._waiting.take_ended(-math.inf):
                self._gone(job)
            self._changed.notify()

    def end_all(self) -> None:
        """End every text that is inside with what it has, as if its deadline had come."""
        with self._changed:
            now = time.monotonic()
            for job in [*self._waiting, *(slot.job for slot in (*self._live.values(), *self._encoding))]:
                job.deadline = min(job.deadline, now)
            self._changed.notify()

    def fail_all(self, error: RequestError) -> None:
        """Tell every caller that is inside of an error; for the thread of ``run``, when it cannot go on."""
        with self._changed:
            jobs = [*self._waiting, *(slot.job for slot in (*self._live.values(), *self._encoding))]
        for job in jobs:
            job.on_error(error)

    def run(self) -> None:
        """Serve until ``stop``, in an engine for ever."""
        while True:
            with self._changed:
                while not (self.inside or self._stopped):
                    self._beat()
                    self._changed.wait(_IDLE_BEAT_S)
                if self._stopped:
                    return
            self.step()

    def stop(self) -> None:
        """Let ``run`` return after its current step; what is inside is left where it is."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def step(self) -> None:
        """Drop what nobody waits for, let jobs in, decode all live rows once."""
        now = time.monotonic()
        self._beat()
        for slot in [*self._live.values(), *self._encoding]:
            if slot.job.cancelled:
                self._leave(slot)
        for slot in [slot for slot in self._encoding if now >= slot.job.deadline and not slot.tokens]:
            _too_late(slot.job)
            self._metrics.finished("time_limit")
            self._leave(slot)
        self._refill_full_rows()
        self._let_in()
        if self._encode():
            self._after_step()  # first tokens do not wait for the decode step after them
        self._decode()
        self._metrics.rows_busy.set(len(self._live) + len(self._encoding))
        self._metrics.queue_length.set(len(self._waiting))
        self._after_step()

    def _let_in(self) -> None:
        """Rows to the jobs whose turn it is."""
        while taken := self._next_job():
            row, job = taken
            seeded = not self._backend.samples_on_device
            self._encoding.append(
                Slot(row, job, self._backend.shapes, self._tokenizer, self._eos_ids, seeded=seeded)
            )
            self._metrics.prompt_tokens.inc(len(job.prompt_ids))

    def _next_job(self) -> tuple[int, Job] | None:
        """A row, if there is one, and the next job that still wants it; expired ones are told so."""
        chosen: tuple[int, Job] | None = None
        with self._changed:
            ended = self._waiting.take_ended(time.monotonic())
            for job in ended:
                self._gone(job)
            if self._free and (next_job := self._waiting.take()):
                chosen = self._free.pop(0), next_job
        for job in ended:
            if not job.cancelled:
                _too_late(job)
        return chosen

    def _gone(self, job: Job) -> None:
        """A job is not inside any more."""
        left = job.call.left = job.call.left - 1
        self._admission.leave(left + 1, left)

    def _refill_full_rows(self) -> None:
        """Full rows that are to go on are encoded anew, before any new prompt: they are running already."""
        full = [slot for slot in self._live.values() if slot.is_full()]
        for slot in full:
            slot.refill()
            self._backend.release(slot.row)
            del self._live[slot.row]
            self._encoding.appendleft(slot)
            self._metrics.refills.inc()

    def _encode(self) -> bool:
        """Encode waiting ids, only as many as live rows can bear; whether there are new tokens of it."""
        told = False
        began, waited_for, done = time.perf_counter(), len(self._live), 0
        while self._encoding and done < self._prefills_per_step:
            chunks = self._next_chunks()
            step = self._backend.prefill(chunks)
            self._beat()
            done += 1
            encoded = [index for index, chunk in enumerate(chunks) if chunk.last]
            slots = [self._encoding[index] for index in encoded]
            first = [slot for slot in slots if not slot.tokens]
            for slot in slots:
                self._encoding.remove(slot)
                self._live[slot.row] = slot
            if slots:
                told = True
                self._advance(slots, step.select(encoded))
            for slot in first:
                self._metrics.time_to_first_token.observe(time.monotonic() - slot.job.arrival)
        if waited_for and done:
            self._metrics.prefill_stall.observe(time.perf_counter() - began)
        return told

    def _next_chunks(self) -> list[PrefillChunk]:
        """What the next prefill takes, of the slots in their order."""
        size = self._backend.max_prefill_tokens
        if size is None:
            return [self._encoding[0].next_chunk(None)]
        chunks: list[PrefillChunk] = []
        for slot in self._encoding:
            chunks.append(slot.next_chunk(size))
            size -= len(chunks[-1].ids)
            if not size:
                break
        return chunks

    def _decode(self) -> None:
        if not self._live:
            return
        began = time.perf_counter()
        slots = [self._live[row] for row in sorted(self._live)]
        step = self._backend.decode([slot.row for slot in slots], [slot.last_id for slot in slots])
        self._advance(slots, step)
        self._metrics.step.observe(time.perf_counter() - began)

    def _advance(self, slots: Sequence[Slot], step: StepOutput) -> None:
        """Choose the next id of each slot; finished ones leave."""
        probabilities: list[float | None] = [None] * len(slots)
        if step.ids is not None:
            ids = list(step.ids)
        else:
            ids = _chosen(step, slots)
            wanted = [index for index, slot in enumerate(slots) if slot.job.with_tokens]
            if wanted:
                found = logprobs(step.select(wanted).logits, [max(ids[index], 0) for index in wanted])
                for index, value in zip(wanted, found, strict=True):
                    probabilities[index] = value
        self._metrics.generated_tokens.inc(len(slots))
        for slot, token_id, probability in zip(slots, ids, probabilities, strict=True):
            try:
                if token_id == _NONE:
                    raise ValueError("no token can be chosen")
                finish_reason = slot.take(token_id, probability)
            except Exception:
                # What one row's caller does must not end the others' texts.
                log.exception("row %d could not be advanced", slot.row)
                slot.job.on_error(
                    RequestError(500, "internal_error", "the engine could not go on with this text")
                )
                finish_reason = "error"
            if finish_reason:
                self._metrics.finished(finish_reason)
                self._leave(slot)

    def _leave(self, slot: Slot) -> None:
        if slot.row in self._live or slot.encoded:
            self._backend.release(slot.row)
        if self._live.pop(slot.row, None) is None:
            self._encoding.remove(slot)
        with self._changed:
            self._gone(slot.job)
            # The lowest row first: a backend whose arithmetic covers rows 0..n then has little to do.
            self._free.append(slot.row)
            self._free.sort()


def _chosen(step: StepOutput, slots: Sequence[Slot]) -> list[int]:
    """The next id of each slot; one whose parameters cannot be computed has none, and the others go on."""
    try:
        return sample(step.logits, [slot.sampling for slot in slots])
    except Exception:
        if len(slots) == 1:
            log.exception("row %d: no token can be chosen", slots[0].row)
            return [_NONE]
    return [_chosen(step.select([index]), [slot])[0] for index, slot in enumerate(slots)]


def _too_late(job: Job) -> None:
    """The deadline came before the first token; what other prompts of the call have is not lost for that."""
    if job.call.has_tokens:
        job.end_without_a_token()
    else:
        job.on_error(queue_timeout())
