"""A machine that is short of something: nothing of it may end an engine that took minutes to load."""

from __future__ import annotations

import resource
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from inf2kit.rehearsal.local.endpoint import LocalEndpoint
from inf2kit.rehearsal.local.state import EndpointState
from tests.helpers.local_endpoint import EndpointCaller, find_processes, read_metrics
from tests.helpers.servers import ping, wait_until


def process_of(state: EndpointState, module: str) -> psutil.Process:
    (process,) = find_processes(state, module)
    return process


def test_a_gateway_that_is_killed_under_load_is_back_at_once(
    victim: EndpointState, figure: Callable[[str], None]
) -> None:
    """All rows and the queue are full of whole calls, which a first generation would have to wait for."""
    caller = EndpointCaller(victim)
    gateway = process_of(victim, "gateway.gateway")
    with ThreadPoolExecutor(12) as pool:
        calls = [pool.submit(_outcome, caller) for _ in range(12)]
        wait_until(lambda: ping(victim.gateway_port) == 200 and _rows(victim) == 8, "every row is taken")
        gateway.kill()
        gone = time.monotonic()
        wait_until(lambda: ping(victim.gateway_port) is None, "the port is closed")
        wait_until(lambda: ping(victim.gateway_port) is not None, "the port is open again")
        figure(f"gateway killed under load: its port was open again after {time.monotonic() - gone:.2f} s")
        for call in calls:
            call.result()
    assert caller.generate("x", max_new_tokens=2)


def test_a_gateway_is_replaced_while_no_engine_can_be_started(
    victim: EndpointState, figure: Callable[[str], None]
) -> None:
    """Engines end as they begin, not by the fault of the package, and the next one has seconds to come."""
    run_dir, begun = Path(victim.run_dir), _log(victim).count("status 1; it is started again")
    taken = next(
        path for path in (run_dir / "engine.sock", run_dir / "inf2kit" / "engine.sock") if path.exists()
    )
    taken.unlink()
    (taken / "in the way").mkdir(parents=True)
    process_of(victim, "engine.server").kill()
    wait_until(
        lambda: _log(victim).count("status 1; it is started again") >= begun + 5,
        "engines end as they begin",
    )
    process_of(victim, "gateway.gateway").kill()
    gone = time.monotonic()
    wait_until(lambda: ping(victim.gateway_port) is None, "the port is closed")
    wait_until(lambda: ping(victim.gateway_port) == 503, "another gateway reports that there is no engine")
    figure(f"gateway killed while no engine runs: another one after {time.monotonic() - gone:.2f} s")
    shutil.rmtree(taken)
    wait_until(lambda: ping(victim.gateway_port) == 200, "an engine is ready again")


def test_a_process_that_cannot_be_started_ends_no_other(victim: EndpointState) -> None:
    """The supervisor has no file descriptor left for a child's pipe, as with a fork that fails."""
    supervisor, engine = (
        process_of(victim, "supervision.supervisor"),
        process_of(victim, "engine.server"),
    )
    limits = resource.prlimit(supervisor.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(supervisor.pid, resource.RLIMIT_NOFILE, (supervisor.num_fds(), limits[1]))
    process_of(victim, "gateway.gateway").kill()
    wait_until(
        lambda: "the gateway cannot be looked after" in _log(victim),
        "the supervisor reports that it cannot",
    )
    assert engine.is_running()
    assert supervisor.is_running()
    resource.prlimit(supervisor.pid, resource.RLIMIT_NOFILE, limits)
    wait_until(lambda: ping(victim.gateway_port) == 200, "there is a gateway again")
    assert process_of(victim, "engine.server") == engine
    assert EndpointCaller(victim).generate("x", max_new_tokens=2)


def test_a_full_disk_and_a_log_that_cannot_be_written(victim: EndpointState) -> None:
    """Calls go on, and an engine and a gateway that end meanwhile are replaced."""
    supervisor = process_of(victim, "supervision.supervisor")
    processes = [
        supervisor,
        process_of(victim, "gateway.gateway"),
        process_of(victim, "engine.server"),
    ]
    limits = resource.prlimit(supervisor.pid, resource.RLIMIT_FSIZE)
    for process in processes:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, limits[1]))
    assert EndpointCaller(victim).generate("x", max_new_tokens=2)
    for process in processes[1:]:
        process.kill()
        wait_until(lambda: ping(victim.gateway_port) != 200, "it is missed")
        wait_until(lambda: ping(victim.gateway_port) == 200, "there is another one")
    assert EndpointCaller(victim).generate("x", max_new_tokens=2)
    for module in (
        "supervision.supervisor",
        "gateway.gateway",
        "engine.server",
    ):
        resource.prlimit(process_of(victim, module).pid, resource.RLIMIT_FSIZE, limits)


def _outcome(caller: EndpointCaller) -> str:
    try:
        caller.generate("x", max_new_tokens=200, ignore_eos=True)
    except Exception as error:
        return type(error).__name__
    return "answered"


def _rows(state: EndpointState) -> float:
    return read_metrics(state)["inf2kit_rows_busy"]


def _log(state: EndpointState) -> str:
    return LocalEndpoint(state.name).find_log().read_text(encoding="utf-8", errors="replace")
