"""Why moto is extended: each test shows a gap of plain moto, and fails as soon as moto closes it.

Then the extension can be deleted. These tests do not install the extensions.
"""

from __future__ import annotations

import inspect
import io
import json
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.cloudformation import models as stacks
from moto.cloudformation.responses import CloudFormationResponse
from moto.core.base_backend import BackendDict
from moto.core.common_models import CloudWatchMetricProvider
from moto.s3 import models as s3_models

ROLE = "arn:aws:iam::123456789012:role/execution"

Client = Callable[[str], Any]


@pytest.fixture(scope="module")
def mocked() -> Iterator[None]:
    with mock_aws():
        yield


@pytest.fixture
def plain(mocked: None, monkeypatch: pytest.MonkeyPatch) -> Client:
    """Create boto3 clients for plain, empty moto in this process."""
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    BackendDict.reset()
    return lambda service: boto3.client(service, region_name="us-east-1")


def create_model(sagemaker: Any, **more: Any) -> None:
    container = {"Image": "i", "ModelDataUrl": "s3://nobody/nothing"}
    sagemaker.create_model(ModelName="m", ExecutionRoleArn=ROLE, PrimaryContainer=container, **more)


def create_config(sagemaker: Any, instance_type: str) -> None:
    variants = [
        {
            "VariantName": "main",
            "ModelName": "m",
            "InstanceType": instance_type,
            "InitialInstanceCount": 1,
            "InitialVariantWeight": 1.0,
        }
    ]
    sagemaker.create_endpoint_config(EndpointConfigName="c", ProductionVariants=variants)


def template(kind: str, properties: dict[str, Any] | None = None, **more: Any) -> str:
    return json.dumps({"Resources": {"R": {"Type": kind, "Properties": properties or {}}}, **more})


def test_sagemaker_refuses_inf2(plain: Client) -> None:
    create_model(plain("sagemaker"))
    with pytest.raises(ClientError, match="failed to satisfy constraint"):
        create_config(plain("sagemaker"), "ml.inf2.xlarge")


