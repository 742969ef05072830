"""Two engines in one container: what one loses, and when, is nothing to the calls of the other."""

from __future__ import annotations

import http.client
import itertools
import json
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from botocore.exceptions import ClientError, EventStreamError

from inf2kit.rehearsal.local.endpoint import LocalEndpoint
from inf2kit.rehearsal.local.state import EndpointState
from tests.helpers.local_endpoint import EndpointCaller, find_processes, read_metrics, stopped
from tests.helpers.servers import PATIENCE_S, ping, wait_until

#: A text that takes 8 s, whatever its tokens are.
LONG = {"max_new_tokens": 400, "ignore_eos": True}
ENGINES, ROWS = 2, 8
#: An engine that is silent for so many seconds is stuck; on a busy machine, a few pass in between.
STALL_S = 8
CALLERS = ENGINES * ROWS
#: Prompts of this many tokens end the double.
POISON = "a b c d e f g"
_names = itertools.count()


@pytest.fixture(scope="module")
def pair(
    start: Callable[..., EndpointState], simulated_preset: str, tmp_path_factory: pytest.TempPathFactory
) -> EndpointState:
    """Two engines of the simulated backend, each with 8 rows and 50 steps a second."""
    preset = tmp_path_factory.mktemp("pair") / "pair.toml"
    preset.write_text(with_two_engines(simulated_preset), encoding="utf-8")
    variables = {
        "INF2KIT_SIMULATED_STEP_SECONDS": "0.02",
        "INF2KIT_SIMULATED_LOAD_SECONDS": "2",
        "INF2KIT_STALL_SECONDS": str(STALL_S),
        "INF2KIT_SIMULATED_CRASH_ON_LENGTH": "7",
    }
    return start(str(preset), variables=variables)


def with_two_engines(preset: str) -> str:
    """A preset's text with two engines."""
    one = Path(preset).read_text(encoding="utf-8")
    return one.replace("dtype =", f"data_parallel_size = {ENGINES}\ndtype =")


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(CALLERS) as threads:
        yield threads


@dataclass
class Calls:
    """Calls with a prompt each, half of them streams, and how they ended.

    Attributes:
        prompts: The prompts.
        ends: What each has got: its text, or the status that it was refused with or broke off with.
    """

    prompts: list[str]
    ends: list[Future[str | int]]

    def results(self) -> dict[str, str | int]:
        """The end of each call, by its prompt."""
        return {prompt: end.result(PATIENCE_S) for prompt, end in zip(self.prompts, self.ends, strict=True)}


def call(caller: EndpointCaller, prompt: str, *, stream: bool) -> str | int:
    """A text, or the status of what came instead."""
    try:
        if not stream:
            return str(caller.generate(prompt, **LONG)[0]["generated_text"])
        last = caller.stream(prompt, **LONG)[-1]
    except ClientError as error:
        return int(error.response["OriginalStatusCode"])
    except EventStreamError:
        return 503
    return 503 if last.get("error_type") == "unavailable" else str(last["generated_text"])


def begin_calls(pair: EndpointState, pool: ThreadPoolExecutor) -> Calls:
    """Begin as many calls as there are rows, and wait until each has one."""
    wait_until(lambda: read_metrics(pair)["inf2kit_engines_serving"] == ENGINES, "both engines serve")
    caller = EndpointCaller(pair)
    prompts = [f"prompt {next(_names)}" for _ in range(CALLERS)]
    ends = [pool.submit(call, caller, prompt, stream=index % 4 < 2) for index, prompt in enumerate(prompts)]
    wait_until(lambda: read_metrics(pair)["inf2kit_rows_busy"] == CALLERS, "each call has a row")
    return Calls(prompts, ends)


def engine_process(pair: EndpointState, number: int) -> psutil.Process:
    (process,) = [
        process
        for process in find_processes(pair, "engine.server")
        if process.environ()["INF2KIT_ENGINE"] == str(number)
    ]
    return process


def watch_pings(pair: EndpointState, calls: Calls) -> set[int | None]:
    """The statuses of /ping until all calls have ended."""
    statuses = set()
    while not all(end.done() for end in calls.ends):
        statuses.add(ping(pair.gateway_port))
        time.sleep(0.05)
    return statuses


