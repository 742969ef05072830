"""Every option of the stacks, deployed by the real cdk: updated to, updated from, and gone in the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import inf2kit
from inf2kit import Endpoint, paths
from inf2kit.names import COMPILE_ROLE_STACK
from infra.app import build_app
from infra.options import APP_KEYS, OPTIONS
from tests.helpers.cloud import generate
from tests.helpers.sagemaker import allow_policy
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
#: The boundary of every role.
BOUNDED = {"@aws-cdk/core:permissionsBoundary": '{"name": "limit"}'}
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
#: Stacks beside the first: the same preset again, another preset, and the role of compilation jobs.
BESIDE = {"stage": "dev", "compile_output": "s3://models/llm", "compile_token_secret": "hub"}
OF_ONE_PRESET = {"endpoint_name": "another"}
OWN = "mine"
#: Given with every deployment.
GIVEN = ("package", "manifest", "preset")


def test_every_option_is_here() -> None:
    """An option that is not deployed below fails this test."""
    contexts = (QUIET, LOUD, CANARY, UNSCALED, LARGER, ASYNC, BESIDE, OF_ONE_PRESET, GIVEN)
    assert {name for each in contexts for name in each} == {*OPTIONS, *APP_KEYS}


@pytest.mark.timeout(1200)
def test_every_option_is_deployed_and_taken_back(
    aws: Callable[..., Any], bootstrapped: Callable[..., Any], package: Callable[..., str], tmp_path: Path
) -> None:
    sagemaker, runtime, iam = aws("sagemaker"), aws("sagemaker-runtime"), aws("iam")
    own = tmp_path / f"{OWN}.toml"
    shipped = Path(inf2kit.presets.__file__).with_name(f"{PRESET}.toml")  # type: ignore[attr-defined]
    own.write_text(shipped.read_text(encoding="utf-8"), encoding="utf-8")
    uris = [package(PRESET), package(str(own))]
    manifest = tmp_path / "inf2kit.json"
    manifest.write_bytes(paths.manifest(uris[0].split("/")[-2]).read_bytes())
    contexts = dict(zip(GIVEN, (",".join(uris), str(manifest), str(own)), strict=True))
    allowed = allow_policy((["s3:*", "logs:*", "cloudwatch:*", "kms:*", "ecr:*", "ec2:*"], "*"))
    limit = iam.create_policy(PolicyName="limit", PolicyDocument=allowed)["Policy"]["Arn"]

    def assembly(context: Mapping[str, Any]) -> str:
        folder = str(tmp_path / str(abs(hash(json.dumps(context)))))
        build_app({**contexts, **context}, outdir=folder).synth()
        return folder

    def deploy(context: Mapping[str, Any], *stacks: str) -> None:
        command = ("deploy", *(stacks or (STACK,)), "--require-approval", "never", "--concurrency", "3")
        bootstrapped(*command, "--app", assembly(context))

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

    deploy(LOUD | FLEET | BOUNDED)
    assert configuration() != first
    assert boundaries(iam) == {limit}
    wait_until(lambda: instances() == 2, "a second instance")
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=NAME, WaiterConfig={"Delay": 1})
    deploy(CANARY | UNSCALED)
    assert boundaries(iam) == set()
    assert instances() == 2
    deploy(LARGER)
    wait_until(lambda: instances() == 1, "one instance again")
    assert generate(runtime, NAME)
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=NAME, WaiterConfig={"Delay": 1})

    stacks = (f"{STACK}-dev", f"inf2-{OWN}-dev", COMPILE_ROLE_STACK)
    beside = {**BESIDE, PRESET: OF_ONE_PRESET}
    deploy(beside, *stacks)
    names = (PRESET, f"{PRESET}-dev", f"{OWN}-dev")
    endpoints = {name: Endpoint.from_preset(name).name for name in names}
    assert endpoints == {PRESET: NAME, f"{PRESET}-dev": "another", f"{OWN}-dev": f"{OWN}-dev"}
    assert len(Endpoint.from_preset(f"{PRESET}-dev").generate("Hello", max_new_tokens=2).text)
    bootstrapped("destroy", "--force", *stacks, "--app", assembly(beside))
    assert generate(runtime, NAME), "the first stack is as it was"
    alarms = [alarm["AlarmName"] for alarm in aws("cloudwatch").describe_alarms()["MetricAlarms"]]
    assert alarms
    assert all(alarm.startswith(f"{NAME}-") for alarm in alarms)

    deploy(ASYNC)
    assert [each["EndpointName"] for each in sagemaker.list_endpoints()["Endpoints"]] == [f"{NAME}-async"]
    bootstrapped("destroy", "--force", STACK, "--app", assembly(ASYNC))
    iam.delete_policy(PolicyArn=limit)
    assert sagemaker.list_endpoints()["Endpoints"] == []
    assert aws("cloudwatch").describe_alarms()["MetricAlarms"] == []
    targets = aws("application-autoscaling").describe_scalable_targets(ServiceNamespace="sagemaker")
    assert targets["ScalableTargets"] == []
    prefix = "/aws/sagemaker/Endpoints/"
    groups = aws("logs").describe_log_groups(logGroupNamePrefix=prefix)["logGroups"]
    endpoints = (NAME, f"{NAME}-async", "another", f"{OWN}-dev")
    assert [each for each in groups if each["logGroupName"].removeprefix(prefix) in endpoints] == []
    assert aws("logs").describe_metric_filters()["metricFilters"] == []


def boundaries(iam: Any) -> set[str]:
    """The boundaries of the execution roles."""
    roles = [role["RoleName"] for role in iam.list_roles()["Roles"] if "-ExecutionRole" in role["RoleName"]]
    assert roles
    described = [iam.get_role(RoleName=name)["Role"] for name in roles]
    return {
        str(role["PermissionsBoundary"]["PermissionsBoundaryArn"])
        for role in described
        if "PermissionsBoundary" in role
    }
