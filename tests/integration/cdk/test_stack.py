"""The stack of each preset, property by property."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from aws_cdk.assertions import Template

import inf2kit
from inf2kit import catalog
from inf2kit.client.published import PublishedEndpoint
from inf2kit.package.environment import container_environment
from tests.helpers.cdk import NEURON_PRESETS, find_only

pytestmark = pytest.mark.usefixtures("home")


@pytest.mark.parametrize("name", NEURON_PRESETS)
def test_a_preset_becomes_an_endpoint(name: str, template: Callable[..., Template]) -> None:
    preset, rendered = inf2kit.load_preset(name), template(name)
    model = find_only(rendered, "SageMaker::Model")
    container = model["PrimaryContainer"]
    assert model["EnableNetworkIsolation"] is True
    assert "ModelName" not in model, "a name of its own would forbid its replacement"
    source = container["ModelDataSource"]["S3DataSource"]
    digest = source["S3Uri"].split("/")[-2]
    assert container["Environment"] == {**container_environment(preset), "INF2KIT_PACKAGE_DIGEST": digest}
    assert source["S3Uri"].startswith("s3://models/llm/")
    assert source["S3Uri"].endswith("/")
    assert (source["S3DataType"], source["CompressionType"]) == ("S3Prefix", "None")
    assert catalog.image().tag in json.dumps(container["Image"])

    configuration = find_only(rendered, "SageMaker::EndpointConfig")
    (variant,) = configuration["ProductionVariants"]
    assert variant["InstanceType"] == preset.compute.instance_type
    assert variant["InitialInstanceCount"] == 1
    assert variant["InferenceAmiVersion"] == "al2-ami-sagemaker-inference-neuron-2"
    assert variant["RoutingConfig"] == {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"}
    assert 60 <= variant["ContainerStartupHealthCheckTimeoutInSeconds"] <= 3600
    assert 60 <= variant["ModelDataDownloadTimeoutInSeconds"] <= 3600
    assert 13.5 < variant["VolumeSizeInGB"] <= 512
    assert "EndpointConfigName" not in configuration

    endpoint = find_only(rendered, "SageMaker::Endpoint")
    assert endpoint["EndpointName"] == preset.endpoint_name
    assert endpoint["RetainAllVariantProperties"] is True
    update = endpoint["DeploymentConfig"]
    assert update["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]["Type"] == "ALL_AT_ONCE"
    # The alarms look at five minutes, and their metrics are late.
    assert update["BlueGreenUpdatePolicy"]["TerminationWaitInSeconds"] > 300


def test_everything_is_there_before_what_needs_it(template: Callable[..., Template]) -> None:
    rendered = template()
    resources = rendered.to_json()["Resources"]

    def id_of(kind: str) -> str:
        return next(name for name, resource in resources.items() if resource["Type"] == f"AWS::{kind}")

    (endpoint,) = rendered.find_resources("AWS::SageMaker::Endpoint").values()
    rollback = {
        name
        for name, resource in rendered.find_resources("AWS::CloudWatch::Alarm").items()
        if resource["Properties"]["AlarmName"].endswith(("-Errors", "-ErrorRate", "-Latency"))
    }
    assert rollback <= set(endpoint["DependsOn"])
    assert id_of("Logs::LogGroup") in endpoint["DependsOn"]
    (model,) = rendered.find_resources("AWS::SageMaker::Model").values()
    assert set(rendered.find_resources("AWS::IAM::Policy")) <= set(model["DependsOn"])


def test_nothing_is_left_that_bills(template: Callable[..., Template]) -> None:
    rendered = template()
    assert find_only(rendered, "Logs::LogGroup")["RetentionInDays"] == 30
    retained = [
        resource["Type"]
        for resource in rendered.to_json()["Resources"].values()
        if resource.get("DeletionPolicy", "Delete") != "Delete"
    ]
    assert retained == []


def test_callers_find_the_endpoint_and_its_price(template: Callable[..., Template]) -> None:
    rendered = template()
    parameter = find_only(rendered, "SSM::Parameter")
    assert parameter["Name"] == "/inf2kit/presets/llama2-7b-throughput"
    endpoint = json.loads(parameter["Value"])
    assert endpoint["endpoint_name"] == "llama2-7b-throughput"
    assert (endpoint["batch_size"], endpoint["sequence_length"], endpoint["asynchronous"]) == (4, 2048, False)
    outputs = {name: output["Value"] for name, output in rendered.find_outputs("*").items()}
    assert outputs["EndpointName"] == "llama2-7b-throughput"
    assert outputs["EstimatedUsdPerHour"] == "15.58 for 1 x ml.inf2.48xlarge in us-east-1 (estimate)"


def test_the_log_can_outlive_the_stack(template: Callable[..., Template]) -> None:
    for context, policy in (({}, "Delete"), ({"log_removal": "retain"}, "Retain")):
        (group,) = template(**context).find_resources("AWS::Logs::LogGroup").values()
        assert (group["DeletionPolicy"], group["UpdateReplacePolicy"]) == (policy, policy)


def test_a_stack_of_a_fine_tune_is_tagged_with_its_name(template: Callable[..., Template]) -> None:
    rendered = template(manifest={"model_name": "legal/müller*tune"})
    tags = {tag["Key"]: tag["Value"] for tag in find_only(rendered, "SageMaker::Model")["Tags"]}
    assert tags["inf2kit:model"] == "legal/müller-tune"


def test_cost_tags_have_no_price(template: Callable[..., Template]) -> None:
    """A refreshed price would be an update of every resource that has it."""
    rendered = template()
    for kind in ("Endpoint", "EndpointConfig", "Model"):
        tags = {tag["Key"]: tag["Value"] for tag in find_only(rendered, f"SageMaker::{kind}")["Tags"]}
        assert tags == {
            "inf2kit:preset": "llama2-7b-throughput",
            "inf2kit:endpoint": "llama2-7b-throughput",
        }


def test_several_engines_count_in_workers_concurrency_and_the_time_to_start(
    template: Callable[..., Template],
) -> None:
    one, three = template("llama2-7b-throughput"), template("llama2-7b-fleet")
    rows = inf2kit.load_preset("llama2-7b-fleet").shapes.batch_size

    def workers(rendered: Template) -> int:
        environment = find_only(rendered, "SageMaker::Model")["PrimaryContainer"]["Environment"]
        return int(environment["SAGEMAKER_MODEL_SERVER_WORKERS"])

    assert (workers(one), workers(three)) == (4 + 2, 3 * (rows + 2))
    published = PublishedEndpoint.from_json("x", find_only(three, "SSM::Parameter")["Value"])
    assert (published.batch_size, published.engines, published.instances) == (rows, 3, 1)
    (first,), (second,) = (
        find_only(rendered, "SageMaker::EndpointConfig")["ProductionVariants"] for rendered in (one, three)
    )
    startup = "ContainerStartupHealthCheckTimeoutInSeconds"
    download = "ModelDataDownloadTimeoutInSeconds"
    assert second[startup] > first[startup], "engines load one after the other"
    assert second[download] == first[download], "the package is downloaded once"
