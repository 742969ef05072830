"""inf2kit: Llama text generation on AWS Inferentia2 with Amazon SageMaker.

    from inf2kit import Endpoint

    print(Endpoint("smollm2-135m-local").generate("My favorite place on earth is").text)

Importing this package is light: boto3 and the engine are imported where they are first used.
"""

from __future__ import annotations

from inf2kit._version import __version__

TYPE_CHECKING = False  # typing takes longer to import than all that is here
if TYPE_CHECKING:
    from typing import Any

    from inf2kit.client import (
        AsyncEndpoint,
        AsyncJob,
        AsyncTextStream,
        Endpoint,
        Job,
        Progress,
        Retry,
        TextResult,
        TextStream,
        Timings,
    )
    from inf2kit.errors import (
        CallTooLongError,
        CheckpointError,
        CloudError,
        CompileError,
        DeploymentError,
        EndpointAccessError,
        EndpointBusyError,
        EndpointConnectionError,
        EndpointError,
        EndpointInterruptedError,
        EndpointRequestError,
        EndpointServerError,
        EndpointTimeoutError,
        Inf2KitError,
        JobError,
        LocalEndpointError,
        ModelDirectoryError,
        PackageError,
        PlanError,
        PresetError,
        RequestError,
    )
    from inf2kit.offline import Model, load
    from inf2kit.presets import Preset, load_preset, preset_names

__all__ = [
    "AsyncEndpoint",
    "AsyncJob",
    "AsyncTextStream",
    "CallTooLongError",
    "CheckpointError",
    "CloudError",
    "CompileError",
    "DeploymentError",
    "Endpoint",
    "EndpointAccessError",
    "EndpointBusyError",
    "EndpointConnectionError",
    "EndpointError",
    "EndpointInterruptedError",
    "EndpointRequestError",
    "EndpointServerError",
    "EndpointTimeoutError",
    "Inf2KitError",
    "Job",
    "JobError",
    "LocalEndpointError",
    "Model",
    "ModelDirectoryError",
    "PackageError",
    "PlanError",
    "Preset",
    "PresetError",
    "Progress",
    "RequestError",
    "Retry",
    "TextResult",
    "TextStream",
    "Timings",
    "__version__",
    "load",
    "load_preset",
    "preset_names",
]

#: Where the names are; those of the errors are in inf2kit.errors.
_LAZY = {
    "AsyncEndpoint": "inf2kit.client",
    "AsyncJob": "inf2kit.client",
    "AsyncTextStream": "inf2kit.client",
    "Endpoint": "inf2kit.client",
    "Job": "inf2kit.client",
    "Progress": "inf2kit.client",
    "Retry": "inf2kit.client",
    "TextResult": "inf2kit.client",
    "TextStream": "inf2kit.client",
    "Timings": "inf2kit.client",
    "Model": "inf2kit.offline",
    "load": "inf2kit.offline",
    "Preset": "inf2kit.presets",
    "load_preset": "inf2kit.presets",
    "preset_names": "inf2kit.presets",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LAZY.get(name, "inf2kit.errors")), name)


def __dir__() -> list[str]:
    return __all__
