"""Asynchronous calls: what is sent, and what their answers in S3 become. The S3 is moto's."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from inf2kit import (
    AsyncEndpoint,
    AsyncJob,
    Endpoint,
    EndpointAccessError,
    EndpointError,
    EndpointRequestError,
    Job,
    JobError,
    TextResult,
)
from inf2kit.bench.load.loops import Until
from inf2kit.bench.load.plan import Request, Workload
from inf2kit.bench.load.run import Plan
from inf2kit.bench.load.samples import Load, Sample
from inf2kit.bench.load.start import Address, open_run
from inf2kit.client.jobs import Ticket
from inf2kit.client.submission import MAX_INLINE
from tests.helpers.fault_server import FaultServer, fault_server, head, read_request, whole_body
from tests.helpers.servers import PATIENCE_S

FOLDER = "s3://jobs/inf2kit-async/e"
TICKET = Ticket(
    endpoint="e",
    output=f"{FOLDER}/answers/1.out",
    failure=f"{FOLDER}/failures/1-error.out",
    inference_id="id-1",
    submitted_at=time.time(),
    longest_s=22_500,
    chat=False,
    single=True,
)
FAILURE = (
    'Received client error (422) from model with message "{"error": "\'top_p\' is 2", "error_type": "x"}".'
)


@pytest.fixture
def s3(aws: str) -> Any:
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="jobs")
    yield s3
    for item in s3.list_objects_v2(Bucket="jobs").get("Contents", ()):
        s3.delete_object(Bucket="jobs", Key=item["Key"])
    s3.delete_bucket(Bucket="jobs")


@pytest.fixture
def runtime(s3: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    """A server that accepts asynchronous calls, as SageMaker does, and answers none of them."""

    def accept(connection: Any, is_stream: bool) -> None:
        server.seen.append(read_request())  # type: ignore[attr-defined]
        locations = {
            "x_amzn_sagemaker_outputlocation": TICKET.output,
            "x_amzn_sagemaker_failurelocation": TICKET.failure,
        }
        body = b'{"InferenceId": "id-1"}'
        connection.sendall(head(202, "application/json", len(body), **locations) + body)

    with fault_server() as server:
        server.plans["e"] = [accept]
        server.seen = []  # type: ignore[attr-defined]
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", server.url)
        value = {
            "endpoint_name": "e",
            "asynchronous": True,
            "async_input": f"{FOLDER}/requests/",
            "async_invocation_timeout_s": 3600,
        }
        ssm = boto3.client("ssm")
        ssm.put_parameter(
            Name="/inf2kit/presets/mine", Type="String", Value=json.dumps(value), Overwrite=True
        )
        yield server


def put(s3: Any, uri: str, content: bytes) -> None:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    s3.put_object(Bucket=bucket, Key=key, Body=content)


def test_a_small_request_travels_in_the_call(runtime: FaultServer, s3: Any) -> None:
    job = Endpoint.from_preset("mine").submit("Once", max_new_tokens=2000)
    ((headers, body),) = runtime.seen  # type: ignore[attr-defined]
    assert json.loads(body)["parameters"]["max_new_tokens"] == 2000
    assert headers["x-amzn-sagemaker-invocationtimeoutseconds"] == "3600"
    assert job.status() == "pending"
    put(s3, TICKET.output, whole_body("a long text"))
    assert job.status() == "done"
    result = Job.from_id(job.id).result(timeout=PATIENCE_S)
    assert isinstance(result, TextResult)
    assert (result.text, result.request_id) == ("a long text", "id-1")


def test_a_large_request_goes_through_s3(runtime: FaultServer, s3: Any) -> None:
    job = Endpoint.from_preset("mine").submit(["x" * MAX_INLINE, "y"])
    ((headers, body),) = runtime.seen  # type: ignore[attr-defined]
    location = headers["x-amzn-sagemaker-inputlocation"]
    assert body == b""
    assert location.startswith(f"{FOLDER}/requests/")
    stored = s3.get_object(Bucket="jobs", Key=location.removeprefix("s3://jobs/"))["Body"].read()
    assert json.loads(stored)["inputs"] == ["x" * MAX_INLINE, "y"]
    put(s3, TICKET.output, whole_body("text"))
    assert isinstance(job.result(), list)
    with pytest.raises(EndpointRequestError, match="more than the 128,000 that a call may carry"):
        Endpoint("e").submit("x" * MAX_INLINE)


def test_the_same_with_asyncio(runtime: FaultServer, s3: Any) -> None:
    async def run() -> Any:
        async with await AsyncEndpoint.from_preset("mine") as endpoint:
            job = await endpoint.submit("Once")
        assert await job.status() == "pending"
        waiting = asyncio.ensure_future((await AsyncJob.from_id(job.id)).result(timeout=PATIENCE_S))
        await asyncio.sleep(0)
        put(s3, TICKET.output, whole_body("text"))
        return await waiting

    assert asyncio.run(run()).text == "text"


def test_a_failure_says_what_the_container_said(s3: Any) -> None:
    put(s3, TICKET.failure, FAILURE.encode())
    job = Job(TICKET, s3)
    assert job.status() == "failed"
    with pytest.raises(JobError, match=r"failed: endpoint 'e' answered: 'top_p' is 2") as failed:
        job.result()
    assert (failed.value.status, failed.value.code, failed.value.request_id) == (422, "x", "id-1")
    put(s3, TICKET.failure, b"something else")
    with pytest.raises(JobError, match="failed: something else"):
        job.result()


def test_what_cannot_have_an_answer_any_more_is_not_waited_for(s3: Any) -> None:
    old = Job(dataclasses.replace(TICKET, submitted_at=time.time() - 30_000), s3)
    assert old.status() == "expired"
    with pytest.raises(JobError, match="SageMaker dropped it") as expired:
        old.result()
    assert expired.value.code == "expired"
    with pytest.raises(JobError, match=r"not done after 0\.2 s; it goes on") as pending:
        Job(TICKET, s3).result(timeout=0.2)
    assert pending.value.code == "pending"


def test_many_jobs_are_one_listing_of_each_folder(s3: Any) -> None:
    tickets = [
        dataclasses.replace(
            TICKET, output=f"{FOLDER}/answers/{number}.out", failure=f"{FOLDER}/failures/{number}.out"
        )
        for number in range(20)
    ]
    put(s3, tickets[3].output, b"[]")
    put(s3, tickets[5].failure, b"no")
    calls: list[str] = []
    s3.meta.events.register("before-call.s3", lambda model, **_: calls.append(model.name))
    assert Job.statuses([Job(ticket, s3) for ticket in tickets]) == [
        {3: "done", 5: "failed"}.get(number, "pending") for number in range(20)
    ]
    assert calls == ["ListObjectsV2"] * 2
    assert Job.statuses([]) == []


def test_a_job_cannot_be_cancelled_and_says_so(s3: Any) -> None:
    with pytest.raises(JobError, match="SageMaker has no call for that"):
        Job(TICKET, s3).cancel()


@pytest.mark.parametrize("wrong", ["", "x", "e30", "bm8", "é"])
def test_what_is_no_id_is_a_sentence(aws: str, wrong: str) -> None:
    with pytest.raises(JobError, match="not the id of a job"):
        Job.from_id(wrong)


def test_a_bucket_that_is_gone_is_a_sentence(s3: Any) -> None:
    elsewhere = Job(dataclasses.replace(TICKET, output="s3://nowhere/x.out"), s3)
    with pytest.raises(EndpointAccessError, match="listing s3://nowhere/"):
        Job.statuses([elsewhere])
    with pytest.raises(EndpointError):
        Job(dataclasses.replace(TICKET, output="s3://jobs/"), s3).status()


def test_a_load_benchmark_measures_jobs(s3: Any, runtime: FaultServer) -> None:
    put(s3, TICKET.output, whole_body())
    workload = Workload("one text", requests=(Request("Once", (), {"max_new_tokens": 4}),))
    plan = Plan((Load("callers", 2),), Until(60, 6), workload, 0, 0, False, {"latency": 60.0})

    async def measure() -> list[Sample]:
        address = Address("e")
        run = await open_run(
            address, "jobs", plan, timeout_s=30, metrics_url=None, on_progress=lambda _: None
        )
        cells = [cell async for cell in run.cells(await run.prepare(), asyncio.Event())]
        await run.aclose()
        return [sample for cell in cells for sample in cell.samples]

    samples = asyncio.run(measure())
    assert [(each.failure, each.generated_tokens, each.chunk_s) for each in samples] == [(None, 4, ())] * 6
    put(s3, TICKET.failure, FAILURE.encode())
    s3.delete_object(Bucket="jobs", Key=TICKET.output.removeprefix("s3://jobs/"))
    failed = asyncio.run(measure())
    assert {each.failure for each in failed} == {"job: x"}
