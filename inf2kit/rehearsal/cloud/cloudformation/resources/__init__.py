"""Resource types: how each is created, updated and deleted by its service's API.

A type has a handler class in this package if moto has none or an unfaithful one. ``fallback`` handles the
other types that moto knows. All other types are refused by name.
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
from inf2kit.rehearsal.cloud.cloudformation.resources.handler import (
    CreatedButFailedError,
    PhysicalResource,
    Properties,
    ResourceHandler,
    Services,
)

__all__ = [
    "CreatedButFailedError",
    "PhysicalResource",
    "ResourceHandler",
    "Services",
    "find_handler",
    "replaced_by",
    "replaces",
]

_HANDLERS: dict[str, ResourceHandler] = {
    "AWS::SageMaker::Model": sagemaker.Record("Model"),
    "AWS::SageMaker::EndpointConfig": sagemaker.Record("EndpointConfig"),
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
    "AWS::CDK::Metadata": fallback.CdkMetadata(),
}


@functools.cache
def find_handler(kind: str) -> ResourceHandler | None:
    """Find the handler of a resource type; None for an unknown type."""
    if kind in _HANDLERS:
        return _HANDLERS[kind]
    return fallback.MotoHandler(kind) if kind in parsing.get_model_map() else None


@functools.cache
def replaced_by(kind: str) -> frozenset[str]:
    """The create-only properties of a type in CloudFormation's schema: to change them replaces a resource."""
    from cfnlint.schema import PROVIDER_SCHEMA_MANAGER

    try:
        schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", kind).schema
    except Exception:
        return frozenset()
    return frozenset(path.split("/")[2] for path in schema.get("createOnlyProperties", []))


def replaces(kind: str, old: Properties, new: Properties) -> bool:
    """Whether a change of properties replaces the resource."""
    return any(old.get(key) != new.get(key) for key in replaced_by(kind))
