"""Stacks as boto3 sees them: created, updated, rolled back and deleted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.helpers.cloudformation import IMPOSSIBLE, StackMaker, list_log_groups, log_group, parameter


def test_a_failed_creation_leaves_nothing(stacks: StackMaker, aws: Callable[..., Any]) -> None:
    resources = {"Group": log_group("/failing"), "Policy": {**IMPOSSIBLE, "DependsOn": "Group"}}
    assert stacks.create("failing", resources) == "ROLLBACK_COMPLETE"
    assert "/failing" not in list_log_groups(aws("logs"))
    transitions = [(name, status) for name, status, _ in stacks.events("failing")]
    assert transitions == [
        ("failing", "CREATE_IN_PROGRESS"),
        ("Group", "CREATE_IN_PROGRESS"),
        ("Group", "CREATE_COMPLETE"),
        ("Policy", "CREATE_IN_PROGRESS"),
        ("Policy", "CREATE_FAILED"),
        ("failing", "ROLLBACK_IN_PROGRESS"),
        ("Group", "DELETE_IN_PROGRESS"),
        ("Group", "DELETE_COMPLETE"),
        ("failing", "ROLLBACK_COMPLETE"),
    ]
    assert any("nobody" in reason for _, _, reason in stacks.events("failing"))


def test_without_rollback_a_failed_creation_can_be_completed_or_undone(
    stacks: StackMaker, aws: Callable[..., Any]
) -> None:
    resources = {"Group": log_group("/paused"), "Policy": {**IMPOSSIBLE, "DependsOn": "Group"}}
    assert stacks.create("paused", resources, DisableRollback=True) == "CREATE_FAILED"
    assert "/paused" in list_log_groups(aws("logs"))
    repaired = {"Group": log_group("/paused"), "P": parameter("/p", "1")}
    with pytest.raises(ClientError, match=r"non-terminal \[CREATE_FAILED\] state"):
        stacks.update("paused", repaired)
    assert stacks.update("paused", repaired, DisableRollback=True) == "UPDATE_COMPLETE"
    assert stacks.create("undone", {**resources, "Group": log_group("/undone")}, DisableRollback=True) == (
        "CREATE_FAILED"
    )
    stacks.client.rollback_stack(StackName="undone")
    assert stacks.wait_until_settled("undone") == "ROLLBACK_COMPLETE"
    assert "/undone" not in list_log_groups(aws("logs"))


def test_a_rolled_back_creation_can_only_be_deleted(stacks: StackMaker) -> None:
    stacks.create("dead", {"Policy": IMPOSSIBLE})
    with pytest.raises(ClientError, match="ROLLBACK_COMPLETE state and can not be updated"):
        stacks.update("dead", {"G": log_group("/dead")})
    assert stacks.delete("dead") == "DELETE_COMPLETE"


def test_an_update_changes_replaces_and_removes(stacks: StackMaker, aws: Callable[..., Any]) -> None:
    stacks.create(
        "changing",
        {"Kept": parameter("/kept", "1"), "Named": log_group("/old-name"), "Gone": log_group("/gone")},
    )
    before = stacks.client.describe_stack_resources(StackName="changing")["StackResources"]
    resources = {
        "Kept": parameter("/kept", {"Fn::Join": ["", ["now ", {"Ref": "Named"}]]}),
        "Named": log_group("/new-name"),
    }
    assert stacks.update("changing", resources) == "UPDATE_COMPLETE"
    assert aws("ssm").get_parameter(Name="/kept")["Parameter"]["Value"] == "now /new-name"
    assert not {"/old-name", "/gone"} & list_log_groups(aws("logs"))
    assert "/new-name" in list_log_groups(aws("logs"))
    assert {resource["LogicalResourceId"] for resource in before} == {"Kept", "Named", "Gone"}
    events = stacks.events("changing")
    replaced = [
        reason for name, status, reason in events if (name, status) == ("Named", "UPDATE_IN_PROGRESS")
    ]
    assert replaced == ["Requested update requires the creation of a new physical resource"]
    # The new resource is created before the old one is deleted.
    transitions = [(name, status) for name, status, _ in events]
    assert transitions.index(("Named", "UPDATE_COMPLETE")) < transitions.index(("Named", "DELETE_COMPLETE"))


def test_a_failed_update_is_undone_step_by_step(stacks: StackMaker, aws: Callable[..., Any]) -> None:
    good = {"Value": parameter("/undo", "old"), "Named": log_group("/undo-old")}
    stacks.create("undo", good)
    body = stacks.client.get_template(StackName="undo")["TemplateBody"]
    bad = {
        "Value": parameter("/undo", "new"),
        "Named": log_group("/undo-new"),
        "Added": log_group("/undo-added"),
        "Policy": {**IMPOSSIBLE, "DependsOn": ["Value", "Named", "Added"]},
    }
    assert stacks.update("undo", bad) == "UPDATE_ROLLBACK_COMPLETE"
    assert aws("ssm").get_parameter(Name="/undo")["Parameter"]["Value"] == "old"
    assert "/undo-old" in list_log_groups(aws("logs"))
    assert not {"/undo-new", "/undo-added"} & list_log_groups(aws("logs"))
    assert stacks.client.get_template(StackName="undo")["TemplateBody"] == body
    assert stacks.update("undo", {**good, "More": parameter("/undo-more", "1")}) == "UPDATE_COMPLETE"


def test_a_failed_update_without_rollback_goes_back_to_the_last_good_version(
    stacks: StackMaker, aws: Callable[..., Any]
) -> None:
    stacks.create("back", {"Kept": log_group("/back-kept"), "Value": parameter("/back", "old")})
    bad = {
        "Kept": log_group("/back-kept"),
        "Value": parameter("/back", "new"),
        "Policy": {**IMPOSSIBLE, "DependsOn": "Value"},
    }
    assert stacks.update("back", bad, DisableRollback=True) == "UPDATE_FAILED"
    assert aws("ssm").get_parameter(Name="/back")["Parameter"]["Value"] == "new"
    stacks.client.rollback_stack(StackName="back")
    assert stacks.wait_until_settled("back") == "UPDATE_ROLLBACK_COMPLETE"
    assert aws("ssm").get_parameter(Name="/back")["Parameter"]["Value"] == "old"
    assert "/back-kept" in list_log_groups(aws("logs"))


def test_a_retained_resource_outlives_its_stack(stacks: StackMaker, aws: Callable[..., Any]) -> None:
    stacks.create(
        "retaining", {"Kept": log_group("/retained", DeletionPolicy="Retain"), "Not": log_group("/not")}
    )
    assert stacks.delete("retaining") == "DELETE_COMPLETE"
    assert "/retained" in list_log_groups(aws("logs"))
    assert "/not" not in list_log_groups(aws("logs"))
    aws("logs").delete_log_group(logGroupName="/retained")
    stacks.create("again", {"Group": log_group("/again")})
    with pytest.raises(ClientError, match="already exists"):
        stacks.create("again", {"Group": log_group("/again")})
    with pytest.raises(ClientError, match="No updates are to be performed"):
        stacks.update("again", {"Group": log_group("/again")})


def test_resources_retained_on_rollback_and_replacement(stacks: StackMaker, aws: Callable[..., Any]) -> None:
    resources = {
        "Retained": log_group("/keep-created", DeletionPolicy="Retain"),
        "Policy": {**IMPOSSIBLE, "DependsOn": "Retained"},
    }
    assert stacks.create("keeping", resources) == "ROLLBACK_COMPLETE"
    assert "/keep-created" in list_log_groups(aws("logs"))
    stacks.create("keep", {"G": log_group("/keep-1", UpdateReplacePolicy="Retain")})
    stacks.update("keep", {"G": log_group("/keep-2", DeletionPolicy="Retain")})
    stacks.update("keep", {"G": log_group("/keep-3")})
    assert {"/keep-1", "/keep-3"} <= list_log_groups(aws("logs"))
    assert "/keep-2" not in list_log_groups(aws("logs")), "it was replaced, not deleted"
    for name in ("/keep-created", "/keep-1"):
        aws("logs").delete_log_group(logGroupName=name)
