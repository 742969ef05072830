"""What one caller may cost the others: memory, connections, time. The tests call the gateway, as AWS does."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import psutil
import pytest

from inf2kit.rehearsal.local.endpoint import LocalEndpoint
from inf2kit.rehearsal.local.state import EndpointState
from inf2kit.serving.gateway.bodies import MAX_BODY
from tests.helpers.local_endpoint import EndpointCaller, find_processes
from tests.helpers.servers import PATIENCE_S, ping, wait_until

#: Open files of every process of this endpoint: a common limit, and soon reached.
FILES = 1024
#: SageMaker waits so many seconds for an answer to /ping.
PING_LIMIT_S = 2.0


@pytest.fixture(scope="module")
def besieged(simulated_preset: str, weights: Any) -> Iterator[EndpointState]:
    """A simulated endpoint, started in a shell with few open files."""
    command = ["prlimit", f"--nofile={FILES}:{FILES}", sys.executable, "-m", "inf2kit.cli"]
    subprocess.run([*command, "local", "up", simulated_preset, "--name", "besieged"], check=True)
    up = LocalEndpoint("besieged").read_state()
    assert up is not None
    yield up
    LocalEndpoint("besieged").stop()


class Worst:
    """The longest that something took: on the clock, and of the gateway's processor time.

    A loaded machine makes the first one longer. The second is what one caller had to wait for.
    """

    def __init__(self, gateway: psutil.Process) -> None:
        self._gateway = gateway
        self.clock_s = self.processor_s = 0.0

    @contextmanager
    def measure(self) -> Iterator[None]:
        began, before = time.monotonic(), sum(self._gateway.cpu_times()[:2])
        yield
        self.clock_s = max(self.clock_s, time.monotonic() - began)
        self.processor_s = max(self.processor_s, sum(self._gateway.cpu_times()[:2]) - before)


class Pings:
    """Asks /ping again and again, and keeps the longest time that an answer took."""

    def __init__(self, endpoint: EndpointState) -> None:
        self._port, self._over = endpoint.gateway_port, threading.Event()
        self._thread = threading.Thread(target=self._ask)
        (gateway,) = find_processes(endpoint, "gateway.gateway")
        self.worst, self.refused = Worst(gateway), 0

    def __enter__(self) -> Pings:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._over.wait(0.02):
            with self.worst.measure():
                self.refused += ping(self._port) != 200


def status_of(port: int, body: bytes) -> int:
    """The status that a body is answered with; 0 where the connection is closed first."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def memory_mb(process: psutil.Process) -> float:
    return process.memory_info().rss / 1e6


def test_large_bodies_cost_neither_memory_nor_ping(
    besieged: EndpointState, figure: Callable[[str], None]
) -> None:
    """36 of the largest bodies at once, of small objects: as Python has them they would be 25 gigabytes."""
    (gateway,) = find_processes(besieged, "gateway.gateway")
    body = b'{"inputs": "x", "stream": true, "junk": [' + b"{}," * (MAX_BODY // 3 - 20) + b"{}]}"
    most = memory_mb(gateway)
    with Pings(besieged) as pings, ThreadPoolExecutor(36) as pool:
        calls = [pool.submit(status_of, besieged.gateway_port, body) for _ in range(36)]
        while not all(call.done() for call in calls):
            most = max(most, memory_mb(gateway))
            time.sleep(0.01)
    statuses = Counter(call.result() for call in calls)
    figure(
        f"36 bodies of {len(body) / 1e6:.1f} MB at once: {dict(statuses)}, "
        f"the gateway had at most {most:.0f} MB, the slowest /ping took {pings.worst.clock_s:.2f} s, "
        f"{pings.worst.processor_s:.2f} s of the gateway's processor time"
    )
    assert set(statuses) <= {413, 422, 429}
    assert gateway.is_running()
    assert most < 300
    assert pings.worst.processor_s < PING_LIMIT_S
    assert not pings.refused


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": ""}] * 150_000},
        {"messages": [{"role": "u" * 3_000_000, "content": "x"}]},
        {f"key{index}": index for index in range(300_000)},
        {"inputs": "x", "parameters": {f"key{index}": index for index in range(300_000)}},
        {"inputs": ["x"] * 400_000},
        {"inputs": "x" * 26_000_000, "parameters": {"truncate": 8, "max_new_tokens": 1}, "stream": True},
    ],
    ids=["messages", "role", "keys", "parameters", "texts", "largest"],
)
def test_hostile_bodies_cost_another_caller_little(
    besieged: EndpointState, body: object, figure: Callable[[str], None], request: pytest.FixtureRequest
) -> None:
    hostile = json.dumps(body).encode()
    (gateway,) = find_processes(besieged, "gateway.gateway")
    caller, worst = EndpointCaller(besieged), Worst(gateway)
    with ThreadPoolExecutor(2) as pool:
        attacks = [pool.submit(status_of, besieged.gateway_port, hostile) for _ in range(4)]
        while not all(attack.done() for attack in attacks):
            with worst.measure():
                next(iter(caller.parts({"inputs": "y", "parameters": {"max_new_tokens": 1}, "stream": True})))
    figure(
        f"hostile {request.node.callspec.id}, {len(hostile) / 1e6:.1f} MB: another caller's first token took "
        f"{worst.clock_s:.2f} s at most, {worst.processor_s:.2f} s of the gateway's processor time"
    )
    # The largest body is no attack: it is answered, if others do not have the bodies' memory.
    answered = {200} if len(hostile) > 20_000_000 else set()
    assert {attack.result() for attack in attacks} <= {400, 413, 422, 429} | answered
    assert worst.processor_s < PING_LIMIT_S


def test_silent_connections_keep_nobody_out(besieged: EndpointState, figure: Callable[[str], None]) -> None:
    """More connections than open files, all silent: calls are answered, and the silent ones are closed."""
    with ExitStack() as opened, Pings(besieged) as pings:
        silent = []
        for _ in range(FILES + 100):
            connection = socket.create_connection(("127.0.0.1", besieged.gateway_port), timeout=PATIENCE_S)
            silent.append(opened.enter_context(contextlib.closing(connection)))
        caller = EndpointCaller(besieged)
        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(lambda _: caller.generate("x", max_new_tokens=2), range(8)))
        assert len(answers) == 8
        figure(f"{len(silent)} silent connections: the slowest /ping took {pings.worst.clock_s:.2f} s")
        assert not pings.refused
        closed = wait_until(lambda: _is_closed(silent[-1]), "a silent connection is closed")
        assert closed


def test_a_body_that_drips_is_refused(besieged: EndpointState) -> None:
    connection = socket.create_connection(("127.0.0.1", besieged.gateway_port), timeout=PATIENCE_S)
    with contextlib.closing(connection):
        host = f"127.0.0.1:{besieged.gateway_port}"
        head = f"POST /invocations HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100\r\n\r\n"
        connection.sendall(head.encode())
        connection.settimeout(0.5)
        answer = b""
        deadline = time.monotonic() + PATIENCE_S
        while not answer and time.monotonic() < deadline:
            connection.sendall(b" ")
            with contextlib.suppress(TimeoutError):
                answer = connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 408 ")


def _is_closed(connection: socket.socket) -> bool:
    connection.settimeout(0.01)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True
