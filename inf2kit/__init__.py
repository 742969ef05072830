"""inf2kit: Llama text generation on AWS Inferentia2 with Amazon SageMaker.

    from inf2kit import Endpoint

    print(Endpoint("smollm2-135m-local").generate("My favorite place on earth is").text)

Importing this package is light: what is heavy is imported where it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inf2kit.client import Endpoint, TextResult
    from inf2kit.inprocess import LocalModel, load
    from inf2kit.presets import Preset, load_preset, preset_names

__version__ = "0.1.0"

__all__ = [
    "Endpoint",
    "LocalModel",
    "Preset",
    "TextResult",
    "__version__",
    "load",
    "load_preset",
    "preset_names",
]

_HOMES = {
    "Endpoint": "inf2kit.client",
    "TextResult": "inf2kit.client",
    "LocalModel": "inf2kit.inprocess",
    "load": "inf2kit.inprocess",
    "Preset": "inf2kit.presets",
    "load_preset": "inf2kit.presets",
    "preset_names": "inf2kit.presets",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
