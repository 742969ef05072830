"""Endpoints as boto3 sees them, from their creation to their deletion."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from botocore.exceptions import ClientError

import inf2kit
from inf2kit import toml
from inf2kit.package.environment import container_environment
from inf2kit.rehearsal.cloud.settings import CloudSettings
from inf2kit.rehearsal.container import processes
from tests.helpers.background_calls import call_in_background
from tests.helpers.cloud import generate
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
    with pytest.raises(ClientError, match="Endpoint life of account 123456789012 is in status Creating"):
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


def test_an_update_of_an_endpoint_with_two_engines_loses_no_call(
    cloud: CloudSettings,
    maker: ResourceMaker,
    aws: Callable[..., Any],
    package: Callable[..., str],
    tmp_path: Path,
) -> None:
    """New containers take no call before both of their engines have loaded, one after the other."""
    preset = inf2kit.load_preset("llama2-7b-throughput")
    preset = replace(preset, compute=replace(preset.compute, tensor_parallel_size=8, data_parallel_size=2))
    path = tmp_path / "two-engines.toml"
    path.write_text(toml.dumps(preset.to_dict()), encoding="utf-8")
    source, variables = package(str(path)), container_environment(preset)
    two = ResourceMaker(maker.sagemaker, source, variables)
    with contextlib.ExitStack() as cleaning:
        cleaning.callback(two.delete_all)
        for name, more in {"before": {}, "after": {"INF2KIT_SIMULATED_LOAD_SECONDS": "3"}}.items():
            two.create_model(name, **more)
            two.create_config(name, name)
        two.create_endpoint("two-engines", "before")
        assert two.wait_until_settled("two-engines")["EndpointStatus"] == "InService"
        runtime = aws("sagemaker-runtime", read_timeout=70)
        with call_in_background(runtime, "two-engines", threads=4) as calls:
            maker.sagemaker.update_endpoint(EndpointName="two-engines", EndpointConfigName="after")
            assert two.wait_until_settled("two-engines")["EndpointStatus"] == "InService"
            served = calls.served
            wait_until(lambda: calls.served > served + 8, "calls of the new container")
        assert calls.errors == []
        assert len(calls.texts) == 1, "one prompt, one text, whichever engine it was"
        wait_until(
            lambda: sorted(engine_numbers(cloud, "two-engines")) == ["0", "1"], "the old ones have ended"
        )


def engine_numbers(cloud: CloudSettings, endpoint: str) -> Iterator[str]:
    """The numbers of an endpoint's engines that run."""
    for process in processes.list_processes(cloud.run_dir, nested=True):
        with contextlib.suppress(psutil.Error):  # it may end meanwhile
            if "inf2kit.serving.engine.server" in process.cmdline():
                environment = process.environ()
                if f"/{endpoint}/" in environment.get("SAGEMAKER_BASE_DIR", ""):
                    yield environment["INF2KIT_ENGINE"]
