"""The end of a container: SIGTERM, or a model server that has ended, while eight calls run."""

from __future__ import annotations

import http.client
import json
import signal
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import psutil

from inf2kit.rehearsal.local.endpoint import LocalEndpoint
from inf2kit.rehearsal.local.state import EndpointState
from tests.helpers.local_endpoint import EndpointCaller, find_processes
from tests.helpers.servers import PATIENCE_S, ping, wait_until

#: SageMaker kills a container so many seconds after SIGTERM.
KILLED_AFTER_S = 30.0


def whole(caller: EndpointCaller, tokens: int) -> str:
    (answer,) = caller.generate("x", max_new_tokens=tokens, ignore_eos=True, details=True)
    return str(answer["details"]["finish_reason"])


def streamed(caller: EndpointCaller, tokens: int, begun: list[int]) -> str:
    events = []
    for part in caller.parts({"inputs": "x", "parameters": {"max_new_tokens": tokens}, "stream": True}):
        begun.append(1)
        events.append(part)
    last = json.loads(b"".join(events).split(b"\n\n")[-2].removeprefix(b"data: "))
    return str(last["details"]["finish_reason"] if "details" in last else last["error_type"])


def eight_calls(ending: EndpointState, pool: ThreadPoolExecutor, tokens: int) -> list[Future[str]]:
    """Four whole and four streamed calls, all of them in rows."""
    caller, begun = EndpointCaller(ending), list[int]()
    calls = [pool.submit(whole, caller, tokens) for _ in range(4)]
    calls += [pool.submit(streamed, caller, tokens, begun) for _ in range(4)]
    wait_until(lambda: len(begun) > 40, "the calls are under way")
    return calls


def answer_of(port: int) -> tuple[int, str | None]:
    """The status of a new call, and whether its connection is closed."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request("POST", "/invocations", b'{"inputs": "x"}', {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.headers["connection"]
    finally:
        connection.close()


def model_server_of(state: EndpointState) -> psutil.Process:
    (java,) = [process for process in find_processes(state, "ModelServer") if "java" in process.name()]
    return java


def test_sigterm_in_the_middle_of_eight_calls_loses_none(
    start: Callable[..., EndpointState], simulated_preset: str, figure: Callable[[str], None]
) -> None:
    """Texts of some seconds are whole; what takes longer than a container has ends with what there is."""
    slow = {"INF2KIT_SIMULATED_STEP_SECONDS": "0.02"}
    with ThreadPoolExecutor(2) as pool:
        short, long = pool.map(
            lambda name: start(simulated_preset, name=name, variables=slow), ("ending", "ending-late")
        )
    with ThreadPoolExecutor(16) as pool:
        calls = {"ending": eight_calls(short, pool, 100), "ending-late": eight_calls(long, pool, 2040)}
        began = time.monotonic()
        for state in (short, long):
            model_server_of(state).send_signal(signal.SIGTERM)
        for state in (short, long):
            wait_until(lambda state=state: ping(state.gateway_port) == 503, "/ping answers 503 at once")
            assert answer_of(state.gateway_port) == (503, "close")
        for name, futures in calls.items():
            ends = Counter(future.result() for future in futures)
            lost = sum(count for end, count in ends.items() if end not in ("length", "time_limit"))
            figure(
                f"SIGTERM (simulated) in the middle of 8 calls: {dict(ends)}, {lost} lost, over after "
                f"{time.monotonic() - began:.1f} s"
            )
            assert not lost
            assert name == "ending" or ends == {"time_limit": 8}
        for state in (short, long):
            wait_until(
                lambda state=state: not find_processes(state, "inf2kit.serving."),
                "gateway and engine have ended",
            )
        assert time.monotonic() - began < KILLED_AFTER_S, "before SageMaker would have killed them"
        log = LocalEndpoint("ending").find_log().read_text(encoding="utf-8")
        assert "ended: 0 texts are left without an answer" in log


def test_a_model_server_that_crashes_loses_no_call(
    start: Callable[..., EndpointState], simulated_preset: str
) -> None:
    slow = {"INF2KIT_SIMULATED_STEP_SECONDS": "0.02"}
    state = start(simulated_preset, name="headless", variables=slow)
    with ThreadPoolExecutor(8) as pool:
        calls = eight_calls(state, pool, 60)
        model_server_of(state).kill()
        wait_until(lambda: ping(state.gateway_port) != 200, "not ready, and /ping reports it")
        assert {call.result() for call in calls} <= {"length", "time_limit"}
