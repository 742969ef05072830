"""A deployment in faithful containers, from start to end in the order of the tests.

The first container has exactly the environment of its synthesized template. The second serves another
package; its calls are slow, so that SIGTERM finds them running.
"""

from __future__ import annotations

import http.client
import json
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from inf2kit.rehearsal.container import processes
from inf2kit.rehearsal.container.spec import IMAGE_VARIABLES, SAGEMAKER_VARIABLES
from tests.helpers.containers import GATEWAY, Container, Deployable, find_listeners
from tests.helpers.servers import PATIENCE_S, ping, wait_until

#: Seconds of a step in the second container: 1,200 tokens take longer than a container may drain.
STEP_S = 0.025
#: SageMaker kills a container so many seconds after SIGTERM.
KILLED_AFTER_S = 30
INSPECT = """
import json, os, shutil, socket, sys
import huggingface_hub, numpy
def refused(call):
    try:
        call()
    except OSError as error:
        return type(error).__name__
print(json.dumps({
    "python": list(sys.version_info[:2]), "numpy": numpy.__version__, "hub": huggingface_hub.__version__,
    "uid": os.getuid(), "model": refused(lambda: open("/opt/ml/model/x", "w")),
    "programs": refused(lambda: open("/opt/conda/x", "w")),
    "name": refused(lambda: socket.gethostbyname(socket.gethostname())),
    "names": refused(lambda: socket.gethostbyname("huggingface.co")),
    "network": refused(lambda: socket.create_connection(("169.254.170.2", 80), 5)),
    "shm": shutil.disk_usage("/dev/shm").total, "ml": sorted(os.listdir("/opt/ml")),
    "files": open("/proc/1/limits").read().partition("Max open files")[2].split()[0],
}))
"""


@pytest.fixture(scope="module")
def deployable(package: Callable[..., Deployable]) -> Deployable:
    return package()


@pytest.fixture(scope="module")
def first(run: Callable[..., Container], deployable: Deployable) -> Container:
    return run(deployable)


@pytest.fixture(scope="module")
def second(run: Callable[..., Container], package: Callable[..., Deployable]) -> Container:
    return run(package(appended="\n# another version\n"), INF2KIT_SIMULATED_STEP_SECONDS=str(STEP_S))


def test_ping_is_true_from_the_start(first: Container, figure: Callable[[str], None]) -> None:
    assert ping(first.port) is None, "nothing listens yet"
    took_s = first.wait_until_ready()
    status, _ = first.generate("x", max_new_tokens=2)
    assert status == 200, "the first call after /ping says 200 is answered"
    figure(f"faithful container: /ping says 200 {took_s:.1f} s after the start")


def test_the_environment_is_the_templates(
    first: Container, deployable: Deployable, figure: Callable[[str], None]
) -> None:
    """Process 1 has exactly these variables; the model server has them and those that the toolkit adds."""
    expected = {**IMAGE_VARIABLES, **SAGEMAKER_VARIABLES, **deployable.variables}
    assert len(expected) == sum(map(len, (IMAGE_VARIABLES, SAGEMAKER_VARIABLES, deployable.variables)))
    assert first.init.environ() == expected
    (server,) = [process for process in first.processes if process.name() == "java"]
    inherited = server.environ()
    assert {name: inherited.get(name) for name in expected} == expected
    for name, value in sorted(deployable.variables.items()):
        figure(f"faithful container: {name}={value}, as in the template")
    figure(
        f"faithful container: {len(deployable.variables)} variables of the template, {len(IMAGE_VARIABLES)} "
        f"of the image and {len(SAGEMAKER_VARIABLES)} of SageMaker are all there are; the model server has "
        f"{', '.join(sorted(inherited.keys() - expected))} as well, by the toolkit's imports"
    )


def test_only_the_gateway_listens(first: Container, figure: Callable[[str], None]) -> None:
    listeners = find_listeners(first.init)
    assert list(listeners) == [GATEWAY]
    (owner,) = listeners.values()
    assert "inf2kit.serving.gateway.gateway" in owner
    figure(f"faithful container: on TCP only 0.0.0.0:8080 is open, by {owner.partition(' -m ')[2]}")


