"""Asynchronous calls against the rehearsal cloud: by boto3, and by inf2kit with the parameter of a stack."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from inf2kit import Endpoint, Job, JobError, TextResult
from inf2kit.client.published import PublishedEndpoint
from tests.helpers.cloud_metrics import find_maximum
from tests.helpers.cloudformation import StackMaker, log_group
from tests.helpers.documents import ROOT, read_blocks
from tests.helpers.sagemaker import ResourceMaker
from tests.helpers.servers import PATIENCE_S, wait_until

THIS_FILE = str(Path(__file__).relative_to(ROOT))


def test_asynchronous_calls(
    maker: ResourceMaker,
    stacks: StackMaker,
    aws: Callable[..., Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of one endpoint. A metric filter counts a line of its container's log."""
    transformation = {"MetricName": "Instances", "MetricNamespace": "inf2kit", "MetricValue": "1"}
    metric_filter = {
        "LogGroupName": {"Ref": "Log"},
        "FilterPattern": '"processes on this machine"',
        "MetricTransformations": [transformation],
    }
    resources = {
        "Log": log_group("/aws/sagemaker/Endpoints/jobs"),
        "Started": {"Type": "AWS::Logs::MetricFilter", "Properties": metric_filter},
    }
    assert stacks.create("counted", resources) == "CREATE_COMPLETE"
    maker.create_model("jobs", INF2KIT_SIMULATED_STEP_SECONDS="0.1")
    output = {"S3OutputPath": "s3://models/jobs/answers/", "S3FailurePath": "s3://models/jobs/failures/"}
    maker.create_config("jobs", "jobs", asynchronous={"OutputConfig": output})
    maker.create_endpoint("jobs", "jobs")
    runtime = aws("sagemaker-runtime")
    with pytest.raises(ClientError, match="Endpoint jobs is in status Creating"):
        runtime.invoke_endpoint_async(EndpointName="jobs", Body=b"{}")
    assert maker.wait_until_settled("jobs")["EndpointStatus"] == "InService"
    check_limits(runtime)
    check_a_running_call_is_part_of_the_backlog(runtime, aws)
    wait_until(lambda: find_maximum(aws, "inf2kit", "Instances", {}) == 1, "the line that the filter counts")
    check_jobs_are_answered_and_fail_in_s3(aws, capsys)
    assert stacks.delete("counted") == "DELETE_COMPLETE"
    assert aws("logs").describe_metric_filters()["metricFilters"] == []


def check_limits(runtime: Any) -> None:
    for wrong, message in (
        ({"RequestTTLSeconds": 21_601}, "'requestTTLSeconds' failed .* less than or equal to 21600"),
        ({"InvocationTimeoutSeconds": 3601}, "less than or equal to 3600"),
        ({"CustomAttributes": 1025 * "x"}, "'customAttributes' failed"),
    ):
        with pytest.raises(ClientError, match=f"ValidationError.*{message}"):
            runtime.invoke_endpoint_async(EndpointName="jobs", Body=b"{}", **wrong)


def check_a_running_call_is_part_of_the_backlog(runtime: Any, aws: Callable[..., Any]) -> None:
    """The queue is empty, and one call runs."""
    body = json.dumps({"inputs": "Hello", "parameters": {"max_new_tokens": 60}})
    call = {"EndpointName": "jobs", "ContentType": "application/json", "Body": body}
    response = runtime.invoke_endpoint_async(**call, S3OutputPathExtension="today", Filename="first.json")
    assert response["OutputLocation"] == "s3://models/jobs/answers/today/first.json"
    dimensions = {"EndpointName": "jobs"}
    wait_until(
        lambda: find_maximum(aws, "AWS/SageMaker", "ApproximateBacklogSize", dimensions) == 1,
        "a running call",
    )


def check_jobs_are_answered_and_fail_in_s3(
    aws: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    published = PublishedEndpoint(
        endpoint_name="jobs",
        preset="jobs",
        asynchronous=True,
        async_input="s3://models/jobs/requests/",
        async_invocation_timeout_s=900,
    )
    aws("ssm").put_parameter(Name="/inf2kit/presets/jobs", Type="String", Value=published.to_json())
    endpoint = Endpoint.from_preset("jobs")
    single = endpoint.submit("Hello", max_new_tokens=4)
    several = endpoint.submit(["Hello", "Goodbye"], max_new_tokens=4)
    wrong = endpoint.submit("Hello", top_p=2)
    large = endpoint.submit("x" * 200_000, max_new_tokens=4)
    response = aws("sagemaker-runtime").invoke_endpoint_async(
        EndpointName="jobs", Body=b'{"inputs": "Hello", "parameters": {"max_new_tokens": 1}}'
    )
    assert response["ResponseMetadata"]["RequestId"]
    result = Job.from_id(single.id).result(timeout=PATIENCE_S)
    assert isinstance(result, TextResult)
    assert result.generated_tokens == 4
    results = several.result(timeout=PATIENCE_S)
    assert isinstance(results, list)
    assert [each.generated_tokens for each in results] == [4, 4]
    for job, sentence in ((wrong, "top_p"), (large, "answered")):
        with pytest.raises(JobError, match=sentence) as failed:
            job.result(timeout=PATIENCE_S)
        assert failed.value.status in (413, 422)
    assert Job.statuses([single, several, wrong, large]) == ["done", "done", "failed", "failed"]
    (block,) = [each for each in read_blocks("docs/client.md") if each.note == f"run by {THIS_FILE}"]
    code = block.code.replace("llama2-7b-budget", "jobs").replace("1500", "20")
    exec(compile(code, "docs/client.md", "exec"), {"Endpoint": Endpoint})  # noqa: S102
    assert len(capsys.readouterr().out.splitlines()) >= 2