def check_that_one_engines_calls_were_lost(pair: EndpointState, calls: Calls) -> None:
    """Half of the calls were refused; the texts of the others are those that they have alone."""
    results = calls.results()
    texts = {prompt: end for prompt, end in results.items() if isinstance(end, str)}
    assert [end for end in results.values() if end == 503] == [503] * ROWS
    assert len(texts) == ROWS
    wait_until(lambda: read_metrics(pair)["inf2kit_engines_serving"] == ENGINES, "both engines serve again")
    caller = EndpointCaller(pair)
    with ThreadPoolExecutor(CALLERS) as pool:
        alone = pool.map(lambda prompt: call(caller, prompt, stream=False), results)
        assert {prompt: text for prompt, text in zip(results, alone, strict=True) if prompt in texts} == texts


def test_engines_have_cores_and_folders_of_their_own_and_load_one_after_the_other(
    pair: EndpointState,
) -> None:
    environments = [engine_process(pair, number).environ() for number in range(ENGINES)]
    assert [environment["NEURON_RT_VISIBLE_CORES"] for environment in environments] == ["0", "1"]
    assert len({environment["BASE_COMPILE_WORK_DIR"] for environment in environments}) == ENGINES
    folders = [Path(engine_process(pair, number).cwd()) for number in range(ENGINES)]
    assert [folder.name for folder in folders] == ["engine-0", "engine-1"]
    first, second = (engine_process(pair, number).create_time() for number in range(ENGINES))
    assert second - first > 2, "the load of the first one takes so long"


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("number", range(ENGINES))
def test_a_lost_engine_loses_its_own_calls_only(
    pair: EndpointState,
    pool: ThreadPoolExecutor,
    fault: signal.Signals,
    number: int,
    figure: Callable[[str], None],
) -> None:
    """Killed, or stopped as by a device that hangs, with 16 calls inside. /ping answers 200 all the time."""
    calls = begin_calls(pair, pool)
    engine = engine_process(pair, number)
    engine.send_signal(fault)
    began = time.monotonic()
    wait_until(lambda: read_metrics(pair)["inf2kit_engines_serving"] == 1, "the gateway knows it")
    noticed_s = time.monotonic() - began
    assert watch_pings(pair, calls) == {200}
    wait_until(lambda: not engine.is_running(), "the engine was ended")
    check_that_one_engines_calls_were_lost(pair, calls)
    figure(f"data parallel, {fault.name}: the engine got no more calls {noticed_s:.2f} s later")


def test_each_engine_can_be_replaced_in_turn(pair: EndpointState, pool: ThreadPoolExecutor) -> None:
    for number in range(ENGINES):
        calls = begin_calls(pair, pool)
        engine_process(pair, number).terminate()
        assert watch_pings(pair, calls) == {200}
        check_that_one_engines_calls_were_lost(pair, calls)
    log = LocalEndpoint(pair.name).find_log().read_text(encoding="utf-8")
    for number in range(ENGINES):
        assert f"inf2kit supervisor: the engine ended (engine {number} of 2) with signal 15; " in log
        assert f"inf2kit engine {number}: ready: simulated" in log


def test_capacity_falls_and_rises_with_the_engines(pair: EndpointState) -> None:
    wait_until(lambda: read_metrics(pair)["inf2kit_texts_limit"] == ENGINES * (ROWS + 4), "both are counted")
    (supervisor,) = find_processes(pair, "supervision.supervisor")
    with stopped(supervisor):
        engine_process(pair, 1).kill()
        wait_until(lambda: read_metrics(pair)["inf2kit_texts_limit"] == ROWS + 4, "one is counted")
        wait_until(lambda: load_lines(pair)[-1]["engines_missing"] == 1, "a line for the alarm")
        assert ping(pair.gateway_port) == 200
        assert EndpointCaller(pair).generate("x", max_new_tokens=2)
    wait_until(lambda: read_metrics(pair)["inf2kit_texts_limit"] == ENGINES * (ROWS + 4), "both are back")
    wait_until(lambda: load_lines(pair)[-1]["engines_missing"] == 0, "the alarm's line says so")


