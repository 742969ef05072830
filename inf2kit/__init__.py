"""inf2kit: Llama text generation on AWS Inferentia2 with Amazon SageMaker.

    from inf2kit import Endpoint

    print(Endpoint("smollm2-135m-local").generate("My favorite place on earth is").text)

Importing this package is light: what is heavy is imported where it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inf2kit._version import __version__

if TYPE_CHECKING:
    from inf2kit.client.endpoint import Endpoint, TextResult
    from inf2kit.offline import Model, load
    from inf2kit.presets import Preset, load_preset, preset_names

__all__ = [
    "Endpoint",
    "Model",
    "Preset",
    "TextResult",
    "__version__",
    "load",
    "load_preset",
    "preset_names",
]

_HOMES = {
    "Endpoint": "inf2kit.client.endpoint",
    "TextResult": "inf2kit.client.endpoint",
    "Model": "inf2kit.offline",
    "load": "inf2kit.offline",
    "Preset": "inf2kit.presets",
    "load_preset": "inf2kit.presets",
    "preset_names": "inf2kit.presets",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
