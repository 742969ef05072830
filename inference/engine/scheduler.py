"""Waiting jobs to free rows, one decode step after the other, all on one thread."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque

from engine.admission import queue_full, queue_timeout
from engine.backend import Backend, Step
from engine.slots import Job, Slot
from engine.text import Detokenizer
from inf2kit.errors import RequestError

log = logging.getLogger(__name__)


class Scheduler:
    """Owns the rows of one backend.

    ``submit`` and ``wake`` may be called from any thread; everything else belongs to the thread that
    calls ``run``, which is the only one that touches the backend.

    Args:
        backend: Loaded.
        tokenizer: For the new text.
        eos_ids: Ids that end a text.
        queue_size: Jobs that may wait for a row.
        prefills_per_step: Prompts that may enter between two decode steps, so that running rows do not
            stall behind a burst of arrivals.
    """

    def __init__(
        self,
        backend: Backend,
        tokenizer: Detokenizer,
        eos_ids: frozenset[int],
        *,
        queue_size: int,
        prefills_per_step: int = 1,
    ) -> None:
        self._backend = backend
        self._tokenizer = tokenizer
        self._eos_ids = eos_ids
        self._max_inside = backend.shapes.batch_size + queue_size
        self._prefills_per_step = prefills_per_step
        self._free = list(range(backend.shapes.batch_size))
        self._live: dict[int, Slot] = {}
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()

    def submit(self, jobs: list[Job]) -> None:
        """Queue the jobs of one call, all or none.

        Raises:
            RequestError: 429 ``queue_full``.
        """
        with self._changed:
            inside = len(self._live) + len(self._waiting)
            if inside + len(jobs) > self._max_inside:
                raise queue_full(inside, self._max_inside)
            for job in jobs:
                self._insert(job)
            self._changed.notify()

    def wake(self) -> None:
        """Look at the jobs again: some were cancelled. Those that wait leave at once."""
        with self._changed:
            self._waiting = deque(job for job in self._waiting if not job.cancelled)
            self._changed.notify()

    def run(self) -> None:
        """Serve for ever."""
        while True:
            with self._changed:
                while not self._waiting and not self._live:
                    self._changed.wait()
            self.step()

    def step(self) -> None:
        """Drop what nobody waits for, let jobs in, decode all live rows once."""
        for slot in [slot for slot in self._live.values() if slot.job.cancelled]:
            self._leave(slot)
        for _ in range(self._prefills_per_step):
            job = self._next_job()
            if job is None:
                break
            self._enter(job)
        slots = [self._live[row] for row in sorted(self._live)]
        if slots:
            step = self._backend.decode([slot.row for slot in slots], [slot.last_id for slot in slots])
            for index, slot in enumerate(slots):
                self._advance(slot, step, index)

    def _insert(self, job: Job) -> None:
        # In order of arrival at the endpoint: a call may reach the engine later than one that came after.
        index = len(self._waiting)
        while index and self._waiting[index - 1].arrival > job.arrival:
            index -= 1
        self._waiting.insert(index, job)

    def _next_job(self) -> Job | None:
        """The next job that still wants a row, if there is a row; expired ones are told so."""
        expired: list[Job] = []
        chosen: Job | None = None
        with self._changed:
            now = time.monotonic()
            while self._waiting:
                job = self._waiting[0]
                if job.cancelled:
                    self._waiting.popleft()
                elif now >= job.deadline:
                    expired.append(self._waiting.popleft())
                elif self._free:
                    chosen = self._waiting.popleft()
                    break
                else:
                    break
        for job in expired:
            if job.call.started:
                job.end_without_a_row()
            else:
                job.on_error(queue_timeout())
        return chosen

    def _enter(self, job: Job) -> None:
        row = self._free.pop(0)
        job.call.started = True
        slot = Slot(row, job, self._tokenizer, self._eos_ids)
        with self._changed:
            self._live[row] = slot
        self._advance(slot, self._backend.prefill(row, job.prompt_ids), 0)

    def _advance(self, slot: Slot, step: Step, index: int) -> None:
        try:
            finished = (
                slot.take_id(step.ids[index])
                if step.ids is not None
                else slot.take_logits(step.logits[index])
            )
        except Exception:
            # One row's parameters must not end the others' texts.
            log.exception("row %d could not be advanced", slot.row)
            slot.job.on_error(
                RequestError(500, "internal_error", "the engine could not go on with this text")
            )
            finished = True
        if finished:
            self._leave(slot)

    def _leave(self, slot: Slot) -> None:
        self._backend.release(slot.row)
        with self._changed:
            del self._live[slot.row]
        # The lowest row first: a backend whose arithmetic covers rows 0..n then has little to do.
        self._free.append(slot.row)
        self._free.sort()
