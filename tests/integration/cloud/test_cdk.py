"""The real cdk after a failed deployment, and beside another deployment."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aws_cdk
from aws_cdk import CfnResource

from tests.helpers.sagemaker import ResourceMaker
from tests.helpers.servers import wait_until

#: Refused by its service, since the role does not exist.
IMPOSSIBLE = {"PolicyName": "p", "PolicyDocument": {"Statement": []}, "Roles": ["nobody"]}
NO_APPROVAL = ("--require-approval", "never")


def synthesize(folder: Path, stack: str, resources: dict[str, tuple[str, dict[str, Any]]]) -> str:
    """Synthesize one stack whose resources depend on each other in their order."""
    app = aws_cdk.App(outdir=str(folder), analytics_reporting=False)
    scope = aws_cdk.Stack(app, stack)
    previous: CfnResource | None = None
    for name, (kind, properties) in resources.items():
        resource = CfnResource(scope, name, type=kind, properties=properties)
        if previous:
            resource.add_resource_dependency(previous)
        previous = resource
    app.synth()
    return str(folder)


def log_group(name: str) -> tuple[str, dict[str, Any]]:
    return "AWS::Logs::LogGroup", {"LogGroupName": name}


def describe_status(aws: Callable[..., Any], stack: str) -> str:
    (description,) = aws("cloudformation").describe_stacks(StackName=stack)["Stacks"]
    return str(description["StackStatus"])


def test_the_same_command_deploys_again_after_a_failed_creation(
    bootstrapped: Callable[..., Any], aws: Callable[..., Any], tmp_path: Path
) -> None:
    """cdk deletes the stack in ROLLBACK_COMPLETE; the new stack has a change set of the same name."""
    broken = synthesize(
        tmp_path / "broken", "anew", {"G": log_group("/anew"), "P": ("AWS::IAM::Policy", IMPOSSIBLE)}
    )
    assert bootstrapped("deploy", "anew", "--app", broken, *NO_APPROVAL, check=False).returncode != 0
    assert describe_status(aws, "anew") == "ROLLBACK_COMPLETE"
    repaired = synthesize(tmp_path / "repaired", "anew", {"G": log_group("/anew")})
    bootstrapped("deploy", "anew", "--app", repaired, *NO_APPROVAL)
    assert describe_status(aws, "anew") == "CREATE_COMPLETE"
    bootstrapped("destroy", "anew", "--force", "--app", repaired)


def test_two_deployments_at_a_time_leave_a_deployable_stack(
    bootstrapped: Callable[..., Any], aws: Callable[..., Any], maker: ResourceMaker, tmp_path: Path
) -> None:
    maker.create_model("beside")
    variant = {
        "VariantName": "main",
        "ModelName": "beside",
        "InstanceType": "ml.inf2.xlarge",
        "InitialInstanceCount": 1,
    }
    endpoint = {
        "C": ("AWS::SageMaker::EndpointConfig", {"EndpointConfigName": "c", "ProductionVariants": [variant]}),
        "E": ("AWS::SageMaker::Endpoint", {"EndpointName": "beside", "EndpointConfigName": "c"}),
    }
    first = synthesize(tmp_path / "first", "beside", endpoint)
    second = synthesize(tmp_path / "second", "beside", {**endpoint, "G": log_group("/beside")})
    with ThreadPoolExecutor() as pool:
        running = pool.submit(bootstrapped, "deploy", "beside", "--app", first, *NO_APPROVAL)
        wait_until(lambda: is_starting(aws), 60, "the endpoint of the first deployment starts")
        # cdk waits for the first deployment or refuses; a later command must succeed in both cases.
        bootstrapped("deploy", "beside", "--app", second, *NO_APPROVAL, check=False)
        running.result()
    bootstrapped("deploy", "beside", "--app", second, *NO_APPROVAL)
    assert describe_status(aws, "beside") in ("CREATE_COMPLETE", "UPDATE_COMPLETE")
    assert aws("logs").describe_log_groups(logGroupNamePrefix="/beside")["logGroups"]
    bootstrapped("destroy", "beside", "--force", "--app", second)


def is_starting(aws: Callable[..., Any]) -> bool:
    endpoints = aws("sagemaker").list_endpoints(NameContains="beside")["Endpoints"]
    return any(endpoint["EndpointStatus"] == "Creating" for endpoint in endpoints)
