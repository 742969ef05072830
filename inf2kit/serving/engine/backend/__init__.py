"""Backends: what computes. ``contract`` says what each must do; ``create`` picks one by name."""

from __future__ import annotations

from inf2kit.errors import ModelDirectoryError
from inf2kit.serving.engine.backend.base import Backend, Chunk, DeviceBusyError, Step, may_pass
from inf2kit.serving.engine.settings import Settings

__all__ = ["Backend", "Chunk", "DeviceBusyError", "Step", "create", "may_pass"]


def create(settings: Settings) -> Backend:
    """The backend that the settings name, not loaded yet.

    Raises:
        ModelDirectoryError: there is no such backend in this version, or the model is not one of its.
    """
    if settings.backend == "cpu":
        from inf2kit.serving.engine.backend.cpu.backend import CpuBackend

        return CpuBackend(settings.model_dir, settings.shapes, settings.dtype)
    if settings.backend == "neuron":
        from inf2kit.serving.engine.backend.neuron import NeuronBackend

        return NeuronBackend(settings.model_dir, settings.shapes)
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
