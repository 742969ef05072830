"""Requests that SageMaker refuses: models, configurations and updates."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.helpers.cloud import generate
from tests.helpers.cloud_metrics import find_maximum
from tests.helpers.sagemaker import IMAGE, ROLE, ResourceMaker
from tests.helpers.servers import wait_until


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variables": {f"N{number}": "" for number in range(100)}}, "length less than or equal to 100"),
        ({"variables": {"LONG": "x" * 1025}}, "length less than or equal to 1024"),
        ({"variables": {"WIDE": "é" * 600}}, "length less than or equal to 1024"),
        ({"variables": {"NOT-A-NAME": "1"}}, "satisfy regular expression"),
        ({"name": "under_score"}, "satisfy regular expression"),
    ],
)
def test_models(maker: ResourceMaker, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ClientError, match=message) as refused:
        maker.create_model(change.get("name", "m"), **change.get("variables", {}))
    assert refused.value.response["Error"]["Code"] == "ValidationException"


def test_a_model_without_files_is_refused(maker: ResourceMaker, aws: Callable[..., Any]) -> None:
    source = {"S3Uri": "s3://models/nothing/", "S3DataType": "S3Prefix", "CompressionType": "None"}
    container = {"Image": IMAGE, "ModelDataSource": {"S3DataSource": source}}
    with pytest.raises(ClientError, match="Could not find model data at s3://models/nothing/"):
        aws("sagemaker").create_model(ModelName="m", ExecutionRoleArn=ROLE, PrimaryContainer=container)


def test_a_refused_model_leaves_no_tags(maker: ResourceMaker) -> None:
    arn = "arn:aws:sagemaker:us-east-1:123456789012:model/refused"
    with pytest.raises(ClientError, match="must have an Image"):
        maker.sagemaker.create_model(
            ModelName="refused",
            ExecutionRoleArn=ROLE,
            PrimaryContainer={"Environment": {}},
            Tags=[{"Key": "of", "Value": "the refused one"}],
        )
    tags = [{"Key": "of", "Value": "nobody"}]
    for operation, more in (
        ("add_tags", {"Tags": tags}),
        ("list_tags", {}),
        ("delete_tags", {"TagKeys": ["of"]}),
    ):
        with pytest.raises(ClientError, match='Could not find model "refused"'):
            getattr(maker.sagemaker, operation)(ResourceArn=arn, **more)
    maker.create_model("refused")
    assert maker.sagemaker.list_tags(ResourceArn=arn)["Tags"] == []
    maker.sagemaker.add_tags(ResourceArn=arn, Tags=tags)
    assert maker.sagemaker.list_tags(ResourceArn=arn)["Tags"] == tags


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ({"InstanceType": "ml.inf3.xlarge"}, "satisfy enum value set"),
        ({"InferenceAmiVersion": "al2-ami-sagemaker-inference-neuron-1"}, "satisfy enum value set"),
        ({"ContainerStartupHealthCheckTimeoutInSeconds": 3601}, "less than or equal to 3600"),
        ({"ModelDataDownloadTimeoutInSeconds": 3601}, "less than or equal to 3600"),
        ({"VolumeSizeInGB": 513}, "less than or equal to 512"),
        ({"ModelName": "nobody"}, "Could not find model"),
        ({"ManagedInstanceScaling": {"Status": "ENABLED"}}, "does not support managed instance scaling"),
        (
            {"RoutingConfig": {"RoutingStrategy": "PREFIX_AWARE"}},
            "does not support routing strategies other than RANDOM and LEAST_OUTSTANDING_REQUESTS",
        ),
    ],
)
def test_endpoint_configurations(maker: ResourceMaker, variant: dict[str, Any], message: str) -> None:
    maker.create_model("m")
    with pytest.raises(ClientError, match=message):
        maker.create_config("c", "m", **variant)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ServerlessConfig": {"MemorySizeInMB": 1024, "MaxConcurrency": 1}}, "does not support serverless"),
        ({"InstanceType": ""}, "satisfy enum value set|needs an InstanceType"),
    ],
)
def test_unsupported_variants(maker: ResourceMaker, change: dict[str, Any], message: str) -> None:
    maker.create_model("m")
    with pytest.raises(ClientError, match=message):
        maker.create_config("c", "m", **change)


def test_a_variant_says_how_many_instances_it_starts_with(maker: ResourceMaker) -> None:
    maker.create_model("m")
    variant = {"VariantName": "main", "ModelName": "m", "InstanceType": "ml.inf2.xlarge"}
    with pytest.raises(ClientError, match="The variant main needs an InitialInstanceCount"):
        maker.sagemaker.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])


def test_every_inf2_instance_is_known(maker: ResourceMaker) -> None:
    maker.create_model("m")
    for size in ("xlarge", "8xlarge", "24xlarge", "48xlarge"):
        maker.create_config(f"c-{size}", "m", InstanceType=f"ml.inf2.{size}")


def test_another_region_has_no_endpoints(aws: Callable[..., Any]) -> None:
    import boto3

    sagemaker = boto3.session.Session(region_name="eu-west-1").client("sagemaker")
    with pytest.raises(ClientError, match="endpoints in us-east-1 only"):
        sagemaker.list_endpoints()


def test_updates(maker: ResourceMaker, aws: Callable[..., Any]) -> None:
    """To the configuration in use, to an asynchronous one, and with a canary that does not fit the fleet.

    In the end, one that is not refused.
    """
    sagemaker = maker.sagemaker
    maker.create_model("m", INF2KIT_SIMULATED_STEP_SECONDS="0.1")
    maker.create_config("one", "m")
    maker.create_config("two", "m", InitialInstanceCount=2)
    asynchronous = {"OutputConfig": {"S3OutputPath": "s3://models/answers"}}
    maker.create_config("async", "m", asynchronous=asynchronous)
    maker.create_endpoint("updated", "one")
    maker.wait_until_settled("updated")

    def update(config: str, **more: Any) -> None:
        sagemaker.update_endpoint(EndpointName="updated", EndpointConfigName=config, **more)

    in_use = 'Cannot update endpoint with the currently in use endpoint configuration "one"'
    for more in ({}, {"RetainAllVariantProperties": True}):
        with pytest.raises(ClientError, match=in_use):
            update("one", **more)
    with pytest.raises(ClientError, match="AsyncInferenceConfig parameter cannot be added to this endpoint"):
        update("async")
    canary = {
        "Type": "CANARY",
        "WaitIntervalInSeconds": 0,
        "CanarySize": {"Type": "INSTANCE_COUNT", "Value": 1},
    }
    policy = {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": canary}}
    with pytest.raises(ClientError, match="A fleet of 1 instance cannot be updated with CANARY"):
        # The new configuration has two instances, but one is retained.
        update("two", RetainAllVariantProperties=True, DeploymentConfig=policy)
    excluded = [{"VariantPropertyType": "DesiredInstanceCount"}]
    with pytest.raises(ClientError, match="ExcludeRetainedVariantProperties needs"):
        update("two", ExcludeRetainedVariantProperties=excluded)
    batch = {"Type": "INSTANCE_COUNT", "Value": 1}
    rolling = {"RollingUpdatePolicy": {"MaximumBatchSize": batch, "WaitIntervalInSeconds": 0}}
    with pytest.raises(ClientError, match="either a BlueGreenUpdatePolicy or a RollingUpdatePolicy"):
        update("two", DeploymentConfig={**policy, **rolling})
    with pytest.raises(ClientError, match="Cannot create already existing endpoint"):
        maker.create_endpoint("UPDATED", "one")
    with pytest.raises(ClientError, match="Cannot create already existing model"):
        maker.create_model("M")
    rollback = {"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "watching"}]}}
    traffic = {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}
    watched = {**rollback, "BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": traffic}}
    with pytest.raises(ClientError, match="The alarms watching do not exist"):
        update("two", DeploymentConfig=watched)
    cloudwatch = aws("cloudwatch")
    cloudwatch.put_metric_alarm(
        AlarmName="watching",
        Namespace="N",
        MetricName="m",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
    )
    with pytest.raises(ClientError, match=r"may not perform cloudwatch:DescribeAlarms on .*:alarm:watching"):
        update("two", DeploymentConfig=watched)
    cloudwatch.delete_alarms(AlarmNames=["watching"])
    assert maker.wait_until_settled("updated")["EndpointConfigName"] == "one"
    maker.create_config("three", "m")
    check_instance_is_stopped_under_a_call(maker, aws, "updated", "three")


def check_instance_is_stopped_under_a_call(
    maker: ResourceMaker, aws: Callable[..., Any], endpoint: str, config: str
) -> None:
    """SageMaker does not wait for running calls before it sends its signal.

    The call would take 200 s, and is not cut off by SageMaker's runtime before 60 s.
    """
    runtime, tokens = aws("sagemaker-runtime", read_timeout=70), 2000

    def call() -> int:
        """Return the number of new tokens; 0 for a call that was cut off."""
        try:
            (answer,) = generate(runtime, endpoint, max_new_tokens=tokens, ignore_eos=True, details=True)
        except (ClientError, BotoCoreError):
            return 0
        return int(answer["details"]["generated_tokens"])

    dimensions = {"EndpointName": endpoint, "VariantName": "main"}
    with ThreadPoolExecutor() as pool:
        running = pool.submit(call)
        wait_until(
            lambda: find_maximum(aws, "AWS/SageMaker", "ConcurrentRequestsPerModel", dimensions),
            "the call runs",
        )
        maker.sagemaker.update_endpoint(EndpointName=endpoint, EndpointConfigName=config)
        assert maker.wait_until_settled(endpoint)["EndpointConfigName"] == config
        assert running.result() < tokens
