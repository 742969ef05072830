"""From settings to a model that answers: backend, tokenizer, scheduler, both graphs warmed."""

from __future__ import annotations

from collections.abc import Callable

from engine import backend as backends
from engine.intake import Intake, PlainText, eos_ids, load_tokenizer
from engine.metrics import EngineMetrics
from engine.scheduler import Scheduler
from engine.settings import Settings


def load(
    settings: Settings, metrics: EngineMetrics, after_step: Callable[[], None] = lambda: None
) -> tuple[Intake, Scheduler]:
    """Load, and prove that the model answers, on the thread that will serve it.

    Args:
        settings: Of the endpoint.
        metrics: Where to count.
        after_step: Called after every step of the scheduler.

    Raises:
        ModelDirectoryError: the model cannot be loaded.
        DeviceBusyError: another process holds the device.
    """
    backend = backends.create(settings)
    backend.load()
    tokenizer = load_tokenizer(settings)
    intake = Intake(settings, backend, tokenizer)
    _warm_up(backend)
    scheduler = Scheduler(
        backend,
        PlainText(tokenizer),
        eos_ids(settings, tokenizer),
        queue_size=settings.queue_size,
        prefills_per_step=settings.prefills_per_step,
        metrics=metrics,
        after_step=after_step,
    )
    return intake, scheduler


def _warm_up(backend: backends.Backend) -> None:
    """A real prefill and a real decode: ready must mean that the next call is answered."""
    backend.prefill([backends.Chunk(0, [0, 1] if backend.shapes.max_context_length > 1 else [0])])
    if backend.shapes.sequence_length > 2:
        backend.decode([0], [0])
    backend.release(0)
