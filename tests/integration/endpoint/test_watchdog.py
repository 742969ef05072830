"""A device that never answers, a stopped process, a prompt that ends the engine: incidents, not outages."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from botocore.exceptions import ClientError

from inf2kit.rehearsal.local.endpoint import LocalEndpoint
from inf2kit.rehearsal.local.state import EndpointState
from tests.helpers.local_endpoint import (
    EndpointCaller,
    find_model_server,
    find_processes,
    read_metrics,
    stopped,
)
from tests.helpers.servers import ping, wait_until

DEADLINE_S = 8.0


@pytest.fixture(scope="module")
def frail(start: Callable[..., EndpointState], simulated_preset: str) -> dict[str, EndpointState]:
    """Doubles that fail, started side by side: a step that never ends, and a prompt that ends the process."""
    choices = {
        # The warm-up takes two steps, and the gateway's first generation two or three.
        "hanging": {"INF2KIT_SIMULATED_HANG_AFTER": "60", "INF2KIT_SIMULATED_STEP_SECONDS": "0.02"},
        "crashing": {"INF2KIT_SIMULATED_CRASH_ON_LENGTH": "7", "INF2KIT_DEADLINE_SECONDS": str(DEADLINE_S)},
    }
    with ThreadPoolExecutor(len(choices)) as pool:
        states = pool.map(lambda name: start(simulated_preset, name=name, variables=choices[name]), choices)
        return dict(zip(choices, states, strict=True))


def refusal(caller: EndpointCaller, inputs: str = "x", **parameters: object) -> tuple[int, str] | None:
    """The status and code that a call is refused with, or None where it is answered."""
    try:
        caller.generate(inputs, **{"max_new_tokens": 2, **parameters})
    except ClientError as error:
        if "OriginalStatusCode" not in error.response:
            return 0, "no answer"
        body = error.response["OriginalMessage"]
        code = json.loads(body)["error_type"] if body else "timed out"
        return error.response["OriginalStatusCode"], code
    return None


def test_a_step_that_never_ends(frail: dict[str, EndpointState], figure: Callable[[str], None]) -> None:
    """A stream and a whole call are inside when the device stops answering; both have a deadline of 55 s."""
    hanging = frail["hanging"]
    caller = EndpointCaller(hanging)
    (engine,) = find_processes(hanging, "engine.server")
    with ThreadPoolExecutor(2) as pool:
        whole = pool.submit(refusal, caller, max_new_tokens=1000, ignore_eos=True)
        events = pool.submit(caller.stream, "y", max_new_tokens=1000, ignore_eos=True)
        # The counter is the engine's own, which answers until it is ended.
        last = read_metrics(hanging)["inf2kit_generated_tokens_total"]
        while (now := read_metrics(hanging)["inf2kit_generated_tokens_total"]) != last or now < 20:
            last = now
            time.sleep(0.1)
        hung = time.monotonic()
        wait_until(lambda: ping(hanging.gateway_port) == 503, "/ping answers 503")
        figure(f"hang (simulated): /ping answered 503 {time.monotonic() - hung:.1f} s after the last token")
        assert whole.result() == (503, "unavailable")
        assert events.result()[-1]["error_type"] == "unavailable"
    wait_until(lambda: not engine.is_running(), "the engine was ended")
    wait_until(lambda: ping(hanging.gateway_port) == 200, "another engine is ready")
    assert caller.generate("x", max_new_tokens=2)
    log = LocalEndpoint("hanging").find_log().read_text(encoding="utf-8")
    assert "inf2kit supervisor: the engine is stuck: no progress for" in log
    assert re.search(r'simulated\.py", line \d+ in _begin', log), "the stacks of its threads"


def test_a_stopped_engine_is_replaced(frail: dict[str, EndpointState]) -> None:
    crashing = frail["crashing"]
    (engine,) = find_processes(crashing, "engine.server")
    with stopped(engine):
        wait_until(lambda: ping(crashing.gateway_port) == 503, "/ping answers 503")
        wait_until(lambda: not engine.is_running(), "the engine was ended")
    wait_until(lambda: ping(crashing.gateway_port) == 200, "another engine is ready")


def test_a_stopped_model_server_is_told_by_ping(frail: dict[str, EndpointState]) -> None:
    """Nobody waits beyond the deadline and its grace, and whole calls are not promised meanwhile."""
    crashing = frail["crashing"]
    caller = EndpointCaller(crashing)
    with stopped(find_model_server(crashing)):
        assert refusal(caller) == (503, "unavailable")
        wait_until(lambda: ping(crashing.gateway_port) == 503, "/ping answers 503")
    wait_until(lambda: ping(crashing.gateway_port) == 200, "/ping answers 200 when it answers again")
    assert refusal(caller) is None


def test_stopped_workers_keep_no_caller_beyond_the_deadline(frail: dict[str, EndpointState]) -> None:
    crashing = frail["crashing"]
    with ExitStack() as all_stopped:
        for worker in find_processes(crashing, "model_service_worker"):
            all_stopped.enter_context(stopped(worker))
        assert refusal(EndpointCaller(crashing)) == (503, "unavailable")
        wait_until(lambda: ping(crashing.gateway_port) == 503, "/ping answers 503")
    wait_until(lambda: ping(crashing.gateway_port) == 200, "/ping answers 200 when they answer again")


def test_a_stopped_supervisor_is_noticed_by_nobody(frail: dict[str, EndpointState]) -> None:
    crashing = frail["crashing"]
    (supervisor,) = find_processes(crashing, "supervision.supervisor")
    with stopped(supervisor):
        assert refusal(EndpointCaller(crashing)) is None
        assert ping(crashing.gateway_port) == 200


def test_a_stopped_gateway_is_replaced(frail: dict[str, EndpointState]) -> None:
    crashing = frail["crashing"]
    (gateway,) = find_processes(crashing, "gateway.gateway")
    with stopped(gateway):
        wait_until(lambda: not gateway.is_running(), "the gateway was ended")
    wait_until(lambda: ping(crashing.gateway_port) == 200, "another gateway has the port")
    assert refusal(EndpointCaller(crashing)) is None


def test_a_prompt_that_ends_the_engine_twice_is_refused(frail: dict[str, EndpointState]) -> None:
    """Seven tokens end this double. Other prompts are answered, and the engine is not ended a third time."""
    crashing = frail["crashing"]
    caller, poison = EndpointCaller(crashing), "a b c d e f g"
    for _ in range(2):
        (engine,) = find_processes(crashing, "engine.server")
        assert refusal(caller, poison) == (503, "unavailable")
        wait_until(lambda: not engine.is_running(), "the engine has ended")  # noqa: B023
        wait_until(lambda: ping(crashing.gateway_port) == 200, "another engine is ready")
    restarts = read_metrics(crashing)["inf2kit_engine_restarts"]
    assert refusal(caller, poison) == (422, "crashed_before")
    assert refusal(caller, "a b c") is None
    assert read_metrics(crashing)["inf2kit_engine_restarts"] == restarts
