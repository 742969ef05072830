"""Resource types in stacks: scaling, endpoints and buckets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.helpers.cloudformation import StackMaker
from tests.helpers.sagemaker import ResourceMaker


def test_scaling_is_deployed_updated_and_removed(stacks: StackMaker, aws: Callable[..., Any]) -> None:
    """The stack's tags are on the target, too."""

    def resources(maximum: int, target: float) -> dict[str, Any]:
        metric = {"PredefinedMetricType": "SageMakerVariantConcurrentRequestsPerModelHighResolution"}
        return {
            "Target": {
                "Type": "AWS::ApplicationAutoScaling::ScalableTarget",
                "Properties": {
                    "ServiceNamespace": "sagemaker",
                    "ResourceId": "endpoint/scaled/variant/main",
                    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
                    "MinCapacity": 1,
                    "MaxCapacity": maximum,
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

    def maximums() -> list[int]:
        targets = scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
        return [target["MaxCapacity"] for target in targets]

    assert stacks.create("scaling", resources(2, 5.0)) == "CREATE_COMPLETE", stacks.events("scaling")
    assert maximums() == [2]
    assert stacks.update("scaling", resources(4, 6.0)) == "UPDATE_COMPLETE", stacks.events("scaling")
    assert maximums() == [4]
    (policy,) = scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
    assert policy["TargetTrackingScalingPolicyConfiguration"]["TargetValue"] == 6.0
    assert stacks.delete("scaling") == "DELETE_COMPLETE"
    assert maximums() == []


def test_an_endpoint_is_updated_for_every_property_but_its_tags(
    stacks: StackMaker, maker: ResourceMaker
) -> None:
    """SageMaker refuses the configuration in use, so a change of only the endpoint fails."""
    maker.create_model("stacked")
    maker.create_config("stacked", "stacked")

    def stack(**properties: Any) -> dict[str, Any]:
        all_properties = {"EndpointName": "stacked", "EndpointConfigName": "stacked", **properties}
        return {"Endpoint": {"Type": "AWS::SageMaker::Endpoint", "Properties": all_properties}}

    assert stacks.create("stacked", stack()) == "CREATE_COMPLETE"
    tagged = stack(Tags=[{"Key": "team", "Value": "mine"}])
    assert stacks.update("stacked", tagged) == "UPDATE_COMPLETE", stacks.events("stacked")
    # The rollback asks for the same configuration, and is refused too.
    changed = stack(RetainAllVariantProperties=True)
    assert stacks.update("stacked", changed) == "UPDATE_ROLLBACK_FAILED"
    reasons = [reason for _, status, reason in stacks.events("stacked") if status == "UPDATE_FAILED"]
    assert any("currently in use endpoint configuration" in reason for reason in reasons), reasons
    with pytest.raises(ClientError, match="UPDATE_ROLLBACK_FAILED state and can not be updated"):
        stacks.update("stacked", stack())
    assert stacks.delete("stacked") == "DELETE_COMPLETE"


def test_an_existing_bucket_is_not_adopted(stacks: StackMaker, aws: Callable[..., Any]) -> None:
    aws("s3").create_bucket(Bucket="mine-already")
    bucket = {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "mine-already"}}
    assert stacks.create("adopting", {"B": bucket}) == "ROLLBACK_COMPLETE"
    assert any("already exists" in reason for _, _, reason in stacks.events("adopting"))
    aws("s3").head_bucket(Bucket="mine-already")
    aws("s3").delete_bucket(Bucket="mine-already")
