"""The client of endpoints. It is light: boto3 is imported when the first endpoint is created."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inf2kit.client.endpoint import Endpoint
from inf2kit.client.options import Retry
from inf2kit.client.progress import Progress
from inf2kit.client.results import TextResult, Timings
from inf2kit.client.text_stream import TextStream

if TYPE_CHECKING:
    from inf2kit.client.async_endpoint import AsyncEndpoint
    from inf2kit.client.async_text_stream import AsyncTextStream

__all__ = [
    "AsyncEndpoint",
    "AsyncTextStream",
    "Endpoint",
    "Progress",
    "Retry",
    "TextResult",
    "TextStream",
    "Timings",
]


def __getattr__(name: str) -> Any:
    """Import what needs httpx when it is asked for."""
    if name == "AsyncEndpoint":
        from inf2kit.client.async_endpoint import AsyncEndpoint

        return AsyncEndpoint
    if name == "AsyncTextStream":
        from inf2kit.client.async_text_stream import AsyncTextStream

        return AsyncTextStream
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
