"""When an endpoint reports that it is ready, it answers; and one that cannot load never reports ready."""

from __future__ import annotations

import http.client
import json
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
from tests.helpers.servers import PATIENCE_S, ping, wait_until

#: Much longer than a call takes, and than a slow machine takes to send one.
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
def broken(
    slow: object, small_weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Future[object]]:
    """An ``up`` of a model whose activation transformers does not know, while the slow ones load."""
    directory = packages.link_files(
        small_weights, tmp_path_factory.mktemp("broken") / "weights", "config.json"
    )
    config = json.loads((small_weights / "config.json").read_text(encoding="utf-8"))
    (directory / "config.json").write_text(json.dumps({**config, "hidden_act": "x"}), encoding="utf-8")
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(start_endpoint, "smollm2-135m-local", name="broken", weights=directory)


def first_answer_after_first_ping(port: int, timeout_s: float) -> tuple[bool, float]:
    """Ask /ping until it says 200, and then call once.

    Returns:
        Whether that call was answered within ``timeout_s``, and the seconds that it took.
    """
    wait_until(lambda: ping(port) == 200, "/ping answers 200")
    began = time.monotonic()
    return _generates(port, timeout_s), time.monotonic() - began


def _generates(port: int, timeout_s: float) -> bool:
    body = json.dumps({"inputs": "x", "parameters": {"max_new_tokens": 2}})
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
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
    """A call on the heels of the first good /ping, to both, as they load at the same time."""
    limits_s = {"gated": PATIENCE_S, "plain": LOAD_S / 4}
    with ThreadPoolExecutor(2) as pool:
        calls = {
            name: pool.submit(first_answer_after_first_ping, slow[name].gateway_port, limit_s)
            for name, limit_s in limits_s.items()
        }
    outcomes = {name: call.result() for name, call in calls.items()}
    for name, (is_answered, took_s) in outcomes.items():
        what = "was answered" if is_answered else "had no answer"
        figure(f"readiness, {name}: a call after the first good /ping {what} in {took_s:.2f} s")
    assert outcomes["gated"][0]
    assert not outcomes["plain"][0], "the model server reports healthy while the model loads"


def test_plain_mode_answers_but_does_not_stream(slow: dict[str, EndpointState]) -> None:
    wait_until(lambda: LocalEndpoint("plain").read_state().status == "InService", "plain in service")  # type: ignore[union-attr]
    caller = EndpointCaller(slow["plain"])
    wait_until(lambda: _generates(slow["plain"].gateway_port, PATIENCE_S), "an answer")
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
