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
    workers: set[asyncio.Task[None]] = set()
    finished: asyncio.Queue[tuple[int, Outcome] | Exception] = asyncio.Queue()

    async def work(item: tuple[int, Prompt] | None) -> None:
        # A worker goes on by itself: it need not wait until the answers of all others were read.
        try:
            while item is not None:
                index, prompt = item
                finished.put_nowait((index, await call(prompt)))
                item = queued.begin()
        except Exception as error:  # of the caller's own prompts or callbacks
            finished.put_nowait(error)

    try:
        while True:
            while len(workers) < concurrency and (item := queued.begin()) is not None:
                worker = asyncio.ensure_future(work(item))
                workers.add(worker)
                worker.add_done_callback(workers.discard)
            if not queued.pending:
                return
            answer = await finished.get()
            if isinstance(answer, Exception):
                raise answer
            for outcome in queued.finish(*answer):
                yield outcome
    finally:
        running = list(workers)
        for worker in running:
            worker.cancel()
        await asyncio.gather(*running, return_exceptions=True)
