"""Many prompts at once, on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

from inf2kit.client.batch import Outcome, Prompt, Queue


async def run_in_tasks(
    call: Callable[[Prompt], Awaitable[Outcome]], queued: Queue, concurrency: int
) -> AsyncGenerator[tuple[int, Outcome], None]:
    """Call with every prompt, and yield indices and outcomes.

    If the caller stops early, the calls that run are cancelled.

    Args:
        call: Makes one call.
        queued: The prompts.
        concurrency: Number of calls at the same time.
    """
    running: set[asyncio.Task[tuple[int, Outcome]]] = set()
    finished: asyncio.Queue[asyncio.Task[tuple[int, Outcome]]] = asyncio.Queue()

    async def call_one(index: int, prompt: Prompt) -> tuple[int, Outcome]:
        return index, await call(prompt)

    try:
        while True:
            while len(running) < concurrency and (item := queued.take()) is not None:
                task = asyncio.ensure_future(call_one(*item))
                running.add(task)
                task.add_done_callback(finished.put_nowait)
            if not queued.pending:
                return
            task = await finished.get()
            running.discard(task)
            for outcome in queued.finish(*task.result()):
                yield outcome
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
