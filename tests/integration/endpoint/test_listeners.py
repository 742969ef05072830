"""What of an endpoint listens on this machine, and to whom: a page can make a browser call any local port."""

from __future__ import annotations

import http.client
import stat
from pathlib import Path

import psutil
import pytest

from inf2kit.rehearsal.container import processes
from inf2kit.rehearsal.local.state import EndpointState
from tests.helpers.local_endpoint import find_processes
from tests.helpers.servers import PATIENCE_S

BODY = '{"inputs": "x", "parameters": {"max_new_tokens": 1}}'


def listening(state: EndpointState) -> set[tuple[str, int]]:
    """The addresses on which the container's processes listen."""
    listeners = set[tuple[str, int]]()
    for process in processes.list_processes(Path(state.run_dir)):
        try:
            connections = process.net_connections("inet")
        except psutil.Error:
            continue
        listeners |= {
            (connection.laddr.ip, connection.laddr.port)
            for connection in connections
            if connection.status == psutil.CONN_LISTEN
        }
    return listeners


def ask(port: int, method: str, path: str, **headers: str) -> tuple[int, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request(method, path, BODY if method == "POST" else None, named)
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}
    finally:
        connection.close()


def test_only_the_gateway_and_the_front_are_on_tcp(hurried: EndpointState) -> None:
    """The model server's two interfaces, one of which runs any code it is sent, are sockets in a folder."""
    assert listening(hurried) == {("127.0.0.1", hurried.gateway_port), ("127.0.0.1", hurried.runtime_port)}
    run_dir = Path(hurried.run_dir)
    assert {"management.sock", "model-server.sock"} <= {path.name for path in run_dir.iterdir()}
    assert stat.S_IMODE(run_dir.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example:80"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
    ],
    ids=str,
)
def test_the_gateway_does_nothing_for_a_page(
    hurried: EndpointState, headers: dict[str, str], status: int
) -> None:
    """Whatever a simple request of a page is like: it has no header that a page could not send."""
    for kind in ("application/json", "text/plain"):
        answered, back = ask(hurried.gateway_port, "POST", "/invocations", Content_Type=kind, **headers)
        assert answered == (status if kind == "application/json" or status == 403 else 415)
        assert not [name for name in back if name.startswith("access-control-")]
    assert ask(hurried.gateway_port, "GET", "/metrics", **headers)[0] == status
    preflight = {"Access_Control_Request_Method": "POST", **headers}
    answered, back = ask(hurried.gateway_port, "OPTIONS", "/invocations", **preflight)
    assert answered in (403, 404)
    assert not [name for name in back if name.startswith("access-control-")]


def test_the_engine_has_the_container_s_environment_and_not_a_worker_s(hurried: EndpointState) -> None:
    """The model server tells its workers to compute on one thread, and what they import changes more."""
    (engine,) = find_processes(hurried, "engine.server")
    assert not {"OMP_NUM_THREADS", "MXNET_USE_OPERATOR_TUNING"} & set(engine.environ())


def test_the_threads_of_the_cpu_backend_sleep_where_they_would_spin_on_a_busy_machine(
    served: EndpointState, hurried: EndpointState
) -> None:
    (cpu,), (simulated,) = (find_processes(state, "engine.server") for state in (served, hurried))
    assert 0 < int(cpu.environ()["GOMP_SPINCOUNT"]) < 100_000, "libgomp's own is 300,000: milliseconds"
    assert "GOMP_SPINCOUNT" not in simulated.environ()
