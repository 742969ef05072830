"""The counters of the container itself, where its ``/metrics`` can be reached."""

from __future__ import annotations

from collections.abc import Mapping

import httpx

#: Counters and sums that a cell adds to.
_INCREASING = ("_total", "_sum", "_count", "_restarts")
_TIMEOUT_S = 10.0


class ServerMetrics:
    """Reads ``/metrics``.

    Args:
        url: The address of the page; None if it cannot be reached, as on AWS.
    """

    def __init__(self, url: str | None) -> None:
        self.url = url

    async def read(self) -> dict[str, float] | None:
        """Return the current values by name, summed over their labels; None if they cannot be read."""
        if self.url is None:
            return None
        try:
            from inf2kit.serving.engine.metrics import parse_samples

            async with httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False) as client:
                response = await client.get(self.url)
            return parse_samples(response.text) if response.status_code == 200 else None
        except (ImportError, ValueError, httpx.HTTPError):  # its parser is in the extra 'local'
            return None


def increases(
    before: Mapping[str, float] | None, after: Mapping[str, float] | None
) -> dict[str, float] | None:
    """Return by how much counters have grown, and gauges as they are; None if one of the two is not known."""
    if before is None or after is None:
        return None
    return {
        name: value - before.get(name, 0.0) if name.endswith(_INCREASING) else value
        for name, value in after.items()
    }
