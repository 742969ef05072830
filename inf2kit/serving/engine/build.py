"""From settings to a model that answers: backend, tokenizer, scheduler, both graphs warmed."""

from __future__ import annotations

import time
from collections.abc import Callable

from inf2kit.serving.engine import backend as backends
from inf2kit.serving.engine.heartbeat import Heartbeat
from inf2kit.serving.engine.input_processor import Intake, PlainText, eos_ids, load_tokenizer
from inf2kit.serving.engine.metrics import EngineMetrics
from inf2kit.serving.engine.scheduler import Scheduler
from inf2kit.serving.engine.settings import Settings

#: A step may take so many times the slowest one of the warm-up before the engine counts as stuck.
_SLOWER = 10
#: Seconds that it may take in any case: a device may be busy with its own affairs for longer than a CPU.
_LEAST_STALL_S = {"neuron": 60.0}
_LEAST_STALL_ELSEWHERE_S = 5.0


def load(
    settings: Settings,
    metrics: EngineMetrics,
    after_step: Callable[[], None] = lambda: None,
    heartbeat: Heartbeat | None = None,
) -> tuple[Intake, Scheduler]:
    """Load, and prove that the model answers, on the thread that will serve it.

    Args:
        settings: Of the endpoint.
        metrics: Where to count.
        after_step: Called after every step of the scheduler.
        heartbeat: Begins when the model answers, and beats with every step from then on.

    Raises:
        ModelDirectoryError: the model cannot be loaded.
        DeviceBusyError: another process holds the device.
    """
    backend = backends.create(settings)
    backend.load()
    tokenizer = load_tokenizer(settings)
    intake = Intake(settings, backend, tokenizer)
    slowest_s = _warm_up(backend)
    if heartbeat:
        least_s = _LEAST_STALL_S.get(settings.backend, _LEAST_STALL_ELSEWHERE_S)
        heartbeat.begin(settings.stall_s or max(least_s, _SLOWER * slowest_s))
    scheduler = Scheduler(
        backend,
        PlainText(tokenizer),
        eos_ids(settings, tokenizer),
        queue_size=settings.queue_size,
        prefills_per_step=settings.prefills_per_step,
        metrics=metrics,
        after_step=after_step,
        beat=heartbeat.beat if heartbeat else lambda: None,
    )
    return intake, scheduler


def _warm_up(backend: backends.Backend) -> float:
    """A real prefill, as long as one may be, and a real decode; the seconds that the slower one took.

    Ready must mean that the next call is answered.
    """
    longest = min(backend.max_prefill_tokens or 2, backend.shapes.max_context_length)
    seconds = [_seconds_of(lambda: backend.prefill([backends.PrefillChunk(0, [0] * longest)]))]
    if backend.shapes.sequence_length > longest:
        seconds.append(_seconds_of(lambda: backend.decode([0], [0])))
    backend.release(0)
    return max(seconds)


def _seconds_of(step: Callable[[], object]) -> float:
    began = time.monotonic()
    step()
    return time.monotonic() - began
