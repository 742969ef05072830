"""Eight calls that are all under way, four of them streams, and how each of them ends."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from inf2kit.rehearsal.local.state import EndpointState
from tests.helpers.local_endpoint import EndpointCaller, read_metrics
from tests.helpers.servers import wait_until


def begin_eight_calls(
    endpoint: EndpointState, pool: ThreadPoolExecutor, lengths: Sequence[int]
) -> list[Future[str]]:
    """Begin four whole and four streamed calls, and wait until each has a row.

    Args:
        endpoint: An endpoint that serves nobody else.
        pool: Threads for the calls.
        lengths: New tokens of the four calls of each kind.

    Returns:
        The calls, each with its finish reason, or the type of its error.
    """
    caller, begun = EndpointCaller(endpoint), list[int]()
    calls = [pool.submit(_whole, caller, tokens) for tokens in lengths]
    calls += [pool.submit(_streamed, caller, tokens, begun) for tokens in lengths]
    wait_until(lambda: len(begun) > 20, "the streams are under way")
    wait_until(lambda: read_metrics(endpoint)["inf2kit_rows_busy"] == 8, "the engine has all eight")
    return calls


def _whole(caller: EndpointCaller, tokens: int) -> str:
    (answer,) = caller.generate("x", max_new_tokens=tokens, ignore_eos=True, details=True)
    return str(answer["details"]["finish_reason"])


def _streamed(caller: EndpointCaller, tokens: int, begun: list[int]) -> str:
    events = []
    parameters = {"max_new_tokens": tokens, "ignore_eos": True}
    for part in caller.parts({"inputs": "x", "parameters": parameters, "stream": True}):
        begun.append(1)
        events.append(part)
    last = json.loads(b"".join(events).split(b"\n\n")[-2].removeprefix(b"data: "))
    return str(last["details"]["finish_reason"] if "details" in last else last["error_type"])
