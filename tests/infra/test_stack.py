"""The stack of each preset, property by property."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from aws_cdk.assertions import Template
from stacks import NEURON_PRESETS, only

import inf2kit
from inf2kit import facts
from inf2kit.container import environment

pytestmark = pytest.mark.usefixtures("home")


@pytest.mark.parametrize("name", NEURON_PRESETS)
def test_a_preset_becomes_an_endpoint(name: str, template: Callable[..., Template]) -> None:
    preset, made = inf2kit.load_preset(name), template(name)
    model = only(made, "SageMaker::Model")
    container = model["PrimaryContainer"]
    assert model["EnableNetworkIsolation"] is True
    assert "ModelName" not in model, "a name of its own would forbid its replacement"
    assert container["Environment"] == environment(preset)
    source = container["ModelDataSource"]["S3DataSource"]
    assert source["S3Uri"].startswith("s3://models/llm/")
    assert source["S3Uri"].endswith("/")
    assert (source["S3DataType"], source["CompressionType"]) == ("S3Prefix", "None")
    assert facts.image().tag in json.dumps(container["Image"])

    configuration = only(made, "SageMaker::EndpointConfig")
    (variant,) = configuration["ProductionVariants"]
    assert variant["InstanceType"] == preset.compute.instance_type
    assert variant["InitialInstanceCount"] == 1
    assert variant["InferenceAmiVersion"] == "al2-ami-sagemaker-inference-neuron-2"
    assert variant["RoutingConfig"] == {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"}
    assert 60 <= variant["ContainerStartupHealthCheckTimeoutInSeconds"] <= 3600
    assert 60 <= variant["ModelDataDownloadTimeoutInSeconds"] <= 3600
    assert 13.5 < variant["VolumeSizeInGB"] <= 512
    assert "EndpointConfigName" not in configuration

    endpoint = only(made, "SageMaker::Endpoint")
    assert endpoint["EndpointName"] == preset.endpoint_name
    assert endpoint["RetainAllVariantProperties"] is False
    update = endpoint["DeploymentConfig"]
    assert update["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]["Type"] == "ALL_AT_ONCE"
    assert update["BlueGreenUpdatePolicy"]["TerminationWaitInSeconds"] == 300
    alarms = {alarm["AlarmName"] for alarm in update["AutoRollbackConfiguration"]["Alarms"]}
    assert alarms == {f"{preset.endpoint_name}-Errors", f"{preset.endpoint_name}-Latency"}
    made.resource_count_is("AWS::ApplicationAutoScaling::ScalableTarget", 0)


def test_everything_is_there_before_what_needs_it(template: Callable[..., Template]) -> None:
    made = template()
    resources = made.to_json()["Resources"]

    def id_of(kind: str) -> str:
        return next(name for name, each in resources.items() if each["Type"] == f"AWS::{kind}")

    (endpoint,) = made.find_resources("AWS::SageMaker::Endpoint").values()
    rollback = {
        name
        for name, each in made.find_resources("AWS::CloudWatch::Alarm").items()
        if each["Properties"]["AlarmName"].endswith(("-Errors", "-Latency"))
    }
    assert rollback <= set(endpoint["DependsOn"])
    assert id_of("Logs::LogGroup") in endpoint["DependsOn"]
    (model,) = made.find_resources("AWS::SageMaker::Model").values()
    assert set(made.find_resources("AWS::IAM::Policy")) <= set(model["DependsOn"])


def test_nothing_is_left_that_bills(template: Callable[..., Template]) -> None:
    made = template()
    assert only(made, "Logs::LogGroup")["RetentionInDays"] == 30
    kept = [
        each["Type"]
        for each in made.to_json()["Resources"].values()
        if each.get("DeletionPolicy", "Delete") != "Delete"
    ]
    assert kept == []


def test_alarms_tell_of_errors_slowness_saturation_and_idle_money(template: Callable[..., Template]) -> None:
    made = template("llama2-7b-throughput", alarm_email="ops@example.com")
    alarms = {
        each["Properties"]["AlarmName"].rpartition("-")[2]: each["Properties"]
        for each in made.find_resources("AWS::CloudWatch::Alarm").values()
    }
    assert set(alarms) == {"Errors", "Latency", "Saturation", "IdleMoney"}
    assert alarms["Latency"]["Threshold"] == 0.9 * 55 * 1_000_000, "ModelLatency is in microseconds"
    assert alarms["Saturation"]["Threshold"] == 4 + 16
    assert "costs about $15.58 an hour" in alarms["IdleMoney"]["AlarmDescription"]
    assert "cdk destroy inf2-llama2-7b-throughput" in alarms["IdleMoney"]["AlarmDescription"]
    assert alarms["IdleMoney"]["TreatMissingData"] == "notBreaching"
    (topic,) = made.find_resources("AWS::SNS::Topic")
    assert [alarm["AlarmActions"] for alarm in alarms.values()] == 4 * [[{"Ref": topic}]]
    made.has_resource_properties(
        "AWS::SNS::Subscription", {"Protocol": "email", "Endpoint": "ops@example.com"}
    )


def test_alarms_may_write_to_their_topic(template: Callable[..., Template]) -> None:
    """A policy of the topic's own takes the place of the default one, which allowed it."""
    statements = only(template(), "SNS::TopicPolicy")["PolicyDocument"]["Statement"]
    allowed = {each["Sid"]: each for each in statements if each["Effect"] == "Allow"}
    assert allowed["Alarms"]["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert allowed["Alarms"]["Action"] == "sns:Publish"
    assert allowed["Alarms"]["Condition"] == {
        "StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}
    }


def test_the_money_alarm_looks_at_a_metric_that_is_there(template: Callable[..., Template]) -> None:
    for context, metric in (({}, "Invocations"), ({"asynchronous": "true"}, "InvocationsProcessed")):
        (alarm,) = [
            each["Properties"]["Metrics"]
            for each in template(**context).find_resources("AWS::CloudWatch::Alarm").values()
            if "Metrics" in each["Properties"]
        ]
        assert alarm[0]["MetricStat"]["Metric"]["MetricName"] == metric


def test_an_update_leaves_the_running_package_readable(template: Callable[..., Template]) -> None:
    """The old package's policy is a resource of its own, which is removed when the update is complete."""
    made = [template(manifest={"revision": revision}) for revision in ("one", "two")]
    policies = [set(each.find_resources("AWS::IAM::Policy")) for each in made]
    assert len(policies[0] - policies[1]) == 1
    assert len(policies[1] - policies[0]) == 1
    roles = [set(each.find_resources("AWS::IAM::Role")) for each in made]
    assert roles[0] == roles[1]


def test_callers_find_the_endpoint_and_its_price(template: Callable[..., Template]) -> None:
    made = template()
    parameter = only(made, "SSM::Parameter")
    assert parameter["Name"] == "/inf2kit/presets/llama2-7b-throughput"
    found = json.loads(parameter["Value"])
    assert found["endpoint_name"] == "llama2-7b-throughput"
    assert (found["batch_size"], found["sequence_length"], found["asynchronous"]) == (4, 2048, False)
    outputs = {name: each["Value"] for name, each in made.find_outputs("*").items()}
    assert outputs["EndpointName"] == "llama2-7b-throughput"
    assert outputs["EstimatedUsdPerHour"] == "15.58 for 1 x ml.inf2.48xlarge in us-east-1 (estimate)"


def test_cost_tags_are_where_a_new_price_cannot_roll_the_fleet(template: Callable[..., Template]) -> None:
    made = template()
    tags = {each["Key"]: each["Value"] for each in only(made, "SageMaker::Endpoint")["Tags"]}
    assert tags["inf2kit:preset"] == "llama2-7b-throughput"
    assert tags["inf2kit:estimated-usd-per-hour"] == "15.58"
    others = {each["Key"] for each in only(made, "SageMaker::EndpointConfig")["Tags"]}
    assert others == {"inf2kit:preset", "inf2kit:endpoint"}
