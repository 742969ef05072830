"""When an endpoint reports that it is ready, it answers; and one that cannot load never reports ready."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from inf2kit.errors import LocalEndpointError
from inf2kit.rehearsal.local.endpoint import LocalEndpoint
from inf2kit.rehearsal.local.start import start_endpoint
from inf2kit.rehearsal.local.state import EndpointState
from tests.helpers import packages
from tests.helpers.local_endpoint import EndpointCaller
from tests.helpers.servers import ping, wait_until

LOAD_S = 20.0


@pytest.fixture(scope="module")
def slow(start: Callable[..., EndpointState], simulated_preset: str) -> dict[str, EndpointState]:
    """Two endpoints whose model takes 20 s to load, with and without the gateway, started side by side."""
    variables = {"INF2KIT_SIMULATED_LOAD_SECONDS": str(LOAD_S)}
    return {
        name: start(simulated_preset, name=name, gateway=name == "gated", variables=variables, wait_s=None)
        for name in ("gated", "plain")
    }


@pytest.fixture(scope="module")
def broken(slow: object, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Future[object]]:
    """An ``up`` of a model whose activation transformers does not know, while the slow ones load."""
    directory = packages.link_files(weights, tmp_path_factory.mktemp("broken") / "weights", "config.json")
    config = json.loads((weights / "config.json").read_text(encoding="utf-8"))
    (directory / "config.json").write_text(json.dumps({**config, "hidden_act": "x"}), encoding="utf-8")
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(start_endpoint, "smollm2-135m-local", name="broken", weights=directory)


def first_ping_and_first_answer(port: int, timeout_s: float) -> tuple[float, float]:
    """When /ping first said 200 and when a generation was first answered, polled every 50 ms from the start.

    Two threads, so that a call that hangs cannot delay the look at /ping.
    """
    when: dict[str, float] = {}
    ends = time.monotonic() + timeout_s

    def poll(name: str, look: Callable[[], bool]) -> None:
        while time.monotonic() < ends:
            if look():
                when[name] = time.monotonic()
                return
            time.sleep(0.05)

    looks = {"ping": lambda: ping(port) == 200, "answer": lambda: _generates(port)}
    threads = [threading.Thread(target=poll, args=item) for item in looks.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return when["ping"], when["answer"]


def _generates(port: int) -> bool:
    body = json.dumps({"inputs": "x", "parameters": {"max_new_tokens": 2}})
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def test_ping_is_true_with_the_gateway_and_early_without(
    slow: dict[str, EndpointState], broken: Future[object], figure: Callable[[str], None]
) -> None:
    """One look at both, as they load at the same time."""
    seen: dict[str, tuple[float, float]] = {}

    def look(name: str) -> None:
        seen[name] = first_ping_and_first_answer(slow[name].gateway_port, 150)

    threads = [threading.Thread(target=look, args=(name,)) for name in slow]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, (first_ping, first_answer) in seen.items():
        figure(
            f"readiness, {name}: /ping answered 200 {first_answer - first_ping:.2f} s before the first answer"
        )
    # A generation on the heels of the first good /ping is answered: its own duration and a polling interval.
    assert seen["gated"][1] - seen["gated"][0] < 1.0
    # Without the gateway the model server reports healthy long before: the load is 20 s.
    assert seen["plain"][1] - seen["plain"][0] > LOAD_S / 2


def test_plain_mode_answers_but_does_not_stream(slow: dict[str, EndpointState]) -> None:
    wait_until(lambda: LocalEndpoint("plain").read_state().status == "InService", "plain in service")  # type: ignore[union-attr]
    caller = EndpointCaller(slow["plain"])
    wait_until(lambda: _generates(slow["plain"].gateway_port), "an answer")
    (answer,) = caller.generate("x", max_new_tokens=3, details=True)
    assert answer["details"]["generated_tokens"] == 3
    assert answer["warnings"] == ["simulated: these tokens come from the simulated backend, not from a model"]
    for body, content_type, status, code in (
        ({"inputs": "x", "stream": True}, "application/json", 400, "no_stream"),
        ({"inputs": ""}, "application/json; charset=utf-8", 422, "empty_inputs"),
        ("nope", "application/json", 400, "invalid_json"),
        ("x", "text/plain", 415, "unsupported_content_type"),
    ):
        with pytest.raises(caller.client.exceptions.ModelError) as refused:
            caller.invoke(body, content_type)
        assert refused.value.response["OriginalStatusCode"] == status
        assert json.loads(refused.value.response["OriginalMessage"])["error_type"] == code


def test_a_model_that_cannot_load_is_never_ready_and_says_why_once(
    broken: Future[object], home: Path
) -> None:
    with pytest.raises(LocalEndpointError, match=r"cannot be loaded \(.*\); make the package again"):
        broken.result()
    log = (home / "broken.log").read_text(encoding="utf-8")
    reasons = [line for line in log.splitlines() if "cannot load the model" in line]
    assert len(reasons) == 1, "one sentence, so no restart loop"
    assert "Traceback" not in log
    assert LocalEndpoint("broken").read_state() is None, "what was started is stopped"
