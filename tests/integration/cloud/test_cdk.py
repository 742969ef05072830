"""The real cdk after a failed deployment, and beside another deployment."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aws_cdk
from aws_cdk import CfnResource
from botocore.exceptions import ClientError

from inf2kit.rehearsal.cloud.settings import CloudSettings
from tests.helpers.cloud import BIN, ROOT, shell_environment
from tests.helpers.cloudformation import StackMaker, template
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


def test_cdk_goes_on_from_every_state_that_a_failure_leaves(
    bootstrapped: Callable[..., Any], aws: Callable[..., Any], stacks: StackMaker, tmp_path: Path
) -> None:
    groups = {"Group": log_group("/mended")}
    good = synthesize(tmp_path / "good", "mended", groups)
    broken = synthesize(tmp_path / "broken", "mended", {**groups, "P": ("AWS::IAM::Policy", IMPOSSIBLE)})
    deploy = ("deploy", "mended", *NO_APPROVAL, "--app")

    # A cdk that was killed before it executed its change set.
    body = template({"Group": {"Type": "AWS::Logs::LogGroup"}})
    stacks.client.create_change_set(
        StackName="mended",
        ChangeSetName="cdk-deploy-change-set",
        ChangeSetType="CREATE",
        TemplateBody=body,
    )
    assert bootstrapped(*deploy, broken, "--no-rollback", check=False).returncode != 0
    assert describe_status(aws, "mended") == "CREATE_FAILED"
    refused = bootstrapped(*deploy, good, check=False)
    assert "Stack is in a paused fail state (CREATE_FAILED)" in refused.stdout + refused.stderr
    assert describe_status(aws, "mended") == "CREATE_FAILED"
    bootstrapped(*deploy, good, "--no-rollback")
    assert describe_status(aws, "mended") == "UPDATE_COMPLETE"

    group = {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": "/mended", "RetentionInDays": 1}}
    impossible = {"Type": "AWS::IAM::Policy", "Properties": IMPOSSIBLE, "DependsOn": "Group"}
    failed = {"Group": group, "P": impossible}
    assert stacks.update("mended", failed, DisableRollback=True) == "UPDATE_FAILED"
    aws("logs").delete_log_group(logGroupName="/mended")
    bootstrapped("rollback", "mended", "--app", good, check=False)
    assert describe_status(aws, "mended") == "UPDATE_ROLLBACK_FAILED"
    bootstrapped("rollback", "mended", "--app", good, "--orphan", "Group")
    assert describe_status(aws, "mended") == "UPDATE_ROLLBACK_COMPLETE"
    bootstrapped("destroy", "mended", "--force", "--app", good)

    # A creation whose rollback could not delete a bucket, which somebody emptied since.
    bucket = {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "mended-bucket"}}
    stuck = {"Bucket": bucket, "P": {**impossible, "DependsOn": "Bucket"}}
    assert stacks.create("mended", stuck, DisableRollback=True) == "CREATE_FAILED"
    aws("s3").put_object(Bucket="mended-bucket", Key="o", Body=b"x")
    stacks.client.rollback_stack(StackName="mended")
    assert stacks.wait_until_settled("mended") == "ROLLBACK_FAILED"
    refused = bootstrapped(*deploy, good, check=False)
    assert "DELETE_FAILED (The following resource(s) failed to delete: [Bucket].)" in refused.stderr
    aws("s3").delete_object(Bucket="mended-bucket", Key="o")
    assert stacks.delete("mended") == "DELETE_COMPLETE"


def test_a_killed_cdk_leaves_a_stack_that_settles_and_is_deployed_again(
    bootstrapped: Callable[..., Any],
    aws: Callable[..., Any],
    cloud: CloudSettings,
    home: Path,
    tmp_path: Path,
) -> None:
    """Killed as soon as the stack exists: in review, or being created."""
    app = synthesize(tmp_path / "killed", "killed", {"G": log_group("/killed")})

    def status() -> str:
        with contextlib.suppress(ClientError):
            return describe_status(aws, "killed")
        return ""

    process = subprocess.Popen(
        [str(BIN / "cdk"), "deploy", "killed", "--app", app, *NO_APPROVAL],
        cwd=ROOT,
        env=shell_environment(cloud, home),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_until(status, "the stack exists")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    wait_until(lambda: status() in ("REVIEW_IN_PROGRESS", "CREATE_COMPLETE"), "it has settled")
    bootstrapped("deploy", "killed", "--app", app, *NO_APPROVAL)
    assert status() == "CREATE_COMPLETE"
    bootstrapped("destroy", "killed", "--force", "--app", app)


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
        wait_until(lambda: is_starting(aws), "the endpoint of the first deployment starts")
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
