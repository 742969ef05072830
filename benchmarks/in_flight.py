"""Many calls of ``AsyncEndpoint`` at once: ``python -m benchmarks.in_flight URL CALLS CALLERS``.

It prints the seconds, and by how many MB the process grew over one that has made a single call. Nothing heavy
is imported, so that some MB are not lost in the gigabyte of torch.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from pathlib import Path

import boto3

from inf2kit import AsyncEndpoint, TextResult


async def _call(url: str, calls: int, callers: int) -> dict[str, float]:
    session = boto3.session.Session("local", "local", region_name="us-east-1")
    async with AsyncEndpoint("e", endpoint_url=url, session=session) as endpoint:
        await endpoint.generate("x")
        idle_mb = _memory_mb()
        began = time.perf_counter()
        results = [each async for each in endpoint.generate_many(["x"] * calls, concurrency=callers)]
        took_s = time.perf_counter() - began
    assert all(isinstance(result, TextResult) for result in results)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": took_s, "idle_mb": idle_mb, "grew_mb": peak_mb - idle_mb}


def _memory_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1024**2


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_call(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))))
