"""What the real cdk makes of stacks that failed, and of two deployments at a time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aws_cdk
from aws_cdk import CfnResource

from tests.helpers.sagemaker import ResourceMaker
from tests.helpers.servers import wait_until

#: Refused by its service: the role is not there.
IMPOSSIBLE = {"PolicyName": "p", "PolicyDocument": {"Statement": []}, "Roles": ["nobody"]}
UNASKED = ("--require-approval", "never")


def synthesized(folder: Path, stack: str, resources: dict[str, tuple[str, dict[str, Any]]]) -> str:
    """An assembly of one stack whose resources are made one after the other."""
    app = aws_cdk.App(outdir=str(folder), analytics_reporting=False)
    made = aws_cdk.Stack(app, stack)
    before: CfnResource | None = None
    for name, (kind, properties) in resources.items():
        resource = CfnResource(made, name, type=kind, properties=properties)
        if before:
            resource.add_resource_dependency(before)
        before = resource
    app.synth()
    return str(folder)


def group(name: str) -> tuple[str, dict[str, Any]]:
    return "AWS::Logs::LogGroup", {"LogGroupName": name}


def status_of(aws: Callable[..., Any], stack: str) -> str:
    (found,) = aws("cloudformation").describe_stacks(StackName=stack)["Stacks"]
    return str(found["StackStatus"])


def test_a_first_deployment_that_failed_is_made_anew_by_the_mended_command(
    bootstrapped: Callable[..., Any], aws: Callable[..., Any], tmp_path: Path
) -> None:
    """cdk deletes the stack in ROLLBACK_COMPLETE; the new one has a change set of the same name."""
    broken = synthesized(
        tmp_path / "broken", "anew", {"G": group("/anew"), "P": ("AWS::IAM::Policy", IMPOSSIBLE)}
    )
    assert bootstrapped("deploy", "anew", "--app", broken, *UNASKED, check=False).returncode != 0
    assert status_of(aws, "anew") == "ROLLBACK_COMPLETE"
    mended = synthesized(tmp_path / "mended", "anew", {"G": group("/anew")})
    bootstrapped("deploy", "anew", "--app", mended, *UNASKED)
    assert status_of(aws, "anew") == "CREATE_COMPLETE"
    bootstrapped("destroy", "anew", "--force", "--app", mended)


def test_a_deployment_beside_another_one_leaves_a_stack_that_can_be_deployed(
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
    first = synthesized(tmp_path / "first", "beside", endpoint)
    second = synthesized(tmp_path / "second", "beside", {**endpoint, "G": group("/beside")})
    with ThreadPoolExecutor() as side_by_side:
        running = side_by_side.submit(bootstrapped, "deploy", "beside", "--app", first, *UNASKED)
        wait_until(lambda: starting(aws), 60, "the endpoint of the first deployment starts")
        # cdk waits for the other one or refuses; either way a later command must do.
        bootstrapped("deploy", "beside", "--app", second, *UNASKED, check=False)
        running.result()
    bootstrapped("deploy", "beside", "--app", second, *UNASKED)
    assert status_of(aws, "beside") in ("CREATE_COMPLETE", "UPDATE_COMPLETE")
    assert aws("logs").describe_log_groups(logGroupNamePrefix="/beside")["logGroups"]
    bootstrapped("destroy", "beside", "--force", "--app", second)


def starting(aws: Callable[..., Any]) -> bool:
    found = aws("sagemaker").list_endpoints(NameContains="beside")["Endpoints"]
    return any(endpoint["EndpointStatus"] == "Creating" for endpoint in found)
