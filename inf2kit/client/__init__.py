"""The client of endpoints. It is light: boto3 is imported when the first endpoint is created."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from inf2kit.client.endpoint import Endpoint
from inf2kit.client.options import Retry
from inf2kit.client.progress import Progress
from inf2kit.client.results import TextResult, Timings
from inf2kit.client.text_stream import TextStream

if TYPE_CHECKING:
    from inf2kit.client.async_endpoint import AsyncEndpoint
    from inf2kit.client.async_jobs import AsyncJob
    from inf2kit.client.async_text_stream import AsyncTextStream
    from inf2kit.client.jobs import Job

__all__ = [
    "AsyncEndpoint",
    "AsyncJob",
    "AsyncTextStream",
    "Endpoint",
    "Job",
    "Progress",
    "Retry",
    "TextResult",
    "TextStream",
    "Timings",
]

#: What needs httpcore, or is needed seldom, is imported when it is asked for.
_LAZY = {
    "AsyncEndpoint": "inf2kit.client.async_endpoint",
    "AsyncJob": "inf2kit.client.async_jobs",
    "AsyncTextStream": "inf2kit.client.async_text_stream",
    "Job": "inf2kit.client.jobs",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
