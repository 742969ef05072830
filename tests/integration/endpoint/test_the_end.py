"""What ends an endpoint: its model server crashes, or every process of it is killed.

The tests of other files use the same endpoints, and come before these: pytest takes files by their names.
"""

from __future__ import annotations

import contextlib
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from inf2kit.rehearsal.container import processes
from inf2kit.rehearsal.local.endpoint import LocalEndpoint
from inf2kit.rehearsal.local.state import EndpointState
from tests.helpers.local_endpoint import find_model_server, find_processes
from tests.helpers.running_calls import begin_eight_calls
from tests.helpers.servers import PATIENCE_S, ping, wait_until


def test_a_model_server_that_crashes_loses_no_call(hurried: EndpointState) -> None:
    with ThreadPoolExecutor(8) as pool:
        calls = begin_eight_calls(hurried, pool, [150] * 4)
        find_model_server(hurried).kill()
        wait_until(lambda: ping(hurried.gateway_port) != 200, "not ready, and /ping reports it")
        assert {call.result(PATIENCE_S) for call in calls} <= {"length", "time_limit"}


def test_everything_killed_at_once_leaves_nothing_after_down(victim: EndpointState) -> None:
    host = LocalEndpoint(victim.name).read_state().host()  # type: ignore[union-attr]
    assert host is not None
    for process in [
        host,
        *find_processes(victim, "inf2kit.serving"),
        *find_processes(victim, "model_service_worker"),
    ]:
        with contextlib.suppress(psutil.Error):  # it may have ended with one that was killed before
            process.send_signal(signal.SIGKILL)
    assert LocalEndpoint(victim.name).stop()
    assert processes.list_processes(Path(victim.run_dir)) == []
    assert not Path(victim.run_dir).exists()
    assert LocalEndpoint(victim.name).read_state() is None