def test_it_sees_what_the_image_has_and_nothing_else(first: Container, figure: Callable[[str], None]) -> None:
    facts = first.run(INSPECT)
    figure("faithful container: Python {}.{}, numpy {numpy}, hub {hub}".format(*facts["python"], **facts))
    assert (facts["numpy"], facts["hub"], facts["uid"]) == ("1.25.2", "0.35.0", 0)
    assert (facts["model"], facts["programs"]) == ("OSError", "OSError"), "read-only"
    assert (facts["name"], facts["names"], facts["network"]) == ("gaierror", "gaierror", "OSError")
    assert (facts["shm"], facts["files"], facts["ml"]) == (64 * 2**20, "1024", ["model"])
    memory = sum(process.memory_full_info().pss for process in first.processes)
    figure(
        f"faithful container: {memory / 2**20:.0f} MiB of memory in {len(first.processes)} processes (PSS)"
    )


def test_whole_and_streamed_calls(first: Container) -> None:
    status, (answer,) = first.generate("Hello", max_new_tokens=20, details=True)
    assert (status, answer["details"]["generated_tokens"]) == (200, 20)
    status, events = first.stream("Hello", max_new_tokens=20)
    assert (status, events[-1]["generated_text"]) == (200, answer["generated_text"])


@pytest.mark.parametrize(
    "header", ["Origin: null", "Sec-Fetch-Site: cross-site", "Host: evil.example:{port}"]
)
def test_no_web_page_reaches_it(first: Container, header: str) -> None:
    """As the second request of a connection too: the first one is a program's."""
    name, _, value = header.format(port=first.port).partition(": ")
    connection = http.client.HTTPConnection("127.0.0.1", first.port, timeout=PATIENCE_S)
    body = json.dumps({"inputs": "x", "parameters": {"max_new_tokens": 1}})
    connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
    assert connection.getresponse().read().startswith(b"[")
    connection.request("POST", "/invocations", body, {"Content-Type": "text/plain", name: value})
    refused = connection.getresponse()
    assert (refused.status, b"for programs of this machine" in refused.read()) == (403, True)


def test_an_update_loses_no_call(first: Container, second: Container, figure: Callable[[str], None]) -> None:
    """Callers use the first container until the second is ready; the first then gets SIGTERM."""
    answered = 0
    while ping(second.port) != 200:
        assert second.keeper.poll() is None, second.tail()
        assert first.generate("x", max_new_tokens=2)[0] == 200
        answered += 1
        time.sleep(0.05)
    began = time.monotonic()
    assert processes.stop(first.run_dir) == []
    figure(
        f"faithful container: {answered} calls while another one started, none lost; the first was gone "
        f"{time.monotonic() - began:.1f} s after SIGTERM"
    )
    first.keeper.wait(PATIENCE_S)
    assert second.generate("x", max_new_tokens=2)[0] == 200


def test_sigterm_under_load_loses_no_call(second: Container, figure: Callable[[str], None]) -> None:
    """Four streams and four whole calls; some take longer than the container may."""
    with ThreadPoolExecutor(8) as pool:
        calls = [
            pool.submit(call, f"call {number}", max_new_tokens=length, ignore_eos=True, details=True)
            for call, lengths in (
                (second.stream, (200, 200, 1200, 1200)),
                (second.generate, (100, 100, 1200, 1200)),
            )
            for number, length in enumerate(lengths)
        ]
        wait_until(lambda: second.metric("inf2kit_texts_inside") == 8, "eight calls are inside")
        second.init.send_signal(signal.SIGTERM)
        began = time.monotonic()
        wait_until(lambda: ping(second.port) != 200, "/ping does not say 200 any more")
        assert ping(second.port) == 503, "the gateway still answers"
        status, refusal = second.generate("new", max_new_tokens=2)
        assert status == 503, refusal
        outcomes = [call.exception() or _reason(*call.result()) for call in calls]
    took_s = time.monotonic() - began
    lost = [str(outcome) for outcome in outcomes if outcome not in ("length", "time_limit")]
    figure(
        f"faithful container: {len(lost)} of 8 calls lost by SIGTERM, "
        f"{outcomes.count('length')} whole and {outcomes.count('time_limit')} cut by the time limit "
        f"in {took_s:.1f} s"
    )
    assert lost == []
    assert outcomes.count("time_limit") >= 1, "some take longer than 25 s"
    assert took_s < KILLED_AFTER_S
    wait_until(lambda: not second.find_processes("inf2kit.serving"), "engine and gateway have ended")
    assert second.init.is_running(), "the container does not end with its model server"
    assert second.keeper.poll() is None
    began = time.monotonic()
    assert processes.stop(second.run_dir) == []
    assert time.monotonic() - began < KILLED_AFTER_S, "an empty container is not waited for"


def _reason(status: int, answer: Any) -> str:
    """The finish reason of a call, or its whole error."""
    last = answer[-1] if isinstance(answer, list) else answer
    return last["details"]["finish_reason"] if status == 200 else f"{status}: {last}"