def test_a_pause_of_the_whole_container_ends_nothing(pair: EndpointState) -> None:
    """The supervisor may continue first: what it sees then is silence that was its own, too."""
    wait_until(lambda: read_metrics(pair)["inf2kit_engines_serving"] == ENGINES, "both engines serve")
    log = LocalEndpoint(pair.name).find_log()
    engines = [engine_process(pair, number) for number in range(ENGINES)]
    (gateway,) = find_processes(pair, "gateway.gateway")
    (supervisor,) = find_processes(pair, "supervision.supervisor")
    before = len(log.read_text(encoding="utf-8"))
    with stopped(gateway), stopped(engines[0]), stopped(engines[1]):
        with stopped(supervisor):
            time.sleep(STALL_S + 1)
        wait_until(lambda: "inf2kit supervisor: " in log.read_text(encoding="utf-8")[before:], "it continues")
    assert EndpointCaller(pair).generate("x", max_new_tokens=2)
    assert "stuck" not in log.read_text(encoding="utf-8")[before:]
    assert [engine_process(pair, number).pid for number in range(ENGINES)] == [each.pid for each in engines]


def load_lines(pair: EndpointState) -> list[dict[str, int]]:
    """What the gateway has logged for metric filters."""
    log = LocalEndpoint(pair.name).find_log().read_text(encoding="utf-8")
    return [json.loads(line) for line in log.splitlines() if line.startswith('{"inf2kit": "load"')]


def test_a_prompt_that_ends_an_engine_does_not_end_them_all(pair: EndpointState) -> None:
    """A caller that repeats it at once gets it to no other engine while only one is left."""
    caller = EndpointCaller(pair)
    wait_until(lambda: read_metrics(pair)["inf2kit_engines_serving"] == ENGINES, "both engines serve")
    before = read_metrics(pair)["inf2kit_engine_restarts"]
    statuses: list[str | int] = []
    give_up_at = time.monotonic() + PATIENCE_S
    while 422 not in statuses:
        statuses.append(call(caller, POISON, stream=len(statuses) % 2 == 0))
        assert ping(pair.gateway_port) == 200
        assert caller.generate("x", max_new_tokens=2), "other calls are answered all the time"
        assert time.monotonic() < give_up_at
    assert set(statuses) == {503, 422}
    assert read_metrics(pair)["inf2kit_engine_restarts"] == before + 2


def test_an_engine_that_cannot_load_again_is_left_out(
    start: Callable[..., EndpointState], simulated_preset: str, tmp_path: Path
) -> None:
    """The other one answers, also where /ping asks for both; without it, the endpoint gives up."""
    preset = tmp_path / "halved.toml"
    preset.write_text(with_two_engines(simulated_preset), encoding="utf-8")
    halved = start(str(preset), variables={"INF2KIT_MIN_ENGINES": "2"})
    (LocalEndpoint("halved").model_dir / "config.json").unlink()
    engine_process(halved, 1).kill()
    log = LocalEndpoint("halved").find_log()

    def is_logged(line: str) -> bool:
        return line in log.read_text(encoding="utf-8")

    wait_until(
        lambda: is_logged("inf2kit supervisor: cannot load the model (engine 1 of 2): "),
        "the reason is logged",
    )
    assert ping(halved.gateway_port) == 503
    body = {"inputs": "x", "parameters": {"max_new_tokens": 2, "details": True, "ignore_eos": True}}
    connection = http.client.HTTPConnection("127.0.0.1", halved.gateway_port, timeout=PATIENCE_S)
    connection.request("POST", "/invocations", json.dumps(body))
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())[0]["details"]["finish_reason"]) == (200, "length")
    connection.request("GET", "/ping")
    assert json.loads(connection.getresponse().read()) == {"status": "1 of 2 engines serve"}
    connection.close()
    engine_process(halved, 0).kill()
    wait_until(lambda: is_logged("inf2kit supervisor: cannot load the model: "), "the endpoint gives up")
