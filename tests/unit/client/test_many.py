"""Many prompts at once: order, failures as values, a shared pause, and no prompt generated twice."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

import boto3
import pytest

from inf2kit import (
    AsyncEndpoint,
    Endpoint,
    EndpointError,
    EndpointInterruptedError,
    EndpointRequestError,
    EndpointServerError,
    TextResult,
)
from inf2kit.client.batch import Outcome
from inf2kit.client.progress import Progress
from tests.helpers.fault_server import FAULTS, FaultServer, container_error, echo, fault_server, read_prompt
from tests.helpers.servers import PATIENCE_S, wait_until

SESSION = boto3.session.Session("local", "local", region_name="us-east-1")
#: A tenth of the requests gets one of these.
REFUSED = ["throttled: 400 with a null message", "503 of SageMaker", "ModelNotReady", "503 of the container"]
LOST = ["reset in the middle", "half a frame, half a JSON", "ends before its end"]
COUNT = 1000


@pytest.fixture(scope="module")
def server() -> Iterator[FaultServer]:
    with fault_server() as server:
        yield server


def run(
    server: FaultServer, kind: str, name: str, prompts: Any, on_retry: Any = None, **options: Any
) -> list[Any]:
    """The outcomes of a batch, by either client."""
    where: dict[str, Any] = {"endpoint_url": server.url, "session": SESSION}
    if kind == "sync":
        endpoint = Endpoint(name, **where).with_options(on_retry=on_retry)
        return list(endpoint.generate_many(prompts, **options))

    async def collect() -> list[Any]:
        async with AsyncEndpoint(name, **where).with_options(on_retry=on_retry) as endpoint:
            return [outcome async for outcome in endpoint.generate_many(prompts, **options)]

    return asyncio.run(collect())


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_of_a_thousand_calls_each_has_a_result_or_a_typed_error_and_none_is_paid_for_twice(
    server: FaultServer, kind: str
) -> None:
    generated: Counter[str] = Counter()
    tries: Counter[str] = Counter()
    lock = threading.Lock()

    def answer_or_fail(connection: Any, is_stream: bool) -> None:
        prompt = read_prompt()
        with lock:
            tries[prompt] += 1
            # By the prompt, so that what fails does not depend on which thread comes first.
            dice = random.Random(f"{prompt}, {tries[prompt]}")
            choice = dice.choice(REFUSED + LOST) if dice.random() < 0.1 else ""
            if choice not in REFUSED:
                generated[prompt] += 1
        (FAULTS[choice] if choice else echo)(connection, is_stream)

    server.plans[f"thousand-{kind}"] = [answer_or_fail]
    prompts = [f"prompt {number}" for number in range(COUNT)]
    reports: list[Progress] = []
    began = time.perf_counter()
    outcomes: list[Outcome] = run(
        server, kind, f"thousand-{kind}", iter(prompts), concurrency=32, progress=reports.append
    )
    failures = [outcome for outcome in outcomes if isinstance(outcome, EndpointError)]
    print(f"{kind}: {COUNT} calls, {len(failures)} failed, {time.perf_counter() - began:.1f} s")
    assert len(outcomes) == COUNT
    for prompt, outcome in zip(prompts, outcomes, strict=True):
        if isinstance(outcome, TextResult):
            assert outcome.text == prompt, "in order"
        else:
            is_lost = isinstance(outcome, EndpointInterruptedError | EndpointServerError)
            assert is_lost or tries[prompt] == 3, "a refusal is the result after the third try only"
            assert outcome.attempts
    assert 0 < len(failures) < COUNT / 10
    assert max(generated.values()) == 1
    assert max(tries.values()) <= 3
    last = reports[-1]
    assert (last.done, last.failed, last.total) == (COUNT, len(failures), None)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_results_come_as_they_are_ready_with_the_index_of_their_prompt(
    server: FaultServer, kind: str
) -> None:
    others_done = threading.Event()

    def slow_first(connection: Any, is_stream: bool) -> None:
        if read_prompt() == "0":
            others_done.wait(PATIENCE_S)
        echo(connection, is_stream)

    def on_progress(progress: Progress) -> None:
        if progress.done == 7:
            others_done.set()

    server.plans[f"ready-{kind}"] = [slow_first]
    prompts = [str(number) for number in range(8)]
    pairs = run(
        server, kind, f"ready-{kind}", prompts, concurrency=4, as_completed=True, progress=on_progress
    )
    assert pairs[-1][0] == 0, "the slow one comes last"
    assert sorted((index, outcome.text) for index, outcome in pairs) == list(enumerate(prompts))


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_all_callers_wait_together_when_the_endpoint_is_full(server: FaultServer, kind: str) -> None:
    lock, asked_to_wait = threading.Lock(), threading.Event()
    arrivals: list[float] = []
    full = container_error(429, {"error": "full", "error_type": "queue_full", "retry_after_s": 1})

    def full_once(connection: Any, is_stream: bool) -> None:
        with lock:
            arrivals.append(time.monotonic())
            is_first = len(arrivals) == 1
        if is_first:
            wait_until(lambda: len(arrivals) == 4, "every caller has called")
            full(connection, is_stream)
        else:
            asked_to_wait.wait(PATIENCE_S)
            echo(connection, is_stream)

    asked_at: list[float] = []

    def on_retry(_: object) -> None:
        asked_at.append(time.monotonic())
        asked_to_wait.set()

    server.plans[f"full-{kind}"] = [full_once]
    prompts = [str(number) for number in range(12)]
    outcomes = run(server, kind, f"full-{kind}", prompts, on_retry, concurrency=4)
    assert [outcome.text for outcome in outcomes] == prompts
    early = [at for at in arrivals[4:] if at - asked_at[0] < 0.9]
    assert early == [], "nobody calls while one of them was asked to wait for a second"


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_prompts_are_taken_as_they_are_needed_and_no_call_begins_after_the_caller_left(
    server: FaultServer, kind: str
) -> None:
    server.plans[f"left-{kind}"] = [echo]
    taken: list[int] = []

    def prompts() -> Iterator[str]:
        for number in range(100_000):
            taken.append(number)
            yield str(number)

    if kind == "sync":
        endpoint = Endpoint(f"left-{kind}", endpoint_url=server.url, session=SESSION)
        for _ in endpoint.generate_many(prompts(), concurrency=2):
            break
    else:

        async def take_one() -> None:
            endpoint = AsyncEndpoint(f"left-{kind}", endpoint_url=server.url, session=SESSION)
            outcomes = endpoint.generate_many(prompts(), concurrency=2)
            async with endpoint, aclosing(outcomes):
                await anext(outcomes)

        asyncio.run(take_one())
    assert len(taken) < 50
    assert server.requests[f"left-{kind}"] < 50


@pytest.mark.parametrize("in_order", [True, False])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_until_lets_no_further_call_begin_and_drops_no_answer(
    server: FaultServer, kind: str, in_order: bool
) -> None:
    name = f"until-{kind}-{in_order}"
    server.plans[name] = [echo]
    done: list[int] = []

    outcomes = run(
        server,
        kind,
        name,
        map(str, itertools.count()),
        concurrency=4,
        as_completed=not in_order,
        progress=lambda progress: done.append(progress.done),
        until=lambda: len(done) >= 20,
    )
    texts = [outcome.text for outcome in outcomes] if in_order else [pair[1].text for pair in outcomes]
    assert len(texts) == server.requests[name] == len(done)
    assert 20 <= len(texts) < 40
    assert sorted(texts, key=int) == [str(number) for number in range(len(texts))], "none is missing"
    assert texts == sorted(texts, key=int) or not in_order


def test_an_error_of_until_is_the_batchs(server: FaultServer) -> None:
    server.plans["wrong-until"] = [echo]
    with pytest.raises(ZeroDivisionError):
        run(server, "sync", "wrong-until", ["a", "b"], until=lambda: bool(1 / 0))


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_prompt_that_cannot_be_sent_fails_alone(server: FaultServer, kind: str) -> None:
    server.plans[f"alone-{kind}"] = [echo]
    outcomes = run(server, kind, f"alone-{kind}", ["a", 3, "b"])
    assert [type(outcome) for outcome in outcomes] == [TextResult, EndpointRequestError, TextResult]


@pytest.mark.parametrize(
    ("prompts", "options"), [("one text", {}), (["a"], {"concurrency": 0}), (["a"], {"n": 2})]
)
def test_wrong_arguments_are_a_sentence(server: FaultServer, prompts: Any, options: Any) -> None:
    with pytest.raises(EndpointRequestError):
        Endpoint("e", endpoint_url=server.url, session=SESSION).generate_many(prompts, **options)


def test_progress_says_how_fast_and_how_long() -> None:
    progress = Progress(done=25, total=100, failed=2, generated_tokens=500, elapsed_s=10.0)
    assert str(progress) == "25/100 done, 2 failed, 50 tokens/s, 30 s left"
    assert str(Progress(0, None, 0, 0, 0.0)) == "0 done, 0 failed, 0 tokens/s"
