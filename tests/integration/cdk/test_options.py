"""The options of a stack, as people write them after -c, and what they change in its template."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk.assertions import Annotations, Match, Template

import inf2kit
from inf2kit.cdk import EndpointStack
from inf2kit.errors import DeploymentError
from infra.app import build_app
from infra.context import Context
from tests.helpers.cdk import find_only, register_package

pytestmark = pytest.mark.usefixtures("home")

KEY = "arn:aws:kms:us-east-1:123456789012:key/12345678-1234-1234-1234-123456789012"


def test_more_instances_scale_on_texts_and_sooner_on_calls(template: Callable[..., Template]) -> None:
    rendered = template(max_instances="4")
    target = find_only(rendered, "ApplicationAutoScaling::ScalableTarget")
    assert target["ResourceId"] == "endpoint/llama2-7b-throughput/variant/main"
    assert (target["MinCapacity"], target["MaxCapacity"]) == (1, 4)
    policies = {
        resource["Properties"]["PolicyName"]: resource["Properties"][
            "TargetTrackingScalingPolicyConfiguration"
        ]
        for resource in rendered.find_resources("AWS::ApplicationAutoScaling::ScalingPolicy").values()
    }
    texts = policies.pop("llama2-7b-throughput-Track")
    calls = policies.pop("llama2-7b-throughput-TrackCalls")
    assert not policies
    # Without dimensions, as a metric filter gives it none; the average of samples of one instance each.
    assert texts["CustomizedMetricSpecification"] == {
        "MetricName": "TextsInside-llama2-7b-throughput",
        "Namespace": "inf2kit",
        "Statistic": "Average",
    }
    assert calls["PredefinedMetricSpecification"] == {
        "PredefinedMetricType": "SageMakerVariantConcurrentRequestsPerModelHighResolution"
    }
    for policy in (texts, calls):
        assert policy["TargetValue"] == 3
        assert policy["ScaleOutCooldown"] < policy["ScaleInCooldown"]


@pytest.mark.parametrize(
    ("context", "kind"),
    [
        ({}, "ALL_AT_ONCE"),
        # An update keeps the instances that run, and nobody knows here how many these are.
        ({"min_instances": "4", "max_instances": "8"}, "ALL_AT_ONCE"),
        ({"min_instances": "2", "max_instances": "2", "rollout": "canary"}, "CANARY"),
        ({"min_instances": "4", "max_instances": "4", "rollout": "rolling"}, "ROLLING"),
    ],
)
def test_guardrails_fit_every_fleet_that_there_may_be(
    template: Callable[..., Template], context: dict[str, str], kind: str
) -> None:
    rendered = template(**context)
    update = find_only(rendered, "SageMaker::Endpoint")["DeploymentConfig"]
    assert len(update["AutoRollbackConfiguration"]["Alarms"]) == 3
    fewest = int(context.get("min_instances", 1))
    assert (
        find_only(rendered, "SageMaker::EndpointConfig")["ProductionVariants"][0]["InitialInstanceCount"]
        == fewest
    )
    if kind == "ROLLING":
        assert update["RollingUpdatePolicy"]["MaximumBatchSize"] == {"Type": "CAPACITY_PERCENT", "Value": 25}
        assert 600 <= update["RollingUpdatePolicy"]["MaximumExecutionTimeoutInSeconds"] <= 28_800
        return
    traffic = update["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]
    assert traffic["Type"] == kind
    assert traffic.get("CanarySize") == ({"Type": "INSTANCE_COUNT", "Value": 1} if kind == "CANARY" else None)


def warnings(tmp_path: Path, preset: str = "llama2-7b-throughput", **context: str) -> list[str]:
    """What a synth says of a stack."""
    app = build_app({"package": register_package(preset), **context}, outdir=str(tmp_path / "warned"))
    stack = app.node.find_child(f"inf2-{preset}")
    return [
        str(warning.entry.data)
        for warning in Annotations.from_stack(stack).find_warning("*", Match.any_value())
    ]


def test_an_update_without_roll_back_says_so(template: Callable[..., Template], tmp_path: Path) -> None:
    """An endpoint in alarm undoes its own mend; this is the way through."""
    rendered = template(rollback="false")
    assert "AutoRollbackConfiguration" not in find_only(rendered, "SageMaker::Endpoint")["DeploymentConfig"]
    (warning,) = warnings(tmp_path, rollback="false")
    assert "no alarm rolls back this update of llama2-7b-throughput" in warning
    assert warnings(tmp_path) == []


def test_a_large_fleet_all_at_once_is_warned_of(tmp_path: Path) -> None:
    fleet = {"min_instances": "4", "max_instances": "4"}
    (warning,) = warnings(tmp_path, **fleet)
    assert "needs as many again; -c rollout=rolling" in warning
    assert warnings(tmp_path, **fleet, rollout="rolling") == []


def test_a_start_that_may_take_longer_than_sagemaker_waits_is_warned_of(tmp_path: Path) -> None:
    (warning,) = warnings(tmp_path, "llama2-7b-fleet")
    assert "SageMaker waits for 3600 s at most" in warning
    # 900 s, and three times 90 s for each of 13.5 GB of shards and code.
    assert re.search("allowance for loading 3 engines, one after the other, is 45.. s; nobody has", warning)
    assert "deploy fewer engines (data_parallel_size)" in warning


def test_an_asynchronous_endpoint_scales_to_zero_and_has_a_deadline_of_its_own(
    template: Callable[..., Template],
) -> None:
    rendered = template(asynchronous="true", min_instances="0", max_instances="2", async_deadline_s="1800")
    name = find_only(rendered, "SageMaker::Endpoint")["EndpointName"]
    assert name == "llama2-7b-throughput-async", "no endpoint can be made asynchronous, or real-time again"
    configuration = find_only(rendered, "SageMaker::EndpointConfig")
    output = configuration["AsyncInferenceConfig"]["OutputConfig"]
    assert output["S3OutputPath"] == "s3://models/inf2kit-async/llama2-7b-throughput-async/answers/"
    assert output["S3FailurePath"] == "s3://models/inf2kit-async/llama2-7b-throughput-async/failures/"
    assert configuration["AsyncInferenceConfig"]["ClientConfig"] == {"MaxConcurrentInvocationsPerInstance": 5}
    assert configuration["ProductionVariants"][0]["InitialInstanceCount"] == 1
    variables = find_only(rendered, "SageMaker::Model")["PrimaryContainer"]["Environment"]
    assert variables["INF2KIT_DEADLINE_SECONDS"] == "1800"
    assert int(variables["SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS"]) > 1800
    assert find_only(rendered, "ApplicationAutoScaling::ScalableTarget")["MinCapacity"] == 0
    policies = {
        resource["Properties"]["PolicyType"]: resource["Properties"]
        for resource in rendered.find_resources("AWS::ApplicationAutoScaling::ScalingPolicy").values()
    }
    tracked = policies["TargetTrackingScaling"]["TargetTrackingScalingPolicyConfiguration"]
    assert tracked["CustomizedMetricSpecification"]["MetricName"] == "ApproximateBacklogSizePerInstance"
    # The backlog has the calls that are being answered, too: a full instance alone must not add another.
    assert tracked["TargetValue"] == 5 + 4
    alarms = {
        resource["Properties"]["AlarmName"].rpartition("-")[2]: resource["Properties"]
        for resource in rendered.find_resources("AWS::CloudWatch::Alarm").values()
    }
    assert "IdleMoney" not in alarms, "with none running nothing idles"
    assert alarms["Wake"]["MetricName"] == "HasBacklogWithoutCapacity"
    wake = next(
        name
        for name, resource in rendered.find_resources("AWS::ApplicationAutoScaling::ScalingPolicy").items()
        if resource["Properties"]["PolicyType"] == "StepScaling"
    )
    assert alarms["Wake"]["AlarmActions"] == [{"Ref": wake}]
    parameter = json.loads(find_only(rendered, "SSM::Parameter")["Value"])
    assert parameter["async_input"].endswith("/requests/")
    assert parameter["async_invocation_timeout_s"] == 1860, "SageMaker's own default is 900"


def test_a_key_of_the_customer_covers_volume_answers_and_captured_data(
    template: Callable[..., Template],
) -> None:
    rendered = template(kms_key_arn=KEY, asynchronous="true", data_capture_percent="10")
    configuration = find_only(rendered, "SageMaker::EndpointConfig")
    assert configuration["KmsKeyId"] == KEY
    assert configuration["AsyncInferenceConfig"]["OutputConfig"]["KmsKeyId"] == KEY
    assert configuration["DataCaptureConfig"]["KmsKeyId"] == KEY
    assert configuration["DataCaptureConfig"]["InitialSamplingPercentage"] == 10
    header = configuration["DataCaptureConfig"]["CaptureContentTypeHeader"]
    assert header == {"JsonContentTypes": ["application/json"]}, "otherwise it is base64"


def test_a_key_of_the_log_is_that_of_the_topic(template: Callable[..., Template]) -> None:
    rendered = template(log_kms_key_arn=KEY)
    assert find_only(rendered, "Logs::LogGroup")["KmsKeyId"] == KEY
    assert find_only(rendered, "SNS::Topic")["KmsMasterKeyId"] == KEY


def test_data_capture_is_off_unless_asked_for(template: Callable[..., Template]) -> None:
    assert "DataCaptureConfig" not in find_only(template(), "SageMaker::EndpointConfig")


def test_a_vpc(template: Callable[..., Template]) -> None:
    rendered = template(
        subnet_ids="subnet-0123456789abcdef0,subnet-0123456789abcdef1",
        security_group_ids="sg-0123456789abcdef0",
    )
    assert find_only(rendered, "SageMaker::Model")["VpcConfig"] == {
        "Subnets": ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"],
        "SecurityGroupIds": ["sg-0123456789abcdef0"],
    }


def test_settings_of_the_engine_can_be_changed(template: Callable[..., Template]) -> None:
    rendered = template(environment="INF2KIT_QUEUE_SIZE=64,INF2KIT_PREFILLS_PER_STEP=2")
    variables = find_only(rendered, "SageMaker::Model")["PrimaryContainer"]["Environment"]
    assert (variables["INF2KIT_QUEUE_SIZE"], variables["INF2KIT_PREFILLS_PER_STEP"]) == ("64", "2")
    thresholds = {
        resource["Properties"]["AlarmName"].rpartition("-")[2]: resource["Properties"]["Threshold"]
        for resource in rendered.find_resources("AWS::CloudWatch::Alarm").values()
    }
    assert thresholds["Saturation"] == 4 + 32, "half of the longer queue"


def test_another_instance_of_the_preset(template: Callable[..., Template]) -> None:
    rendered = template("llama2-7b-budget", instance_type="ml.inf2.xlarge")
    assert (
        find_only(rendered, "SageMaker::EndpointConfig")["ProductionVariants"][0]["InstanceType"]
        == "ml.inf2.xlarge"
    )


def test_options_of_one_preset_only(template: Callable[..., Template]) -> None:
    context: dict[str, Any] = {
        "llama2-7b-throughput": {"max_instances": 3},
        "llama2-7b-latency": {"max_instances": 9},
    }
    rendered = template("llama2-7b-throughput", **context)
    assert find_only(rendered, "ApplicationAutoScaling::ScalableTarget")["MaxCapacity"] == 3


def test_a_region_without_the_image_is_refused_before_it_is_deployed_to(tmp_path: Path) -> None:
    app = build_app(
        {"package": register_package("llama2-7b-throughput")}, region="af-south-1", outdir=str(tmp_path)
    )
    stack = app.node.find_child("inf2-llama2-7b-throughput")
    (error,) = Annotations.from_stack(stack).find_error("*", Match.any_value())
    assert "no registry of deep learning containers in 'af-south-1'; there are ap-east-1" in error.entry.data


def test_a_key_of_another_region_is_refused_where_the_stack_has_one(tmp_path: Path) -> None:
    preset = inf2kit.load_preset("llama2-7b-throughput")
    props = Context.parse({"package": register_package(preset), "kms_key_arn": KEY}).endpoint_props(preset)
    app = cdk.App(outdir=str(tmp_path))
    there = cdk.Environment(account="123456789012", region="eu-west-1")
    with pytest.raises(DeploymentError, match="this stack is for eu-west-1; give a key of that region"):
        EndpointStack(app, "stack", props=props, env=there)


def test_a_stage_is_a_stack_of_its_own(tmp_path: Path) -> None:
    """Two of a preset in one account share no name."""
    names: list[set[str]] = []
    for context in ({}, {"stage": "dev"}, {"stage": "prod", "asynchronous": "true"}):
        app = build_app(
            {"package": register_package("llama2-7b-throughput"), **context}, outdir=str(tmp_path / "cdk")
        )
        suffix = f"-{context['stage']}" if "stage" in context else ""
        stack = app.node.find_child(f"inf2-llama2-7b-throughput{suffix}")
        resources = Template.from_stack(stack).to_json()["Resources"].values()  # type: ignore[arg-type]
        named = ("AlarmName", "EndpointName", "LogGroupName", "Name", "ResourceId")
        names.append(
            {
                resource["Properties"][key]
                for resource in resources
                for key in named
                if isinstance(resource["Properties"].get(key), str)
            }
        )
        assert f"/inf2kit/presets/llama2-7b-throughput{suffix}" in names[-1]
        (idle,) = [
            resource["Properties"]
            for resource in resources
            if str(resource["Properties"].get("AlarmName")).endswith("-IdleMoney")
        ]
        assert idle["AlarmDescription"].endswith(f"cdk destroy inf2-llama2-7b-throughput{suffix}")
    assert not names[0] & names[1]
    assert not names[1] & names[2]