def test_sagemaker_is_in_service_without_a_model_and_drops_fields(plain: Client) -> None:
    sagemaker = plain("sagemaker")
    create_model(sagemaker, EnableNetworkIsolation=True)
    create_config(sagemaker, "ml.m5.xlarge")
    rollback = {"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "a"}]}}
    blue_green = {"TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}}
    sagemaker.create_endpoint(
        EndpointName="e",
        EndpointConfigName="c",
        DeploymentConfig={**rollback, "BlueGreenUpdatePolicy": blue_green},
    )
    described = sagemaker.describe_endpoint(EndpointName="e")
    assert described["EndpointStatus"] == "InService"
    assert "LastDeploymentConfig" not in described
    assert not sagemaker.describe_model(ModelName="m").get("EnableNetworkIsolation")


def test_stacks_skip_unknown_types(plain: Client) -> None:
    kinds = (
        "AWS::CloudWatch::Alarm",
        "AWS::ApplicationAutoScaling::ScalableTarget",
        "AWS::ApplicationAutoScaling::ScalingPolicy",
        "AWS::S3::BucketPolicy",
        "AWS::SNS::TopicPolicy",
        "AWS::SNS::Subscription",
        "AWS::Nobody::Knows",
    )
    client = plain("cloudformation")
    for kind in kinds:
        name = kind.replace("::", "-")
        with pytest.warns(UserWarning, match="not supported"):
            client.create_stack(StackName=name, TemplateBody=template(kind))
        (stack,) = client.describe_stacks(StackName=name)["Stacks"]
        assert stack["StackStatus"] == "CREATE_COMPLETE", kind


def test_change_sets_lose_outputs(plain: Client) -> None:
    client = plain("cloudformation")
    body = template("AWS::SNS::Topic", Outputs={"Topic": {"Value": {"Ref": "R"}}})
    client.create_change_set(StackName="s", ChangeSetName="c", ChangeSetType="CREATE", TemplateBody=body)
    client.execute_change_set(StackName="s", ChangeSetName="c")
    assert not client.describe_stacks(StackName="s")["Stacks"][0].get("Outputs")


def test_change_sets_of_one_name_are_taken_for_one(plain: Client) -> None:
    client = plain("cloudformation")
    for name in ("one", "two"):
        client.create_change_set(
            StackName=name,
            ChangeSetName="same",
            ChangeSetType="CREATE",
            TemplateBody=template("AWS::SNS::Topic"),
        )
    assert client.describe_change_set(StackName="one", ChangeSetName="same")["StackName"] == "two"


def test_a_failed_stack_is_not_rolled_back(plain: Client) -> None:
    body = {
        "Resources": {
            "Created": {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": "/created"}},
            "Fails": {
                "Type": "AWS::SSM::Parameter",
                "DependsOn": "Created",
                "Properties": {"Name": "aws/not-allowed", "Type": "String", "Value": "1"},
            },
        }
    }
    with pytest.raises(ClientError):
        plain("cloudformation").create_stack(StackName="s", TemplateBody=json.dumps(body))
    assert plain("logs").describe_log_groups()["logGroups"], "the log group stays"


def test_a_template_by_path_is_found_on_localhost_only(plain: Client) -> None:
    plain("s3").create_bucket(Bucket="a-bucket")
    plain("s3").put_object(Bucket="a-bucket", Key="t", Body=template("AWS::SNS::Topic"))
    with pytest.raises(ClientError):
        plain("cloudformation").create_stack(StackName="s", TemplateURL="http://127.0.0.1:4570/a-bucket/t")


def test_alarms_are_not_evaluated(plain: Client) -> None:
    cloudwatch = plain("cloudwatch")
    cloudwatch.put_metric_alarm(
        AlarmName="a",
        Namespace="N",
        MetricName="m",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
    )
    cloudwatch.put_metric_data(Namespace="N", MetricData=[{"MetricName": "m", "Value": 100}])
    assert cloudwatch.describe_alarms()["MetricAlarms"][0]["StateValue"] == "OK"


def test_a_bucket_policy_is_applied_without_its_condition(plain: Client) -> None:
    s3 = plain("s3")
    s3.create_bucket(Bucket="a-bucket")
    statement = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": ["arn:aws:s3:::a-bucket/*"],
        "Condition": {"StringEquals": {"aws:PrincipalOrgID": "somebody-else"}},
    }
    s3.put_object(Bucket="a-bucket", Key="k", Body=b"1")
    s3.put_bucket_policy(
        Bucket="a-bucket", Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    )
    with pytest.raises(ClientError, match=r"Forbidden|AccessDenied"):
        s3.get_object(Bucket="a-bucket", Key="k")


def test_managed_policies_of_aws_are_not_loaded_by_default(plain: Client) -> None:
    plain("iam").create_role(RoleName="r", AssumeRolePolicyDocument="{}")
    with pytest.raises(ClientError, match="does not exist or is not attachable"):
        plain("iam").attach_role_policy(RoleName="r", PolicyArn="arn:aws:iam::aws:policy/ReadOnlyAccess")


def test_objects_are_held_in_memory_while_they_are_joined(plain: Client) -> None:
    """And moto still has the attributes that the extension uses."""
    upload = s3_models.FakeMultipart("k", {}, "123456789012", "us-east-1")
    part = upload.set_part(1, b"x")
    value, _, _ = upload.complete(iter([(1, part.etag)]))
    assert isinstance(value, bytes)
    assert isinstance(part._value_buffer, tempfile.SpooledTemporaryFile)
    assert isinstance(inspect.getattr_static(s3_models.FakeKey, "value"), property)
    assert isinstance(part.value, bytes)
    assert {"contentsize", "lock"} <= set(vars(part))
    assert isinstance(part._value_buffer._file, io.BytesIO)


def test_moto_still_has_what_the_extensions_patch(plain: Client) -> None:
    for name in ("create_change_set", "execute_change_set", "describe_change_set", "_get_stack_from_s3_url"):
        assert callable(getattr(CloudFormationResponse, name))
    assert not hasattr(CloudFormationResponse, "rollback_stack")
    assert stacks.cloudformation_backends.backend is stacks.CloudFormationBackend
    assert hasattr(CloudWatchMetricProvider, "get_cloudwatch_metrics")
    with pytest.raises(NotImplementedError):
        plain("cloudtrail").lookup_events()
