"""Templates and change sets, as boto3 sees them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.helpers.cloudformation import StackMaker, list_log_groups, log_group, parameter, template

YAML = """
Parameters:
  Env: {Type: String, Default: test, AllowedValues: [test, live]}
Conditions:
  Live: !Equals [!Ref Env, live]
  NotLive: !Not [!Condition Live]
Resources:
  Topic:
    Type: AWS::SNS::Topic
  Part:
    Type: AWS::SSM::Parameter
    Condition: NotLive
    Properties:
      Name: /yaml
      Type: String
      Value: !Join ["-", [2012-10-17, !Select [5, !Split [":", !Ref Topic]]]]
"""


def test_functions_outputs_and_exports(stacks: StackMaker, aws: Callable[..., Any]) -> None:
    expression = {
        "Fn::Join": [
            "|",
            [
                {"Ref": "AWS::Region"},
                {"Fn::Sub": "${AWS::AccountId}/${Topic.TopicName}/${!literal}/${Size}"},
                {"Fn::Select": [1, {"Fn::Split": [",", "a,b"]}]},
                {"Fn::If": ["Large", "large", "small"]},
                {"Fn::FindInMap": ["Map", {"Ref": "AWS::Region"}, "key"]},
            ],
        ]
    }
    body = {
        "Parameters": {"Size": {"Type": "Number"}},
        "Conditions": {"Large": {"Fn::Not": [{"Fn::Equals": [{"Ref": "Size"}, "7"]}]}},
        "Mappings": {"Map": {"us-east-1": {"key": "mapped"}}},
        "Resources": {
            "Value": parameter("/functions", expression),
            "Topic": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": {"Ref": "AWS::NoValue"}}},
            "Absent": {**log_group("/absent"), "Condition": "Large"},
        },
        "Outputs": {
            "Topic": {"Value": {"Fn::GetAtt": ["Topic", "TopicName"]}, "Export": {"Name": "the-topic"}}
        },
    }
    stacks.client.create_stack(
        StackName="functions",
        TemplateBody=json.dumps(body),
        Parameters=[{"ParameterKey": "Size", "ParameterValue": "7"}],
    )
    stacks.delete_later("functions", "importer")
    status = stacks.wait_until_settled("functions")
    assert status == "CREATE_COMPLETE"
    topic = stacks.describe("functions")["Outputs"][0]["OutputValue"]
    assert topic.startswith("functions-Topic-")
    value = aws("ssm").get_parameter(Name="/functions")["Parameter"]["Value"]
    assert value == f"us-east-1|123456789012/{topic}/${{literal}}/7|b|small|mapped"
    assert "/absent" not in list_log_groups(aws("logs"))
    assert stacks.create("importer", {"P": parameter("/importer", {"Fn::ImportValue": "the-topic"})}) == (
        "CREATE_COMPLETE"
    )
    assert aws("ssm").get_parameter(Name="/importer")["Parameter"]["Value"] == topic


def test_yaml_with_short_forms(stacks: StackMaker, aws: Callable[..., Any]) -> None:
    """The change set has values that only the deployment knows."""
    stacks.delete_later("yaml")
    stacks.client.create_change_set(
        StackName="yaml", ChangeSetName="c", ChangeSetType="CREATE", TemplateBody=YAML
    )
    stacks.client.execute_change_set(StackName="yaml", ChangeSetName="c")
    assert stacks.wait_until_settled("yaml") == "CREATE_COMPLETE"
    value = aws("ssm").get_parameter(Name="/yaml")["Parameter"]["Value"]
    assert value.startswith("2012-10-17-yaml-Topic-")
    with pytest.raises(ClientError, match="AllowedValues"):
        stacks.client.update_stack(
            StackName="yaml",
            TemplateBody=YAML,
            Parameters=[{"ParameterKey": "Env", "ParameterValue": "other"}],
        )


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ({"Table": {"Type": "AWS::Nobody::Knows"}}, "type AWS::Nobody::Knows"),
        (
            {"A": {**log_group("/a"), "DependsOn": "B"}, "B": {**log_group("/b"), "DependsOn": "A"}},
            "Circular",
        ),
        ({"A": parameter("/a", {"Ref": "Nothing"})}, "unresolved resource dependencies"),
        ({"A": parameter("/a", {"Fn::Nonsense": 1})}, "the function Fn::Nonsense is not known"),
    ],
)
def test_a_template_that_cannot_be_deployed_is_refused(
    stacks: StackMaker, resources: dict[str, Any], message: str
) -> None:
    stacks.delete_later("refused")
    client = stacks.client
    try:
        client.create_change_set(
            StackName="refused", ChangeSetName="c", ChangeSetType="CREATE", TemplateBody=template(resources)
        )
        reason = client.describe_change_set(StackName="refused", ChangeSetName="c")["StatusReason"]
    except ClientError as error:
        reason = str(error)
    assert message in reason


def test_permissions_need_their_capability(stacks: StackMaker) -> None:
    role = {
        "Type": "AWS::IAM::Role",
        "Properties": {"AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": []}},
    }
    named = {**role, "Properties": {**role["Properties"], "RoleName": "named"}}
    for resources, capabilities, missing in (
        ({"R": role}, [], "CAPABILITY_IAM"),
        ({"R": named}, ["CAPABILITY_IAM"], "CAPABILITY_NAMED_IAM"),
    ):
        with pytest.raises(ClientError, match=missing):
            stacks.client.create_stack(
                StackName="capable", TemplateBody=template(resources), Capabilities=capabilities
            )


def test_change_sets_belong_to_their_stacks(stacks: StackMaker) -> None:
    client = stacks.client
    for name in ("one", "two"):
        stacks.delete_later(name)
        client.create_change_set(
            StackName=name,
            ChangeSetName="same",
            ChangeSetType="CREATE",
            TemplateBody=template({"G": log_group(f"/{name}")}),
        )
        assert stacks.describe(name)["StackStatus"] == "REVIEW_IN_PROGRESS"
    client.execute_change_set(StackName="one", ChangeSetName="same")
    assert stacks.wait_until_settled("one") == "CREATE_COMPLETE"
    assert stacks.describe("two")["StackStatus"] == "REVIEW_IN_PROGRESS"
    with pytest.raises(ClientError, match="ChangeSetNotFound"):
        client.describe_change_set(StackName="one", ChangeSetName="nothing")
    client.create_change_set(
        StackName="one",
        ChangeSetName="none",
        ChangeSetType="UPDATE",
        TemplateBody=template({"G": log_group("/one")}),
    )
    none = client.describe_change_set(StackName="one", ChangeSetName="none")
    assert none["Status"] == "FAILED"
    assert "didn't contain changes" in none["StatusReason"]
