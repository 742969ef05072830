"""inf2kit: Llama text generation on AWS Inferentia2 with Amazon SageMaker.

    from inf2kit import Endpoint

    print(Endpoint("smollm2-135m-local").generate("My favorite place on earth is").text)

Importing this package is light: boto3 and the engine are imported where they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inf2kit._version import __version__
from inf2kit.errors import (
    CheckpointError,
    CloudError,
    CompileError,
    DeploymentError,
    EndpointError,
    Inf2KitError,
    LocalEndpointError,
    ModelDirectoryError,
    PackageError,
    PresetError,
    RequestError,
)

if TYPE_CHECKING:
    from inf2kit.client import Endpoint, TextResult
    from inf2kit.offline import Model, load
    from inf2kit.presets import Preset, load_preset, preset_names

__all__ = [
    "CheckpointError",
    "CloudError",
    "CompileError",
    "DeploymentError",
    "Endpoint",
    "EndpointError",
    "Inf2KitError",
    "LocalEndpointError",
    "Model",
    "ModelDirectoryError",
    "PackageError",
    "Preset",
    "PresetError",
    "RequestError",
    "TextResult",
    "__version__",
    "load",
    "load_preset",
    "preset_names",
]

_LAZY = {
    "Endpoint": "inf2kit.client",
    "TextResult": "inf2kit.client",
    "Model": "inf2kit.offline",
    "load": "inf2kit.offline",
    "Preset": "inf2kit.presets",
    "load_preset": "inf2kit.presets",
    "preset_names": "inf2kit.presets",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return __all__
