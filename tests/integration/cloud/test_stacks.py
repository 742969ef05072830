"""CloudFormation as boto3 sees it: order, updates, replacements, rollbacks, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.helpers.sagemaker import ResourceMaker
from tests.helpers.servers import wait_until


class Stacks:
    """Makes stacks, waits for them, and deletes them."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self._made: set[str] = set()

    def create(self, name: str, resources: dict[str, Any], *, timeout_s: float = 30, **more: Any) -> str:
        self._made.add(name)
        knowing = {"Capabilities": ["CAPABILITY_NAMED_IAM"]}
        self.client.create_stack(StackName=name, TemplateBody=template(resources), **knowing, **more)
        return self.settled(name, timeout_s)

    def remember(self, *names: str) -> None:
        self._made.update(names)

    def update(self, name: str, resources: dict[str, Any], **more: Any) -> str:
        knowing = {"Capabilities": ["CAPABILITY_NAMED_IAM"]}
        self.client.update_stack(StackName=name, TemplateBody=template(resources), **knowing, **more)
        return self.settled(name)

    def settled(self, name: str, timeout_s: float = 30) -> str:
        def look() -> str | None:
            status = str(self.stack(name)["StackStatus"])
            return None if status.endswith("_IN_PROGRESS") else status

        return str(wait_until(look, timeout_s, f"{name} has settled"))

    def stack(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.client.describe_stacks(StackName=name)["Stacks"][0]
        return found

    def delete(self, name: str) -> str:
        stack_id = self.stack(name)["StackId"]
        self.client.delete_stack(StackName=name)
        return self.settled(stack_id)

    def events(self, name: str) -> list[tuple[str, str, str]]:
        found = self.client.describe_stack_events(StackName=name)["StackEvents"][::-1]
        return [
            (each["LogicalResourceId"], each["ResourceStatus"], each.get("ResourceStatusReason", ""))
            for each in found
        ]

    def clear(self) -> None:
        for name in self._made:
            try:
                self.delete(name)
            except ClientError:
                continue


def template(resources: dict[str, Any]) -> str:
    return json.dumps({"Resources": resources})


@pytest.fixture
def stacks(aws: Callable[..., Any]) -> Iterator[Stacks]:
    made = Stacks(aws("cloudformation"))
    yield made
    made.clear()


def group(name: str, **more: Any) -> dict[str, Any]:
    return {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": name}, **more}


def parameter(name: str, value: Any) -> dict[str, Any]:
    return {"Type": "AWS::SSM::Parameter", "Properties": {"Name": name, "Type": "String", "Value": value}}


#: Refused by its service: the role is not there.
IMPOSSIBLE = {
    "Type": "AWS::IAM::Policy",
    "Properties": {"PolicyName": "p", "PolicyDocument": {"Statement": []}, "Roles": ["nobody"]},
}


def names(aws: Callable[..., Any]) -> set[str]:
    return {each["logGroupName"] for each in aws("logs").describe_log_groups()["logGroups"]}


def test_functions_outputs_and_exports(stacks: Stacks, aws: Callable[..., Any]) -> None:
    value = {
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
            "Value": parameter("/functions", value),
            "Topic": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": {"Ref": "AWS::NoValue"}}},
            "Absent": {**group("/absent"), "Condition": "Large"},
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
    stacks.remember("functions", "importer")
    status = stacks.settled("functions")
    assert status == "CREATE_COMPLETE"
    topic = stacks.stack("functions")["Outputs"][0]["OutputValue"]
    assert topic.startswith("functions-Topic-")
    found = aws("ssm").get_parameter(Name="/functions")["Parameter"]["Value"]
    assert found == f"us-east-1|123456789012/{topic}/${{literal}}/7|b|small|mapped"
    assert "/absent" not in names(aws)
    assert stacks.create("importer", {"P": parameter("/importer", {"Fn::ImportValue": "the-topic"})}) == (
        "CREATE_COMPLETE"
    )
    assert aws("ssm").get_parameter(Name="/importer")["Parameter"]["Value"] == topic


def test_a_failed_creation_leaves_nothing(stacks: Stacks, aws: Callable[..., Any]) -> None:
    resources = {"Group": group("/failing"), "Policy": {**IMPOSSIBLE, "DependsOn": "Group"}}
    assert stacks.create("failing", resources) == "ROLLBACK_COMPLETE"
    assert "/failing" not in names(aws)
    told = [(name, status) for name, status, _ in stacks.events("failing")]
    assert told == [
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


def test_without_rollback_what_was_made_stays_and_can_be_completed(
    stacks: Stacks, aws: Callable[..., Any]
) -> None:
    resources = {"Group": group("/paused"), "Policy": {**IMPOSSIBLE, "DependsOn": "Group"}}
    assert stacks.create("paused", resources, DisableRollback=True) == "CREATE_FAILED"
    assert "/paused" in names(aws)
    assert (
        stacks.update("paused", {"Group": group("/paused"), "P": parameter("/p", "1")}) == "UPDATE_COMPLETE"
    )
    assert stacks.create("undone", {**resources, "Group": group("/undone")}, DisableRollback=True) == (
        "CREATE_FAILED"
    )
    stacks.client.rollback_stack(StackName="undone")
    assert stacks.settled("undone") == "ROLLBACK_COMPLETE"
    assert "/undone" not in names(aws)


def test_an_update_changes_replaces_and_removes(stacks: Stacks, aws: Callable[..., Any]) -> None:
    stacks.create(
        "changing",
        {"Kept": parameter("/kept", "1"), "Named": group("/old-name"), "Gone": group("/gone")},
    )
    before = stacks.client.describe_stack_resources(StackName="changing")["StackResources"]
    resources = {
        "Kept": parameter("/kept", {"Fn::Join": ["", ["now ", {"Ref": "Named"}]]}),
        "Named": group("/new-name"),
    }
    assert stacks.update("changing", resources) == "UPDATE_COMPLETE"
    assert aws("ssm").get_parameter(Name="/kept")["Parameter"]["Value"] == "now /new-name"
    assert not {"/old-name", "/gone"} & names(aws)
    assert "/new-name" in names(aws)
    assert {each["LogicalResourceId"] for each in before} == {"Kept", "Named", "Gone"}
    events = stacks.events("changing")
    replaced = [
        reason for name, status, reason in events if (name, status) == ("Named", "UPDATE_IN_PROGRESS")
    ]
    assert replaced == ["Requested update requires the creation of a new physical resource"]
    # The new one is there before the old one goes.
    told = [(name, status) for name, status, _ in events]
    assert told.index(("Named", "UPDATE_COMPLETE")) < told.index(("Named", "DELETE_COMPLETE"))


def test_a_failed_update_is_undone_step_by_step(stacks: Stacks, aws: Callable[..., Any]) -> None:
    good = {"Value": parameter("/undo", "old"), "Named": group("/undo-old")}
    stacks.create("undo", good)
    text = stacks.client.get_template(StackName="undo")["TemplateBody"]
    bad = {
        "Value": parameter("/undo", "new"),
        "Named": group("/undo-new"),
        "Added": group("/undo-added"),
        "Policy": {**IMPOSSIBLE, "DependsOn": ["Value", "Named", "Added"]},
    }
    assert stacks.update("undo", bad) == "UPDATE_ROLLBACK_COMPLETE"
    assert aws("ssm").get_parameter(Name="/undo")["Parameter"]["Value"] == "old"
    assert "/undo-old" in names(aws)
    assert not {"/undo-new", "/undo-added"} & names(aws)
    assert stacks.client.get_template(StackName="undo")["TemplateBody"] == text
    assert stacks.update("undo", {**good, "More": parameter("/undo-more", "1")}) == "UPDATE_COMPLETE"


def test_retained_and_protected(stacks: Stacks, aws: Callable[..., Any]) -> None:
    stacks.create("retaining", {"Kept": group("/retained", DeletionPolicy="Retain"), "Not": group("/not")})
    assert stacks.delete("retaining") == "DELETE_COMPLETE"
    assert "/retained" in names(aws)
    assert "/not" not in names(aws)
    aws("logs").delete_log_group(logGroupName="/retained")
    stacks.create("again", {"Group": group("/again")})
    with pytest.raises(ClientError, match="already exists"):
        stacks.create("again", {"Group": group("/again")})
    with pytest.raises(ClientError, match="No updates are to be performed"):
        stacks.update("again", {"Group": group("/again")})


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        ({"Table": {"Type": "AWS::Nobody::Knows"}}, "type AWS::Nobody::Knows"),
        ({"A": {**group("/a"), "DependsOn": "B"}, "B": {**group("/b"), "DependsOn": "A"}}, "Circular"),
        ({"A": parameter("/a", {"Ref": "Nothing"})}, "unresolved resource dependencies"),
        ({"A": parameter("/a", {"Fn::Nonsense": 1})}, "the function Fn::Nonsense is not known"),
    ],
)
def test_what_cannot_be_made_is_refused(stacks: Stacks, resources: dict[str, Any], said: str) -> None:
    stacks.remember("refused")
    client = stacks.client
    try:
        client.create_change_set(
            StackName="refused", ChangeSetName="c", ChangeSetType="CREATE", TemplateBody=template(resources)
        )
        reason = client.describe_change_set(StackName="refused", ChangeSetName="c")["StatusReason"]
    except ClientError as error:
        reason = str(error)
    assert said in reason


def test_change_sets_belong_to_their_stacks(stacks: Stacks) -> None:
    client = stacks.client
    for name in ("one", "two"):
        stacks.remember(name)
        client.create_change_set(
            StackName=name,
            ChangeSetName="same",
            ChangeSetType="CREATE",
            TemplateBody=template({"G": group(f"/{name}")}),
        )
        assert stacks.stack(name)["StackStatus"] == "REVIEW_IN_PROGRESS"
    client.execute_change_set(StackName="one", ChangeSetName="same")
    assert stacks.settled("one") == "CREATE_COMPLETE"
    assert stacks.stack("two")["StackStatus"] == "REVIEW_IN_PROGRESS"
    with pytest.raises(ClientError, match="ChangeSetNotFound"):
        client.describe_change_set(StackName="one", ChangeSetName="nothing")
    client.create_change_set(
        StackName="one",
        ChangeSetName="none",
        ChangeSetType="UPDATE",
        TemplateBody=template({"G": group("/one")}),
    )
    none = client.describe_change_set(StackName="one", ChangeSetName="none")
    assert none["Status"] == "FAILED"
    assert "didn't contain changes" in none["StatusReason"]


def test_a_failed_update_without_rollback_goes_back_to_the_last_good_version(
    stacks: Stacks, aws: Callable[..., Any]
) -> None:
    stacks.create("back", {"Kept": group("/back-kept"), "Value": parameter("/back", "old")})
    bad = {
        "Kept": group("/back-kept"),
        "Value": parameter("/back", "new"),
        "Policy": {**IMPOSSIBLE, "DependsOn": "Value"},
    }
    assert stacks.update("back", bad, DisableRollback=True) == "UPDATE_FAILED"
    assert aws("ssm").get_parameter(Name="/back")["Parameter"]["Value"] == "new"
    stacks.client.rollback_stack(StackName="back")
    assert stacks.settled("back") == "UPDATE_ROLLBACK_COMPLETE"
    assert aws("ssm").get_parameter(Name="/back")["Parameter"]["Value"] == "old"
    assert "/back-kept" in names(aws)


def test_what_a_rollback_and_a_replacement_keep(stacks: Stacks, aws: Callable[..., Any]) -> None:
    resources = {
        "Retained": group("/keep-created", DeletionPolicy="Retain"),
        "Policy": {**IMPOSSIBLE, "DependsOn": "Retained"},
    }
    assert stacks.create("keeping", resources) == "ROLLBACK_COMPLETE"
    assert "/keep-created" in names(aws)
    stacks.create("keep", {"G": group("/keep-1", UpdateReplacePolicy="Retain")})
    stacks.update("keep", {"G": group("/keep-2", DeletionPolicy="Retain")})
    stacks.update("keep", {"G": group("/keep-3")})
    assert {"/keep-1", "/keep-3"} <= names(aws)
    assert "/keep-2" not in names(aws), "it was replaced, not deleted"
    for name in ("/keep-created", "/keep-1"):
        aws("logs").delete_log_group(logGroupName=name)


def test_a_rolled_back_creation_can_only_be_deleted(stacks: Stacks) -> None:
    stacks.create("dead", {"Policy": IMPOSSIBLE})
    with pytest.raises(ClientError, match="ROLLBACK_COMPLETE state and can not be updated"):
        stacks.update("dead", {"G": group("/dead")})
    assert stacks.delete("dead") == "DELETE_COMPLETE"


def test_what_is_there_already_is_not_adopted(stacks: Stacks, aws: Callable[..., Any]) -> None:
    aws("s3").create_bucket(Bucket="mine-already")
    bucket = {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "mine-already"}}
    assert stacks.create("adopting", {"B": bucket}) == "ROLLBACK_COMPLETE"
    assert any("already exists" in reason for _, _, reason in stacks.events("adopting"))
    aws("s3").head_bucket(Bucket="mine-already")
    aws("s3").delete_bucket(Bucket="mine-already")


def test_scaling_is_deployed_updated_and_removed(stacks: Stacks, aws: Callable[..., Any]) -> None:
    """With the tags that a stack puts on everything it has."""

    def scaled(most: int, target: float) -> dict[str, Any]:
        metric = {"PredefinedMetricType": "SageMakerVariantConcurrentRequestsPerModelHighResolution"}
        return {
            "Target": {
                "Type": "AWS::ApplicationAutoScaling::ScalableTarget",
                "Properties": {
                    "ServiceNamespace": "sagemaker",
                    "ResourceId": "endpoint/scaled/variant/main",
                    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
                    "MinCapacity": 1,
                    "MaxCapacity": most,
                    "Tags": [{"Key": "team", "Value": "mine"}],
                },
            },
            "Policy": {
                "Type": "AWS::ApplicationAutoScaling::ScalingPolicy",
                "Properties": {
                    "PolicyName": "track",
                    "PolicyType": "TargetTrackingScaling",
                    "ScalingTargetId": {"Ref": "Target"},
                    "TargetTrackingScalingPolicyConfiguration": {
                        "TargetValue": target,
                        "PredefinedMetricSpecification": metric,
                    },
                },
            },
        }

    scaling = aws("application-autoscaling")

    def most() -> list[int]:
        targets = scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
        return [target["MaxCapacity"] for target in targets]

    assert stacks.create("scaling", scaled(2, 5.0)) == "CREATE_COMPLETE", stacks.events("scaling")
    assert most() == [2]
    assert stacks.update("scaling", scaled(4, 6.0)) == "UPDATE_COMPLETE", stacks.events("scaling")
    assert most() == [4]
    (policy,) = scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
    assert policy["TargetTrackingScalingPolicyConfiguration"]["TargetValue"] == 6.0
    assert stacks.delete("scaling") == "DELETE_COMPLETE"
    assert most() == []


def test_an_endpoint_is_updated_for_every_property_but_its_tags(stacks: Stacks, maker: ResourceMaker) -> None:
    """SageMaker refuses the configuration in use; a stack that changes only the endpoint finds that out."""
    maker.create_model("stacked")
    maker.create_config("stacked", "stacked")

    def stack(**properties: Any) -> dict[str, Any]:
        own = {"EndpointName": "stacked", "EndpointConfigName": "stacked", **properties}
        return {"Endpoint": {"Type": "AWS::SageMaker::Endpoint", "Properties": own}}

    assert stacks.create("stacked", stack(), timeout_s=60) == "CREATE_COMPLETE"
    tagged = stack(Tags=[{"Key": "team", "Value": "mine"}])
    assert stacks.update("stacked", tagged) == "UPDATE_COMPLETE", stacks.events("stacked")
    # What was refused is refused again when it is undone.
    changed = stack(RetainAllVariantProperties=True)
    assert stacks.update("stacked", changed) == "UPDATE_ROLLBACK_FAILED"
    reasons = [reason for _, status, reason in stacks.events("stacked") if status == "UPDATE_FAILED"]
    assert any("currently in use endpoint configuration" in reason for reason in reasons), reasons
    with pytest.raises(ClientError, match="UPDATE_ROLLBACK_FAILED state and can not be updated"):
        stacks.update("stacked", stack())
    assert stacks.delete("stacked") == "DELETE_COMPLETE"


def test_permissions_need_their_capability(stacks: Stacks) -> None:
    role = {
        "Type": "AWS::IAM::Role",
        "Properties": {"AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": []}},
    }
    named = {**role, "Properties": {**role["Properties"], "RoleName": "named"}}
    for resources, given, wanted in (
        ({"R": role}, [], "CAPABILITY_IAM"),
        ({"R": named}, ["CAPABILITY_IAM"], "CAPABILITY_NAMED_IAM"),
    ):
        with pytest.raises(ClientError, match=wanted):
            stacks.client.create_stack(
                StackName="capable", TemplateBody=template(resources), Capabilities=given
            )


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


def test_yaml_with_its_short_forms(stacks: Stacks, aws: Callable[..., Any]) -> None:
    """Also: a change set of what only a deployment can know."""
    stacks.remember("yaml")
    stacks.client.create_change_set(
        StackName="yaml", ChangeSetName="c", ChangeSetType="CREATE", TemplateBody=YAML
    )
    stacks.client.execute_change_set(StackName="yaml", ChangeSetName="c")
    assert stacks.settled("yaml") == "CREATE_COMPLETE"
    found = aws("ssm").get_parameter(Name="/yaml")["Parameter"]["Value"]
    assert found.startswith("2012-10-17-yaml-Topic-")
    with pytest.raises(ClientError, match="AllowedValues"):
        stacks.client.update_stack(
            StackName="yaml",
            TemplateBody=YAML,
            Parameters=[{"ParameterKey": "Env", "ParameterValue": "other"}],
        )
