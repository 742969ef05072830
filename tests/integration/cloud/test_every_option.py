"""Every option of the stacks, deployed by the real cdk: updated to, updated from, and gone in the end."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from inf2kit.cdk import EndpointProps
from infra.app import build_app
from tests.helpers.cloud import generate
from tests.helpers.servers import wait_until

PRESET, NAME = "tinyllama-1.1b-starter", "tinyllama-1-1b-starter"
STACK = f"inf2-{NAME}"
KEY = "arn:aws:kms:us-east-1:123456789012:key/12345678-1234-1234-1234-123456789012"
#: The instances that run are left alone.
QUIET = {
    "max_instances": "3",
    "target_concurrency": "2",
    "scale_out_cooldown_s": "30",
    "scale_in_cooldown_s": "600",
    "bucket_owner": "123456789012",
    "package_kms_key_arn": KEY,
    "alarm_email": "ops@example.com",
    "max_errors_per_minute": "7",
    "max_errors_percent": "7",
    "idle_hours": "3",
    "log_retention_days": "7",
    "log_removal": "retain",
    "log_kms_key_arn": KEY,
}
#: The instances are exchanged.
LOUD = {
    "rollback": "false",
    "startup_timeout_s": "3000",
    "download_timeout_s": "3000",
    "volume_gb": "300",
    "environment": "INF2KIT_QUEUE_SIZE=8",
    "network_isolation": "false",
    "kms_key_arn": KEY,
    "subnet_ids": "subnet-0123456789abcdef0",
    "security_group_ids": "sg-0123456789abcdef0",
    "data_capture_percent": "5",
    "data_capture_output": "s3://models/captured/",
}
#: More instances first, and then an update that needs them.
FLEET = {"min_instances": "2", "max_instances": "2"}
CANARY = {**FLEET, "rollout": "canary"}
#: SageMaker refuses another instance type while the variant is a scalable target.
UNSCALED = {"scalable": "false"}
LARGER = {"instance_type": "ml.inf2.8xlarge"}
ASYNC = {
    "asynchronous": "true",
    "async_output": "s3://models/answers/",
    "async_deadline_s": "600",
    "min_instances": "0",
    "max_instances": "2",
}
STAGED = {"stage": "dev", "endpoint_name": "another"}


def test_every_option_is_here() -> None:
    here = {name for each in (QUIET, LOUD, CANARY, UNSCALED, LARGER, ASYNC, STAGED) for name in each}
    assert here == {field.name for field in dataclasses.fields(EndpointProps)} - {"preset", "package"}


@pytest.mark.timeout(900)
def test_every_option_is_deployed_and_taken_back(
    aws: Callable[..., Any], cdk: Callable[..., Any], package: Callable[..., str], tmp_path: Path
) -> None:
    uri, sagemaker, runtime = package(PRESET), aws("sagemaker"), aws("sagemaker-runtime")
    cdk("bootstrap", "--app", "", "aws://123456789012/us-east-1")

    def assembly(context: Mapping[str, str]) -> str:
        folder = str(tmp_path / str(abs(hash(json.dumps(context)))))
        build_app({"package": uri, **context}, outdir=folder).synth()
        return folder

    def deploy(context: Mapping[str, str], stack: str = STACK) -> None:
        cdk("deploy", stack, "--require-approval", "never", "--app", assembly(context))

    def configuration(endpoint: str = NAME) -> str:
        return str(sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointConfigName"])

    def instances() -> int:
        (variant,) = sagemaker.describe_endpoint(EndpointName=NAME)["ProductionVariants"]
        return int(variant["CurrentInstanceCount"])

    deploy({})
    first = configuration()
    deploy(QUIET)
    deploy({})
    assert configuration() == first, "no instance was exchanged for them"

    deploy(LOUD | FLEET)
    assert configuration() != first
    wait_until(lambda: instances() == 2, 60, "a second instance")
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=NAME, WaiterConfig={"Delay": 1})
    deploy(CANARY | UNSCALED)
    assert instances() == 2
    deploy(LARGER)
    wait_until(lambda: instances() == 1, 60, "one instance again")
    assert generate(runtime, NAME)
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=NAME, WaiterConfig={"Delay": 1})

    deploy(STAGED, f"{STACK}-dev")
    deploy(ASYNC)
    assert {each["EndpointName"] for each in sagemaker.list_endpoints()["Endpoints"]} == {
        f"{NAME}-async",
        "another",
    }
    assert generate(runtime, "another")

    cdk("destroy", "--force", f"{STACK}-dev", "--app", assembly(STAGED))
    cdk("destroy", "--force", STACK, "--app", assembly(ASYNC))
    assert sagemaker.list_endpoints()["Endpoints"] == []
    assert aws("cloudwatch").describe_alarms()["MetricAlarms"] == []
    targets = aws("application-autoscaling").describe_scalable_targets(ServiceNamespace="sagemaker")
    assert targets["ScalableTargets"] == []
    prefix = "/aws/sagemaker/Endpoints/"
    groups = aws("logs").describe_log_groups(logGroupNamePrefix=prefix)["logGroups"]
    own = (NAME, f"{NAME}-async", "another")
    assert [each for each in groups if each["logGroupName"].removeprefix(prefix) in own] == []
    assert aws("logs").describe_metric_filters()["metricFilters"] == []
