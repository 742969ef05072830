"""From settings to an engine that answers: backend, tokenizer and scheduler, with every graph run once."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from inf2kit.serving.engine import backend as backends
from inf2kit.serving.engine.input_processor import InputProcessor
from inf2kit.serving.engine.metrics import EngineMetrics
from inf2kit.serving.engine.scheduler import Scheduler
from inf2kit.serving.engine.tokenizer import (
    PlainDecoder,
    load_tokenizer,
    read_eos_ids,
    read_vocabulary_size,
)
from inf2kit.serving.settings import Settings
from inf2kit.serving.supervision.heartbeat import Heartbeat

#: An engine counts as stuck when a step takes this many times the slowest step of the warm-up.
_STALL_FACTOR = 10
#: Seconds that a step may take in any case, by backend: a device may pause for longer than a CPU.
_MIN_STALL_S = {"neuron": 60.0}
_DEFAULT_MIN_STALL_S = 5.0


@dataclass(frozen=True)
class Engine:
    """A loaded model: what reads its calls, and what runs them."""

    input_processor: InputProcessor
    scheduler: Scheduler


def build_engine(
    settings: Settings,
    metrics: EngineMetrics,
    after_step: Callable[[], None] = lambda: None,
    heartbeat: Heartbeat | None = None,
) -> Engine:
    """Load the model and run one prefill and one decode step. Call it on the thread that runs the scheduler.

    Args:
        settings: The endpoint's settings.
        metrics: Counts and times what happens.
        after_step: Called after every step of the scheduler.
        heartbeat: Begins when the model has answered, and beats with every step from then on.

    Raises:
        ModelDirectoryError: the model cannot be loaded.
        DeviceBusyError: another process holds the device.
    """
    backend = backends.create(settings)
    backend.load()
    tokenizer = load_tokenizer(settings)
    decoder = PlainDecoder(tokenizer)
    vocabulary_size = read_vocabulary_size(settings)
    input_processor = InputProcessor(settings, backend, tokenizer, decoder, vocabulary_size)
    eos_ids = read_eos_ids(settings, tokenizer, vocabulary_size)
    slowest_s = _warm_up(backend)
    if heartbeat:
        min_stall_s = _MIN_STALL_S.get(settings.backend, _DEFAULT_MIN_STALL_S)
        heartbeat.begin(settings.stall_s or max(min_stall_s, _STALL_FACTOR * slowest_s))
    scheduler = Scheduler(
        backend,
        decoder,
        eos_ids,
        queue_size=settings.queue_size,
        prefills_per_step=settings.prefills_per_step,
        metrics=metrics,
        after_step=after_step,
        beat=heartbeat.beat if heartbeat else lambda: None,
    )
    return Engine(input_processor, scheduler)


def _warm_up(backend: backends.Backend) -> float:
    """Run the longest possible prefill and a decode step, so that the first call is not the first run.

    Returns:
        Seconds of the slower one.
    """
    longest = min(backend.max_prefill_tokens or 2, backend.shapes.max_context_length)
    seconds = [_time(lambda: backend.prefill([backends.PrefillChunk(0, [0] * longest)]))]
    if backend.shapes.sequence_length > longest:
        seconds.append(_time(lambda: backend.decode([0], [0])))
    backend.release(0)
    return max(seconds)


def _time(step: Callable[[], object]) -> float:
    began = time.monotonic()
    step()
    return time.monotonic() - began
