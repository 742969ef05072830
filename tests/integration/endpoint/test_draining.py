"""SIGTERM for a container while eight calls run."""

from __future__ import annotations

import http.client
import signal
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from inf2kit.rehearsal.local.endpoint import LocalEndpoint
from inf2kit.rehearsal.local.state import EndpointState
from tests.helpers.local_endpoint import find_model_server, find_processes
from tests.helpers.running_calls import begin_eight_calls
from tests.helpers.servers import PATIENCE_S, ping, wait_until

#: SageMaker kills a container so many seconds after SIGTERM.
KILLED_AFTER_S = 30.0


def answer_of(port: int) -> tuple[int, str | None]:
    """The status of a new call, and whether its connection is closed."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request("POST", "/invocations", b'{"inputs": "x"}', {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.headers["connection"]
    finally:
        connection.close()


def test_sigterm_in_the_middle_of_eight_calls_loses_none(
    start: Callable[..., EndpointState], simulated_preset: str, figure: Callable[[str], None]
) -> None:
    """Texts of some seconds are whole; what takes longer than a container has ends with what there is."""
    ending = start(simulated_preset, name="ending", variables={"INF2KIT_SIMULATED_STEP_SECONDS": "0.02"})
    with ThreadPoolExecutor(8) as pool:
        calls = begin_eight_calls(ending, pool, (300, 300, 2040, 2040))
        began = time.monotonic()
        find_model_server(ending).send_signal(signal.SIGTERM)
        wait_until(lambda: ping(ending.gateway_port) == 503, "/ping answers 503 at once")
        assert answer_of(ending.gateway_port) == (503, "close")
        ends = Counter(call.result() for call in calls)
    wait_until(lambda: not find_processes(ending, "inf2kit.serving."), "gateway and engine have ended")
    took_s = time.monotonic() - began
    lost = sum(count for end, count in ends.items() if end not in ("length", "time_limit"))
    figure(
        f"SIGTERM (simulated) in the middle of 8 calls: {dict(ends)}, {lost} lost, over after {took_s:.1f} s"
    )
    assert ends == {"length": 4, "time_limit": 4}
    assert took_s < KILLED_AFTER_S, "before SageMaker would have killed them"
    log = LocalEndpoint("ending").find_log().read_text(encoding="utf-8")
    assert "ended: 0 texts are left without an answer" in log
