"""Many calls of ``AsyncEndpoint`` at once: ``python -m benchmarks.in_flight URL CALLS CALLERS``.

It prints the seconds, and by how many MB the process grew over one that has made a single call. Nothing heavy
is imported, so that some MB are not lost in the gigabyte of torch.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import boto3

from inf2kit import AsyncEndpoint, TextResult


async def _call(url: str, calls: int, callers: int) -> dict[str, float]:
    session = boto3.session.Session("local", "local", region_name="us-east-1")
    async with AsyncEndpoint("e", endpoint_url=url, session=session) as endpoint:
        await endpoint.generate("x")
        idle_mb = _memory_mb("VmRSS")
        began = time.perf_counter()
        results = [each async for each in endpoint.generate_many(["x"] * calls, concurrency=callers)]
        took_s = time.perf_counter() - began
    assert all(isinstance(result, TextResult) for result in results)
    return {"seconds": took_s, "idle_mb": idle_mb, "grew_mb": _memory_mb("VmHWM") - idle_mb}


def _memory_mb(name: str) -> float:
    """Read a value of this process. Its ``ru_maxrss`` would be that of the process which has started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition(f"{name}:")[2].split()[0]) / 1024


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_call(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))))
