"""Each process of an endpoint killed in the middle of eight calls: no caller hangs, and it serves again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from botocore.exceptions import ClientError, EventStreamError

from inf2kit.rehearsal.container import processes
from inf2kit.rehearsal.local.state import EndpointState
from tests.helpers.local_endpoint import EndpointCaller, find_processes, read_metrics
from tests.helpers.servers import PATIENCE_S, ping, wait_until

#: A text that takes 8 s, whatever its tokens are.
LONG = {"max_new_tokens": 400, "ignore_eos": True}


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as threads:
        yield threads


def whole(caller: EndpointCaller) -> str:
    """A call's end: its finish reason, or what it was refused with."""
    try:
        return str(caller.generate("x", details=True, **LONG)[0]["details"]["finish_reason"])
    except ClientError as error:
        return str(
            error.response.get("OriginalStatusCode") or error.response["ResponseMetadata"]["HTTPStatusCode"]
        )


def streamed(caller: EndpointCaller, begun: list[int]) -> str:
    """A stream's end: its finish reason, or how it broke off."""
    body = {"inputs": "x", "parameters": LONG, "stream": True}
    received = b""
    try:
        for part in caller.parts(body):
            if not received:
                begun.append(1)
            received += part
    except (EventStreamError, ClientError):
        return "503"
    last = received.split(b"\n\n")[-2]
    return "503" if b'"error_type": "unavailable"' in last else "length"


def eight_calls(victim: EndpointState, pool: ThreadPoolExecutor) -> list[Future[str]]:
    """Four whole and four streamed calls, all of them running."""
    caller, begun = EndpointCaller(victim), list[int]()
    calls = [pool.submit(whole, caller) for _ in range(4)]
    calls += [pool.submit(streamed, caller, begun) for _ in range(4)]
    wait_until(lambda: len(begun) == 4, "four streams have begun")
    wait_until(lambda: read_metrics(victim)["inf2kit_rows_busy"] == 8, "the engine has all eight")
    return calls


def serves_again(victim: EndpointState) -> None:
    wait_until(lambda: ping(victim.gateway_port) == 200, "/ping answers 200 again")
    assert EndpointCaller(victim).generate("x", max_new_tokens=2)


def inventory(victim: EndpointState) -> tuple[int, set[str]]:
    """Processes, and files in the run directory but for the model server's per-worker ones."""
    files = {
        path.name for path in Path(victim.run_dir).iterdir() if not path.name.endswith(("-stdout", "-stderr"))
    }
    return len(processes.list_processes(Path(victim.run_dir))), files


@pytest.mark.parametrize(
    "module",
    ["engine.server", "gateway.gateway", "supervision.supervisor"],
)
def test_killed_in_the_middle_of_eight_calls(
    victim: EndpointState, pool: ThreadPoolExecutor, module: str, figure: Callable[[str], None]
) -> None:
    before = inventory(victim)
    calls = eight_calls(victim, pool)
    (process,) = find_processes(victim, module)
    process.kill()
    killed = time.monotonic()
    wait_until(lambda: ping(victim.gateway_port) != 200, "not ready, and /ping reports it")
    # None of them has waited for its text, which takes 8 s, or for another engine.
    assert {call.result(PATIENCE_S) for call in calls} == {"503"}
    figure(f"faults, {module}: every caller had its end {time.monotonic() - killed:.2f} s after the kill")
    serves_again(victim)
    assert find_processes(victim, module)[0].pid != process.pid
    wait_until(lambda: inventory(victim) == before, f"the same processes and files as before: {before}")


def test_a_killed_worker_loses_no_call(victim: EndpointState, pool: ThreadPoolExecutor) -> None:
    """The engine answers what the worker had begun."""
    before = inventory(victim)
    calls = eight_calls(victim, pool)
    workers = find_processes(victim, "model_service_worker")
    busy = wait_until(
        lambda: len(busy := [each for each in workers if _talks_to_the_engine(each)]) == 4 and busy,
        "four workers are in a call",
    )
    busy[0].kill()
    assert [call.result() for call in calls] == ["length"] * 8
    assert ping(victim.gateway_port) == 200
    wait_until(lambda: inventory(victim) == before, f"the same processes and files as before: {before}")
    assert all(pool.map(lambda _: whole(EndpointCaller(victim)) == "length", range(8)))


def test_a_supervisor_is_replaced_even_when_the_workers_parent_is_gone(victim: EndpointState) -> None:
    """The model server does not replace the process its workers are forked from; any worker guards."""
    workers = find_processes(victim, "model_service_worker")
    (parent,) = [process for process in workers if process.ppid() not in {worker.pid for worker in workers}]
    (supervisor,) = find_processes(victim, "supervision.supervisor")
    parent.kill()
    parent.wait(PATIENCE_S)
    supervisor.kill()
    wait_until(lambda: ping(victim.gateway_port) != 200, "the gateway has ended with its supervisor")
    serves_again(victim)
    assert len(find_processes(victim, "supervision.supervisor")) == 1


def _talks_to_the_engine(worker: psutil.Process) -> bool:
    """A worker in a call has one Unix connection more than an idle one."""
    try:
        return sum(c.family.name == "AF_UNIX" for c in worker.net_connections("unix")) > 1
    except psutil.Error:
        return False
