"""The states in which a stack takes some operations only, as on AWS."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.helpers.cloudformation import (
    IMPOSSIBLE,
    Resources,
    StackMaker,
    list_log_groups,
    log_group,
    parameter,
    template,
)
from tests.helpers.servers import wait_until


def bucket(name: str, **attributes: Any) -> dict[str, Any]:
    return {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": name}, **attributes}


def keep(group: str, days: int) -> dict[str, Any]:
    return {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": group, "RetentionInDays": days}}


@pytest.fixture
def fill(aws: Callable[..., Any]) -> Callable[[str], None]:
    """Put an object into a bucket, which then cannot be deleted."""
    return lambda name: aws("s3").put_object(Bucket=name, Key="o", Body=b"x")


def empty(aws: Callable[..., Any], name: str) -> None:
    aws("s3").delete_object(Bucket=name, Key="o")


def create_change_set(stacks: StackMaker, stack: str, resources: Resources, **options: Any) -> str:
    """Create a change set and return its id."""
    stacks.delete_later(stack)
    options = {"ChangeSetName": "changes", "ChangeSetType": "CREATE", **options}
    body = template(resources)
    return str(stacks.client.create_change_set(StackName=stack, TemplateBody=body, **options)["Id"])


def test_a_rollback_that_cannot_delete_fails(
    stacks: StackMaker, aws: Callable[..., Any], fill: Callable[[str], None]
) -> None:
    resources = {
        "Base": log_group("/stuck-base"),
        "Bucket": bucket("stuck-bucket", DependsOn="Base"),
        "Other": log_group("/stuck-other"),
        "Policy": {**IMPOSSIBLE, "DependsOn": ["Bucket", "Other"]},
    }
    assert stacks.create("stuck", resources, DisableRollback=True) == "CREATE_FAILED"
    fill("stuck-bucket")
    stacks.client.rollback_stack(StackName="stuck")
    assert stacks.wait_until_settled("stuck") == "ROLLBACK_FAILED"
    assert "failed to delete: [Bucket]" in stacks.describe("stuck")["StackStatusReason"]
    assert stacks.client.get_template(StackName="stuck")["TemplateBody"] == json.loads(template(resources))
    assert stacks.client.get_template_summary(StackName="stuck")["ResourceTypes"]
    # What the bucket depends on is left, and nothing else.
    assert list_log_groups(aws("logs")) & {"/stuck-base", "/stuck-other"} == {"/stuck-base"}
    with pytest.raises(ClientError, match="ROLLBACK_FAILED state and can not be updated"):
        stacks.update("stuck", {"G": log_group("/stuck")})
    empty(aws, "stuck-bucket")
    assert stacks.delete("stuck") == "DELETE_COMPLETE"
    assert "/stuck-base" not in list_log_groups(aws("logs"))


def test_a_deletion_that_fails_goes_on_without_what_is_retained(
    stacks: StackMaker, aws: Callable[..., Any], fill: Callable[[str], None]
) -> None:
    for name in ("left", "forced"):
        resources = {"Bucket": bucket(f"{name}-bucket"), "Group": log_group(f"/{name}")}
        assert stacks.create(name, resources) == "CREATE_COMPLETE"
        fill(f"{name}-bucket")
    with pytest.raises(ClientError, match="left behind only in DELETE_FAILED"):
        stacks.client.delete_stack(StackName="left", RetainResources=["Bucket"])
    for name in ("left", "forced"):
        assert stacks.delete(name) == "DELETE_FAILED"
        assert "failed to delete: [Bucket]" in stacks.describe(name)["StackStatusReason"]
        assert f"/{name}" not in list_log_groups(aws("logs"))
    with pytest.raises(ClientError, match="DELETE_FAILED state and can not be updated"):
        stacks.update("left", {"G": log_group("/left")})
    with pytest.raises(ClientError, match=r"has no resources \[Nothing\] to retain"):
        stacks.client.delete_stack(StackName="left", RetainResources=["Nothing"])
    identity = stacks.describe("left")["StackId"]
    stacks.client.delete_stack(StackName="left", RetainResources=["Bucket"])
    assert stacks.wait_until_settled(identity) == "DELETE_COMPLETE"
    identity = stacks.describe("forced")["StackId"]
    stacks.client.delete_stack(StackName="forced", DeletionMode="FORCE_DELETE_STACK")
    assert stacks.wait_until_settled(identity) == "DELETE_COMPLETE"
    names = {each["Name"] for each in aws("s3").list_buckets()["Buckets"]}
    assert {"left-bucket", "forced-bucket"} <= names
    for name in ("left-bucket", "forced-bucket"):
        empty(aws, name)
        aws("s3").delete_bucket(Bucket=name)


def fail_a_rollback(stacks: StackMaker, aws: Callable[..., Any], name: str) -> None:
    """Leave a stack in UPDATE_ROLLBACK_FAILED: its log group was deleted by somebody else."""
    value = f"/{name}-value"
    assert stacks.create(name, {"Group": keep(f"/{name}", 1), "Value": parameter(value, "old")}) == (
        "CREATE_COMPLETE"
    )
    changed = {
        "Value": parameter(value, "new"),
        "Group": {**keep(f"/{name}", 7), "DependsOn": "Value"},
        "Policy": {**IMPOSSIBLE, "DependsOn": "Group"},
    }
    assert stacks.update(name, changed, DisableRollback=True) == "UPDATE_FAILED"
    aws("logs").delete_log_group(logGroupName=f"/{name}")
    stacks.client.rollback_stack(StackName=name)
    assert stacks.wait_until_settled(name) == "UPDATE_ROLLBACK_FAILED"
    assert "failed to update: [Group]" in stacks.describe(name)["StackStatusReason"]
    assert aws("ssm").get_parameter(Name=value)["Parameter"]["Value"] == "new", "that comes after the group"


def test_a_failed_rollback_of_an_update_is_continued(stacks: StackMaker, aws: Callable[..., Any]) -> None:
    fail_a_rollback(stacks, aws, "resumed")
    with pytest.raises(ClientError, match="UPDATE_ROLLBACK_FAILED state and can not be updated"):
        stacks.update("resumed", {"G": log_group("/resumed")})
    stacks.client.continue_update_rollback(StackName="resumed")
    assert stacks.wait_until_settled("resumed") == "UPDATE_ROLLBACK_FAILED", "nothing was repaired"
    aws("logs").create_log_group(logGroupName="/resumed")
    stacks.client.continue_update_rollback(StackName="resumed")
    assert stacks.wait_until_settled("resumed") == "UPDATE_ROLLBACK_COMPLETE"
    assert aws("ssm").get_parameter(Name="/resumed-value")["Parameter"]["Value"] == "old"
    with pytest.raises(ClientError, match="can not continue rollback"):
        stacks.client.continue_update_rollback(StackName="resumed")
    good = {"Group": keep("/resumed", 3), "Value": parameter("/resumed-value", "newest")}
    assert stacks.update("resumed", good) == "UPDATE_COMPLETE"


def test_a_resource_is_skipped_in_a_continued_rollback(stacks: StackMaker, aws: Callable[..., Any]) -> None:
    fail_a_rollback(stacks, aws, "skipping")
    with pytest.raises(ClientError, match=r"resources \[Value\] cannot be skipped"):
        stacks.client.continue_update_rollback(StackName="skipping", ResourcesToSkip=["Value"])
    stacks.client.continue_update_rollback(StackName="skipping", ResourcesToSkip=["Group"])
    assert stacks.wait_until_settled("skipping") == "UPDATE_ROLLBACK_COMPLETE"
    assert aws("ssm").get_parameter(Name="/skipping-value")["Parameter"]["Value"] == "old"


def test_a_continued_rollback_is_forced(stacks: StackMaker, aws: Callable[..., Any]) -> None:
    fail_a_rollback(stacks, aws, "forcing")
    stacks.client.continue_update_rollback(StackName="forcing", ForceRollback=True)
    assert stacks.wait_until_settled("forcing") == "UPDATE_ROLLBACK_COMPLETE"
    assert aws("ssm").get_parameter(Name="/forcing-value")["Parameter"]["Value"] == "old"


def test_without_rollback_nothing_is_replaced(stacks: StackMaker) -> None:
    stacks.create("exchange", {"Group": log_group("/exchange-old")})
    changed = {"Group": log_group("/exchange-new")}
    assert stacks.update("exchange", changed, DisableRollback=True) == "UPDATE_FAILED"
    assert "Replacement type updates not supported" in stacks.describe("exchange")["StackStatusReason"]
    with pytest.raises(ClientError, match=r"non-terminal \[UPDATE_FAILED\] state"):
        stacks.update("exchange", {"Group": log_group("/exchange-old"), "P": parameter("/exchange", "1")})
    stacks.client.rollback_stack(StackName="exchange")
    assert stacks.wait_until_settled("exchange") == "UPDATE_ROLLBACK_COMPLETE"
    assert stacks.update("exchange", changed) == "UPDATE_COMPLETE"


def test_the_statuses_of_change_sets(stacks: StackMaker) -> None:
    client = stacks.client
    resources = {"G": log_group("/reviewed")}
    change_set = create_change_set(stacks, "reviewed", resources)
    with pytest.raises(ClientError, match="REVIEW_IN_PROGRESS state and can not be updated"):
        stacks.update("reviewed", resources)
    with pytest.raises(client.exceptions.AlreadyExistsException):
        stacks.create("reviewed", resources)
    with pytest.raises(client.exceptions.AlreadyExistsException, match="ChangeSet changes already exists"):
        create_change_set(stacks, "reviewed", resources)
    client.delete_change_set(ChangeSetName=change_set)
    # A stack in review without change sets takes another one.
    change_set = create_change_set(stacks, "reviewed", resources)
    client.execute_change_set(ChangeSetName=change_set)
    assert stacks.wait_until_settled("reviewed") == "CREATE_COMPLETE"

    def execution() -> str:
        status = str(client.describe_change_set(ChangeSetName=change_set)["ExecutionStatus"])
        return "" if status == "EXECUTE_IN_PROGRESS" else status

    assert wait_until(execution, "the execution is over") == "EXECUTE_COMPLETE"
    with pytest.raises(ClientError, match=r"execution status of \[EXECUTE_COMPLETE\]") as raised:
        client.execute_change_set(ChangeSetName=change_set)
    assert raised.value.response["Error"]["Code"] == "InvalidChangeSetStatus"
    with pytest.raises(ClientError, match="already exists and cannot be created again with the changeSet"):
        create_change_set(stacks, "reviewed", resources)
    same = create_change_set(stacks, "reviewed", resources, ChangeSetType="UPDATE")
    assert client.describe_change_set(ChangeSetName=same)["Status"] == "FAILED"
    with pytest.raises(ClientError, match=r"current status of \[FAILED\]"):
        client.execute_change_set(ChangeSetName=same)
    with pytest.raises(ClientError, match="cannot create change sets of the type IMPORT"):
        create_change_set(stacks, "reviewed", resources, ChangeSetType="IMPORT")
    tagged = create_change_set(
        stacks,
        "reviewed",
        resources,
        ChangeSetName="tagged",
        ChangeSetType="UPDATE",
        Tags=[{"Key": "team", "Value": "a"}],
    )
    client.execute_change_set(ChangeSetName=tagged)
    assert stacks.wait_until_settled("reviewed") == "UPDATE_COMPLETE"
    assert stacks.describe("reviewed")["Tags"] == [{"Key": "team", "Value": "a"}]
    create_change_set(stacks, "beside", resources)
    summaries = client.list_change_sets(StackName="reviewed")["Summaries"]
    assert [summary["ChangeSetName"] for summary in summaries] == ["tagged"]


def test_requests_at_the_same_time_create_one_stack(stacks: StackMaker) -> None:
    resources = {"G": log_group("/raced")}
    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(
                lambda number: create_change_set(stacks, "raced", resources, ChangeSetName=f"c{number}"),
                range(8),
            )
        )
    every = stacks.client.get_paginator("describe_stacks").paginate().build_full_result()["Stacks"]
    assert [stack["StackName"] for stack in every].count("raced") == 1
    summaries = stacks.client.list_change_sets(StackName="raced")["Summaries"]
    assert len(summaries) == 8

    def execute(summary: dict[str, Any]) -> bool:
        try:
            stacks.client.execute_change_set(ChangeSetName=summary["ChangeSetId"])
        except ClientError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(execute, summaries)).count(True) == 1
    assert stacks.wait_until_settled("raced") == "CREATE_COMPLETE"


def test_a_stack_that_is_reviewed_or_deleted_can_be_deleted(stacks: StackMaker) -> None:
    create_change_set(stacks, "abandoned", {"G": log_group("/abandoned")})
    assert stacks.delete("abandoned") == "DELETE_COMPLETE"
    stacks.client.delete_stack(StackName="abandoned")


def test_a_failed_creation_is_deleted_on_request(stacks: StackMaker, aws: Callable[..., Any]) -> None:
    resources = {"Group": log_group("/gone"), "Policy": {**IMPOSSIBLE, "DependsOn": "Group"}}
    identity = stacks.client.create_stack(
        StackName="gone",
        TemplateBody=template(resources),
        OnFailure="DELETE",
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )["StackId"]
    wait_until(lambda: stacks.describe(identity)["StackStatus"] == "DELETE_COMPLETE", "it is deleted")
    with pytest.raises(ClientError, match="does not exist"):
        stacks.describe("gone")
    with pytest.raises(ClientError, match="only valid when ChangeSetType is CREATE"):
        create_change_set(stacks, "gone", resources, ChangeSetType="UPDATE", OnStackFailure="DELETE")


def test_a_protected_stack_is_not_deleted(stacks: StackMaker) -> None:
    group = {"G": log_group("/guarded")}
    assert stacks.create("guarded", group, EnableTerminationProtection=True) == "CREATE_COMPLETE"
    with pytest.raises(ClientError, match="TerminationProtection is enabled"):
        stacks.delete("guarded")
    stacks.client.update_termination_protection(StackName="guarded", EnableTerminationProtection=False)
    assert stacks.delete("guarded") == "DELETE_COMPLETE"


def test_a_role_must_exist_and_trust_cloudformation(stacks: StackMaker, aws: Callable[..., Any]) -> None:
    account = "arn:aws:iam::123456789012:role"
    for role in (f"{account}/nobody", f"{account}/execution"):
        with pytest.raises(ClientError, match=f"Role {role} is invalid or cannot be assumed"):
            stacks.create("with-role", {"G": log_group("/with-role")}, RoleARN=role)
    principal = {"Service": "cloudformation.amazonaws.com"}
    trust = json.dumps({"Statement": {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": principal}})
    iam = aws("iam")
    iam.create_role(RoleName="deployer", AssumeRolePolicyDocument=trust)
    created = stacks.create("with-role", {"G": log_group("/with-role")}, RoleARN=f"{account}/deployer")
    assert created == "CREATE_COMPLETE"
    iam.delete_role(RoleName="deployer")
    with pytest.raises(ClientError, match="deployer is invalid or cannot be assumed"):
        stacks.client.delete_stack(StackName="with-role")
    iam.create_role(RoleName="deployer", AssumeRolePolicyDocument=trust)
    assert stacks.delete("with-role") == "DELETE_COMPLETE"
    iam.delete_role(RoleName="deployer")


def test_two_stacks_cannot_export_one_name(stacks: StackMaker) -> None:
    client = stacks.client
    stacks.delete_later("first", "second")
    for name in ("first", "second"):
        outputs = {"O": {"Value": name, "Export": {"Name": "n"}}}
        body = json.dumps({"Resources": {"G": log_group(f"/{name}")}, "Outputs": outputs})
        client.create_stack(StackName=name, TemplateBody=body)
        status = stacks.wait_until_settled(name)
    assert status == "ROLLBACK_COMPLETE"
    reasons = [reason for _, _, reason in stacks.events("second")]
    assert "Export with name n is already exported by stack first." in reasons
    exports = {each["Name"]: each["Value"] for each in client.list_exports()["Exports"]}
    assert exports["n"] == "first"


def test_what_the_rehearsal_fails_at_is_one_sentence_and_no_retry(stacks: StackMaker) -> None:
    """A status of 500 would be tried again for a minute, and show a page of HTML."""
    with pytest.raises(ClientError, match="The rehearsal itself failed: AttributeError") as raised:
        stacks.client.get_template_summary(TemplateBody="- a")
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
