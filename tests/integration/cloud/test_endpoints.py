"""Endpoints as boto3 sees them, from their creation to their deletion."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest
from botocore.exceptions import BotoCoreError, ClientError

import inf2kit
from inf2kit.package.environment import container_environment
from inf2kit.rehearsal.cloud.settings import CloudSettings
from inf2kit.rehearsal.container import processes
from tests.helpers.cloud import generate
from tests.helpers.cloudformation import StackMaker, log_group
from tests.helpers.sagemaker import ResourceMaker
from tests.helpers.servers import wait_until

#: A user's handler that writes to the model directory when it is imported.
WRITING_HANDLER = """
import os

open(os.path.join(os.environ["SAGEMAKER_BASE_DIR"], "model", "written"), "w")
raise OSError
from inf2kit.serving.worker import input_fn, model_fn, output_fn, predict_fn
"""


def find_model_server(cloud: CloudSettings, endpoint: str) -> psutil.Process:
    for process in processes.list_processes(cloud.run_dir, nested=True):
        with contextlib.suppress(psutil.Error):  # it may end meanwhile
            base_dir = process.environ().get("SAGEMAKER_BASE_DIR", "")
            if "java" in process.name() and f"/{endpoint}/" in base_dir:
                return process
    raise LookupError(f"no container of {endpoint} runs")


def highest(aws: Callable[..., Any], namespace: str, name: str, dimensions: dict[str, str]) -> float:
    """The maximum of a metric within the last five minutes; 0 without data."""
    now = dt.datetime.now(dt.timezone.utc)
    points = aws("cloudwatch").get_metric_statistics(
        Namespace=namespace,
        MetricName=name,
        Dimensions=[{"Name": key, "Value": value} for key, value in dimensions.items()],
        StartTime=now - dt.timedelta(minutes=5),
        EndTime=now + dt.timedelta(minutes=1),
        Period=300,
        Statistics=["Maximum"],
    )["Datapoints"]
    return max((float(point["Maximum"]) for point in points), default=0.0)


def check_parameters_of_calls(runtime: Any) -> None:
    """Those that select nothing special reach the container, others are refused; whole and streamed."""
    call = {"EndpointName": "life", "ContentType": "application/json", "Body": b'{"inputs": "Hello"}'}
    for parameter, value in {
        "TargetVariant": "main",
        "InferenceId": "mine",
        "PrefixAwareId": "application",
        "CustomAttributes": 1024 * "x",
    }.items():
        assert runtime.invoke_endpoint(**call, **{parameter: value})["Body"].read()
    for operation in ("invoke_endpoint", "invoke_endpoint_with_response_stream"):
        takes = runtime.meta.service_model.operation_model(
            runtime.meta.method_to_api_mapping[operation]
        ).input_shape.members
        for parameter, value, message in (
            ("TargetVariant", "another", "Variant another not found in endpoint life"),
            ("TargetModel", "another", "not a multi-model endpoint and does not support target model header"),
            ("InferenceComponentName", "another", "Endpoint life has no inference components"),
            ("TargetContainerHostname", "another", "Endpoint life has one container only"),
            ("EnableExplanations", "`true`", "Endpoint life has no explainer"),
            ("SessionId", "another", "Endpoint life has no stateful model"),
            ("CustomAttributes", 1025 * "x", "'customAttributes' failed .* less than or equal to 1024"),
            ("InferenceId", 65 * "x", "'inferenceId' failed .* less than or equal to 64"),
        ):
            if parameter in takes:
                with pytest.raises(ClientError, match=f"ValidationError.*{message}"):
                    getattr(runtime, operation)(**call, **{parameter: value})


def test_the_life_of_an_endpoint(cloud: CloudSettings, maker: ResourceMaker, aws: Callable[..., Any]) -> None:
    """Created, refused while it starts, called, its container killed and replaced, deleted."""
    runtime, sagemaker = aws("sagemaker-runtime"), maker.sagemaker
    maker.create_model("m")
    maker.create_config("c", "m")
    maker.create_endpoint("life", "c", Tags=[{"Key": "mine", "Value": "1"}])
    with pytest.raises(ClientError, match="in status Creating"):
        generate(runtime, "life")
    with pytest.raises(ClientError, match="Cannot update in-progress endpoint"):
        sagemaker.update_endpoint(EndpointName="life", EndpointConfigName="c")
    assert maker.wait_until_settled("life")["EndpointStatus"] == "InService"
    arn = "arn:aws:sagemaker:us-east-1:123456789012:endpoint/life"
    tags = {tag["Key"]: tag["Value"] for tag in sagemaker.list_tags(ResourceArn=arn)["Tags"]}
    assert tags == {"mine": "1", "inf2kit:rehearsal": "rehearsal: the simulated backend"}
    assert generate(runtime, "life")
    with pytest.raises(ClientError, match="not an asynchronous one"):
        runtime.invoke_endpoint_async(EndpointName="life", Body=b"{}")
    check_parameters_of_calls(runtime)
    with pytest.raises(ClientError, match="larger than 25,000,000 bytes"):
        generate(runtime, "life", "x" * 25_000_000)
    killed = find_model_server(cloud, "life")
    killed.kill()

    def is_replaced() -> bool:
        with contextlib.suppress(ClientError, LookupError):
            return find_model_server(cloud, "life").pid != killed.pid and bool(generate(runtime, "life"))
        return False

    wait_until(is_replaced, "a killed container is replaced")
    groups = aws("logs").describe_log_groups(logGroupNamePrefix="/aws/sagemaker/Endpoints/life")
    (group,) = groups["logGroups"]
    lines = aws("logs").filter_log_events(logGroupName=group["logGroupName"])["events"]
    assert "inf2kit rehearsal" in lines[0]["message"]
    assert lines[0]["logStreamName"].startswith("main/i-")
    aws("logs").delete_log_group(logGroupName=group["logGroupName"])


def test_an_instance_is_stopped_while_calls_run_in_it(maker: ResourceMaker, aws: Callable[..., Any]) -> None:
    """SageMaker does not wait for running calls before it sends its signal."""
    maker.create_model("slow", INF2KIT_SIMULATED_STEP_SECONDS="0.1")
    maker.create_config("before", "slow")
    maker.create_config("after", "slow")
    maker.create_endpoint("stopped", "before")
    assert maker.wait_until_settled("stopped")["EndpointStatus"] == "InService"
    runtime, tokens = aws("sagemaker-runtime", read_timeout=70), 450

    def call() -> int:
        """Return the number of new tokens; 0 for a call that was cut off."""
        try:
            (answer,) = generate(runtime, "stopped", max_new_tokens=tokens, details=True)
        except (ClientError, BotoCoreError):
            return 0
        return int(answer["details"]["generated_tokens"])

    def concurrent_requests() -> float:
        dimensions = {"EndpointName": "stopped", "VariantName": "main"}
        return highest(aws, "AWS/SageMaker", "ConcurrentRequestsPerModel", dimensions)

    with ThreadPoolExecutor() as pool:
        running = pool.submit(call)
        wait_until(concurrent_requests, "the call runs")
        maker.sagemaker.update_endpoint(EndpointName="stopped", EndpointConfigName="after")
        assert maker.wait_until_settled("stopped")["EndpointConfigName"] == "after"
        assert running.result() < tokens


def test_a_failed_endpoint_says_why(maker: ResourceMaker, aws: Callable[..., Any]) -> None:
    """The container never answers /ping with 200."""
    maker.create_model("m", INF2KIT_BACKEND="nonsense")
    maker.create_config("c", "m")
    maker.create_endpoint("never", "c")
    failed = maker.wait_until_settled("never")
    assert failed["EndpointStatus"] == "Failed"
    assert "did not pass the ping health check" in failed["FailureReason"]
    assert "nonsense" in failed["FailureReason"]
    with pytest.raises(ClientError, match="in status Failed"):
        generate(aws("sagemaker-runtime"), "never")


def test_a_container_that_writes_to_its_model_is_refused(
    aws: Callable[..., Any], package: Callable[..., str]
) -> None:
    """SageMaker mounts the model read-only; without a check the user root could write to it here."""
    preset = "tinyllama-1.1b-starter"
    uri = package(preset, WRITING_HANDLER)
    maker = ResourceMaker(aws("sagemaker"), uri, container_environment(inf2kit.load_preset(preset)))
    try:
        maker.create_model("m")
        maker.create_config("c", "m")
        maker.create_endpoint("writes", "c")
        failed = maker.wait_until_settled("writes")
        assert failed["EndpointStatus"] == "Failed"
        reason = failed["FailureReason"]
        assert "read-only" in reason or "Permission denied" in reason, json.dumps(reason)
    finally:
        maker.delete_all()


def test_a_running_call_is_part_of_the_backlog(
    maker: ResourceMaker, stacks: StackMaker, aws: Callable[..., Any]
) -> None:
    """The queue is empty, and one call runs. A metric filter counts a line of the container's log."""
    runtime = aws("sagemaker-runtime")
    transformation = {"MetricName": "Instances", "MetricNamespace": "inf2kit", "MetricValue": "1"}
    metric_filter = {
        "LogGroupName": {"Ref": "Log"},
        "FilterPattern": '"processes on this machine"',
        "MetricTransformations": [transformation],
    }
    resources = {
        "Log": log_group("/aws/sagemaker/Endpoints/counted"),
        "Started": {"Type": "AWS::Logs::MetricFilter", "Properties": metric_filter},
    }
    assert stacks.create("counted", resources) == "CREATE_COMPLETE"
    maker.create_model("slow", INF2KIT_SIMULATED_STEP_SECONDS="0.1")
    output = {"OutputConfig": {"S3OutputPath": "s3://models/answers"}}
    maker.create_config("slow", "slow", asynchronous=output)
    maker.create_endpoint("counted", "slow")
    with pytest.raises(ClientError, match="Endpoint counted is in status Creating"):
        runtime.invoke_endpoint_async(EndpointName="counted", Body=b"{}")
    assert maker.wait_until_settled("counted")["EndpointStatus"] == "InService"
    for wrong, message in (
        ({"RequestTTLSeconds": 21_601}, "'requestTTLSeconds' failed .* less than or equal to 21600"),
        ({"InvocationTimeoutSeconds": 3601}, "less than or equal to 3600"),
        ({"CustomAttributes": 1025 * "x"}, "'customAttributes' failed"),
    ):
        with pytest.raises(ClientError, match=f"ValidationError.*{message}"):
            runtime.invoke_endpoint_async(EndpointName="counted", Body=b"{}", **wrong)
    body = json.dumps({"inputs": "Hello", "parameters": {"max_new_tokens": 60}})
    call = {"EndpointName": "counted", "ContentType": "application/json", "Body": body}
    response = runtime.invoke_endpoint_async(**call, S3OutputPathExtension="today", Filename="first.json")
    assert response["OutputLocation"] == "s3://models/answers/today/first.json"

    dimensions = {"EndpointName": "counted"}
    wait_until(
        lambda: highest(aws, "AWS/SageMaker", "ApproximateBacklogSize", dimensions) == 1, "a running call"
    )
    wait_until(lambda: highest(aws, "inf2kit", "Instances", {}) == 1, "the line that the filter counts")
    assert stacks.delete("counted") == "DELETE_COMPLETE"
    assert aws("logs").describe_metric_filters()["metricFilters"] == []
