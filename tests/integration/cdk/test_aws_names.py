"""Every name that AWS must know is one that the installed botocore knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import boto3
import pytest
from aws_cdk.assertions import Template

import inf2kit
from inf2kit import catalog
from tests.helpers.cdk import NEURON_PRESETS, find_only

pytestmark = pytest.mark.usefixtures("home")


def enum(service: str, shape: str) -> list[str]:
    model = boto3.client(service, region_name="us-east-1").meta.service_model
    return list(model.shape_for(shape).enum)


def test_instance_types_can_host() -> None:
    known = enum("sagemaker", "ProductionVariantInstanceType")
    assert {name for name in catalog.instances() if name != "local"} <= set(known)
    for name in NEURON_PRESETS:
        assert set(inf2kit.load_preset(name).compute.instance_types) <= set(known)


def test_names_of_the_stack(template: Callable[..., Template]) -> None:
    rendered = template(max_instances="4", data_capture_percent="1")
    variant: dict[str, Any] = find_only(rendered, "SageMaker::EndpointConfig")["ProductionVariants"][0]
    assert variant["InferenceAmiVersion"] in enum("sagemaker", "ProductionVariantInferenceAmiVersion")
    assert variant["RoutingConfig"]["RoutingStrategy"] in enum("sagemaker", "RoutingStrategy")
    source = find_only(rendered, "SageMaker::Model")["PrimaryContainer"]["ModelDataSource"]["S3DataSource"]
    assert source["S3DataType"] in enum("sagemaker", "S3ModelDataType")
    assert source["CompressionType"] in enum("sagemaker", "ModelCompressionType")
    capture = find_only(rendered, "SageMaker::EndpointConfig")["DataCaptureConfig"]["CaptureOptions"]
    assert {option["CaptureMode"] for option in capture} <= set(enum("sagemaker", "CaptureMode"))
    traffic = find_only(rendered, "SageMaker::Endpoint")["DeploymentConfig"]["BlueGreenUpdatePolicy"]
    assert traffic["TrafficRoutingConfiguration"]["Type"] in enum("sagemaker", "TrafficRoutingConfigType")
    target = find_only(rendered, "ApplicationAutoScaling::ScalableTarget")
    assert target["ScalableDimension"] in enum("application-autoscaling", "ScalableDimension")
    assert target["ServiceNamespace"] in enum("application-autoscaling", "ServiceNamespace")
    for resource in rendered.find_resources("AWS::ApplicationAutoScaling::ScalingPolicy").values():
        policy = resource["Properties"]
        assert policy["PolicyType"] in enum("application-autoscaling", "PolicyType")
        tracked = policy["TargetTrackingScalingPolicyConfiguration"]
        if "PredefinedMetricSpecification" in tracked:
            predefined = tracked["PredefinedMetricSpecification"]["PredefinedMetricType"]
            assert predefined in enum("application-autoscaling", "MetricType")
        else:
            statistic = tracked["CustomizedMetricSpecification"]["Statistic"]
            assert statistic in enum("application-autoscaling", "MetricStatistic")


def test_sizes_of_a_rolling_update(template: Callable[..., Template]) -> None:
    rendered = template(min_instances="4", max_instances="4", rollout="rolling")
    size = find_only(rendered, "SageMaker::Endpoint")["DeploymentConfig"]["RollingUpdatePolicy"][
        "MaximumBatchSize"
    ]
    assert size["Type"] in enum("sagemaker", "CapacitySizeType")
