"""Blocking calls from an event loop, in threads that nobody waits for when the run is interrupted."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

_Result = TypeVar("_Result")


async def run_in_thread(function: Callable[..., _Result], *arguments: Any) -> _Result:
    """Call a function in a thread of its own, and return its result.

    If the task is cancelled, the call goes on by itself and its outcome is dropped. The interpreter does not
    wait for it at its end, as it would for the threads of a pool.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[_Result] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if outcome.cancelled():
            return
        if error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(result)

    def call() -> None:
        result, error = None, None
        try:
            result = function(*arguments)
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=call, daemon=True).start()
    return await outcome
