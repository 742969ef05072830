"""The resource types that stacks may have: how each is made, changed and deleted by its service's API.

A type is a class in one of these modules where moto has none or an unfaithful one; every other type that moto
knows is made as moto makes it. A type that neither knows is refused by name.
"""

from __future__ import annotations

import functools

from moto.cloudformation import parsing

from inf2kit.rehearsal.cloud.cloudformation.resources import (
    autoscaling,
    fallback,
    iam,
    monitoring,
    sagemaker,
    storage,
)
from inf2kit.rehearsal.cloud.cloudformation.resources.base import (
    CreatedButFailedError,
    Here,
    Made,
    Properties,
    Type,
)

__all__ = ["CreatedButFailedError", "Here", "Made", "Type", "of", "replaced_by", "replaces"]

_TYPES: dict[str, Type] = {
    "AWS::SageMaker::Model": sagemaker.SageMakerRecord("Model"),
    "AWS::SageMaker::EndpointConfig": sagemaker.SageMakerRecord("EndpointConfig"),
    "AWS::SageMaker::Endpoint": sagemaker.Endpoint(),
    "AWS::IAM::Role": iam.Role(),
    "AWS::IAM::Policy": iam.Policy(),
    "AWS::Logs::LogGroup": monitoring.LogGroup(),
    "AWS::Logs::MetricFilter": monitoring.MetricFilter(),
    "AWS::SNS::Topic": monitoring.Topic(),
    "AWS::SNS::TopicPolicy": monitoring.TopicPolicy(),
    "AWS::SNS::Subscription": monitoring.Subscription(),
    "AWS::CloudWatch::Alarm": monitoring.Alarm(),
    "AWS::SSM::Parameter": storage.Parameter(),
    "AWS::ApplicationAutoScaling::ScalableTarget": autoscaling.ScalableTarget(),
    "AWS::ApplicationAutoScaling::ScalingPolicy": autoscaling.ScalingPolicy(),
    "AWS::S3::Bucket": storage.Bucket(),
    "AWS::S3::BucketPolicy": storage.BucketPolicy(),
    "AWS::CDK::Metadata": fallback.Metadata(),
}


@functools.cache
def of(kind: str) -> Type | None:
    """How a type is made; None where nobody knows it."""
    if kind in _TYPES:
        return _TYPES[kind]
    return fallback.MotosType(kind) if kind in parsing.get_model_map() else None


@functools.cache
def replaced_by(kind: str) -> frozenset[str]:
    """The properties whose change needs another resource, from CloudFormation's own schema of the type."""
    from cfnlint.schema import PROVIDER_SCHEMA_MANAGER

    try:
        schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", kind).schema
    except Exception:
        return frozenset()
    return frozenset(path.split("/")[2] for path in schema.get("createOnlyProperties", []))


def replaces(kind: str, old: Properties, new: Properties) -> bool:
    """Whether a change of properties needs another resource."""
    return any(old.get(key) != new.get(key) for key in replaced_by(kind))
