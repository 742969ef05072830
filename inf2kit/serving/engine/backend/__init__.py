"""Backends compute the steps of a model: ``base`` defines their interface, ``create`` makes one."""

from __future__ import annotations

from inf2kit.errors import ModelDirectoryError
from inf2kit.serving.engine.backend.base import (
    Backend,
    BatchError,
    DeviceBusyError,
    PrefillChunk,
    StepOutput,
    is_transient,
)
from inf2kit.serving.settings import Settings

__all__ = [
    "Backend",
    "BatchError",
    "DeviceBusyError",
    "PrefillChunk",
    "StepOutput",
    "create",
    "is_transient",
]


def create(settings: Settings) -> Backend:
    """Create the backend that the settings name; it is not loaded yet.

    Raises:
        ModelDirectoryError: this version has no such backend, or the backend cannot run this model.
    """
    if settings.backend == "cpu":
        from inf2kit.serving.engine.backend.cpu.backend import CpuBackend

        return CpuBackend(settings.model_dir, settings.shapes, settings.dtype, threads=settings.torch_threads)
    if settings.backend == "neuron":
        from inf2kit.serving.engine.backend.neuron import NeuronBackend

        first_core = settings.engine * settings.tensor_parallel_size
        return NeuronBackend(settings.model_dir, settings.shapes, first_core=first_core)
    if settings.backend == "simulated":
        from inf2kit.serving.engine.backend.simulated import SimulatedBackend

        try:
            return SimulatedBackend(settings.model_dir, settings.shapes, **settings.simulated)
        except TypeError as error:
            raise ModelDirectoryError(f"an INF2KIT_SIMULATED_ variable is unknown: {error}") from None
    raise ModelDirectoryError(
        f"the backend {settings.backend!r} is not in this version of inf2kit; "
        "use 'neuron', 'cpu' or 'simulated'"
    )
