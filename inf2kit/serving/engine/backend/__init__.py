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
    if settings.backend == "torch":
        from inf2kit.serving.engine.backend.cpu.backend import TorchBackend

        return TorchBackend(settings.model_dir, settings.shapes, settings.dtype)
    if settings.backend == "neuron":
        from inf2kit.serving.engine.backend.neuron import NeuronBackend

        return NeuronBackend(settings.model_dir, settings.shapes)
    if settings.backend == "replay":
        from inf2kit.serving.engine.backend.simulated import ReplayBackend

        try:
            return ReplayBackend(settings.model_dir, settings.shapes, **settings.replay)
        except TypeError as error:
            raise ModelDirectoryError(f"an INF2KIT_REPLAY_ variable is unknown: {error}") from None
    raise ModelDirectoryError(
        f"the backend {settings.backend!r} is not in this version of inf2kit; "
        "use 'neuron', 'torch' or 'replay'"
    )
