"""SageMaker's endpoints as boto3 sees them: what AWS would refuse is refused."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest
from botocore.exceptions import BotoCoreError, ClientError

import inf2kit
from inf2kit.package.environment import container_environment
from inf2kit.rehearsal.cloud.settings import CloudSettings
from inf2kit.rehearsal.container import processes as container
from tests.helpers.cloud import generate
from tests.helpers.sagemaker import IMAGE, ROLE, ResourceMaker, allow_policy, create_role
from tests.helpers.servers import wait_until


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"variables": {f"N{number}": "" for number in range(100)}}, "length less than or equal to 100"),
        ({"variables": {"LONG": "x" * 1025}}, "length less than or equal to 1024"),
        ({"variables": {"WIDE": "é" * 600}}, "length less than or equal to 1024"),
        ({"variables": {"NOT-A-NAME": "1"}}, "satisfy regular expression"),
        ({"name": "under_score"}, "satisfy regular expression"),
    ],
)
def test_a_model_that_aws_would_refuse(maker: ResourceMaker, change: dict[str, Any], said: str) -> None:
    with pytest.raises(ClientError, match=said) as refused:
        maker.create_model(change.get("name", "m"), **change.get("variables", {}))
    assert refused.value.response["Error"]["Code"] == "ValidationException"


def test_a_model_without_files_is_refused(maker: ResourceMaker, aws: Callable[..., Any]) -> None:
    source = {"S3Uri": "s3://models/nothing/", "S3DataType": "S3Prefix", "CompressionType": "None"}
    container = {"Image": IMAGE, "ModelDataSource": {"S3DataSource": source}}
    with pytest.raises(ClientError, match="Could not find model data at s3://models/nothing/"):
        aws("sagemaker").create_model(ModelName="m", ExecutionRoleArn=ROLE, PrimaryContainer=container)


@pytest.mark.parametrize(
    ("variant", "said"),
    [
        ({"InstanceType": "ml.inf3.xlarge"}, "satisfy enum value set"),
        ({"InferenceAmiVersion": "al2-ami-sagemaker-inference-neuron-1"}, "satisfy enum value set"),
        ({"ContainerStartupHealthCheckTimeoutInSeconds": 3601}, "less than or equal to 3600"),
        ({"ModelDataDownloadTimeoutInSeconds": 3601}, "less than or equal to 3600"),
        ({"VolumeSizeInGB": 513}, "less than or equal to 512"),
        ({"ModelName": "nobody"}, "Could not find model"),
    ],
)
def test_a_configuration_that_aws_would_refuse(
    maker: ResourceMaker, variant: dict[str, Any], said: str
) -> None:
    maker.create_model("m")
    with pytest.raises(ClientError, match=said):
        maker.create_config("c", "m", **variant)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ServerlessConfig": {"MemorySizeInMB": 1024, "MaxConcurrency": 1}}, "does not support serverless"),
        ({"InstanceType": ""}, "satisfy enum value set|needs an InstanceType"),
    ],
)
def test_what_is_not_made_is_refused(maker: ResourceMaker, change: dict[str, Any], said: str) -> None:
    maker.create_model("m")
    with pytest.raises(ClientError, match=said):
        maker.create_config("c", "m", **change)


def test_every_inf2_instance_is_known(maker: ResourceMaker) -> None:
    maker.create_model("m")
    for size in ("xlarge", "8xlarge", "24xlarge", "48xlarge"):
        maker.create_config(f"c-{size}", "m", InstanceType=f"ml.inf2.{size}")


def test_another_region_has_no_endpoints_here(aws: Callable[..., Any]) -> None:
    import boto3

    sagemaker = boto3.session.Session(region_name="eu-west-1").client("sagemaker")
    with pytest.raises(ClientError, match="endpoints in us-east-1 only"):
        sagemaker.list_endpoints()


def model_server_of(cloud: CloudSettings, endpoint: str) -> psutil.Process:
    for process in container.list_processes(cloud.run_dir, nested=True):
        with contextlib.suppress(psutil.Error):  # it may end while it is looked at
            place = process.environ().get("SAGEMAKER_BASE_DIR", "")
            if "java" in process.name() and f"/{endpoint}/" in place:
                return process
    raise LookupError(f"no container of {endpoint} runs")


def test_an_endpoint_from_its_first_moment_to_its_last(
    cloud: CloudSettings, maker: ResourceMaker, aws: Callable[..., Any]
) -> None:
    """Created, refused while it starts, called, its container killed and replaced, deleted."""
    runtime, sagemaker = aws("sagemaker-runtime"), maker.sagemaker
    maker.create_model("m")
    maker.create_config("c", "m")
    maker.create_endpoint("life", "c", Tags=[{"Key": "mine", "Value": "1"}])
    with pytest.raises(ClientError, match="in status Creating"):
        generate(runtime, "life")
    with pytest.raises(ClientError, match="Cannot update in-progress endpoint"):
        sagemaker.update_endpoint(EndpointName="life", EndpointConfigName="c")
    assert maker.wait_until_settled("life")["EndpointStatus"] == "InService"
    tags = {tag["Key"]: tag["Value"] for tag in sagemaker.list_tags(ResourceArn=_arn("life"))["Tags"]}
    assert tags == {"mine": "1", "inf2kit:rehearsal": "rehearsal: the simulated backend"}
    assert generate(runtime, "life")
    with pytest.raises(ClientError, match="not an asynchronous one"):
        runtime.invoke_endpoint_async(EndpointName="life", Body=b"{}")
    assert runtime.invoke_endpoint(EndpointName="life", TargetVariant="main", Body=b'{"inputs": "Hello"}')
    for header, said in {
        "TargetVariant": "Variant another not found in endpoint life",
        "TargetModel": "Endpoint life is not a multi-model endpoint and does not support target model header",
        "InferenceComponentName": "Endpoint life has no inference components",
        "TargetContainerHostname": "Endpoint life has one container only",
    }.items():
        with pytest.raises(ClientError, match=f"ValidationError.*{said}"):
            runtime.invoke_endpoint(EndpointName="life", Body=b'{"inputs": "Hello"}', **{header: "another"})
    with pytest.raises(ClientError, match="larger than 6,291,456 bytes"):
        generate(runtime, "life", "x" * 6_300_000)
    killed = model_server_of(cloud, "life")
    killed.kill()

    def replaced() -> bool:
        """Its place is taken by another container, which answers."""
        with contextlib.suppress(ClientError, LookupError):
            return model_server_of(cloud, "life").pid != killed.pid and bool(generate(runtime, "life"))
        return False

    wait_until(replaced, 90, "a killed container is replaced")
    groups = aws("logs").describe_log_groups(logGroupNamePrefix="/aws/sagemaker/Endpoints/life")
    (group,) = groups["logGroups"]
    lines = aws("logs").filter_log_events(logGroupName=group["logGroupName"])["events"]
    assert "inf2kit rehearsal" in lines[0]["message"]
    assert lines[0]["logStreamName"].startswith("main/i-")
    aws("logs").delete_log_group(logGroupName=group["logGroupName"])


def test_an_instance_is_stopped_while_calls_run_in_it(maker: ResourceMaker, aws: Callable[..., Any]) -> None:
    """SageMaker sends its signal without waiting: what becomes of the calls is the container's matter."""
    maker.create_model("slow", INF2KIT_SIMULATED_STEP_SECONDS="0.1")
    maker.create_config("before", "slow")
    maker.create_config("after", "slow")
    maker.create_endpoint("stopped", "before")
    assert maker.wait_until_settled("stopped")["EndpointStatus"] == "InService"
    runtime, tokens = aws("sagemaker-runtime", read_timeout=70), 450

    def call() -> int:
        """The number of new tokens; a call that was cut off has none."""
        try:
            (answer,) = generate(runtime, "stopped", max_new_tokens=tokens, details=True)
        except (ClientError, BotoCoreError):
            return 0
        return int(answer["details"]["generated_tokens"])

    def in_flight() -> bool:
        found = aws("cloudwatch").get_metric_statistics(
            Namespace="AWS/SageMaker",
            MetricName="ConcurrentRequestsPerModel",
            Dimensions=[
                {"Name": "EndpointName", "Value": "stopped"},
                {"Name": "VariantName", "Value": "main"},
            ],
            StartTime=dt.datetime.now(dt.timezone.utc) - dt.timedelta(minutes=5),
            EndTime=dt.datetime.now(dt.timezone.utc) + dt.timedelta(minutes=1),
            Period=300,
            Statistics=["Maximum"],
        )["Datapoints"]
        return any(point["Maximum"] for point in found)

    with ThreadPoolExecutor() as side_by_side:
        running = side_by_side.submit(call)
        wait_until(in_flight, 10, "the call runs")
        maker.sagemaker.update_endpoint(EndpointName="stopped", EndpointConfigName="after")
        assert maker.wait_until_settled("stopped")["EndpointConfigName"] == "after"
        assert running.result() < tokens


def test_an_endpoint_that_never_gets_ready_says_why(maker: ResourceMaker, aws: Callable[..., Any]) -> None:
    """No answer to /ping, then a deletion in the middle of a start."""
    maker.create_model("m", INF2KIT_BACKEND="nonsense")
    maker.create_config("c", "m")
    maker.create_endpoint("never", "c")
    failed = maker.wait_until_settled("never")
    assert failed["EndpointStatus"] == "Failed"
    assert "did not pass the ping health check" in failed["FailureReason"]
    assert "nonsense" in failed["FailureReason"]
    with pytest.raises(ClientError, match="in status Failed"):
        generate(aws("sagemaker-runtime"), "never")


def test_a_container_that_writes_to_its_model_is_refused(
    aws: Callable[..., Any], package: Callable[..., str]
) -> None:
    """SageMaker mounts the model read-only; a user who is root would not notice here."""
    preset = "tinyllama-1.1b-starter"
    writes = "import os\nopen(os.path.join(os.environ['SAGEMAKER_BASE_DIR'], 'model', 'written'), 'w')\n"
    uri = package(preset, ("inference.py", "import json\n", f"{writes}raise OSError\n"))
    maker = ResourceMaker(aws("sagemaker"), uri, container_environment(inf2kit.load_preset(preset)))
    try:
        maker.create_model("m")
        maker.create_config("c", "m")
        maker.create_endpoint("writes", "c")
        failed = maker.wait_until_settled("writes")
        assert failed["EndpointStatus"] == "Failed"
        reason = failed["FailureReason"]
        assert "read-only" in reason or "Permission denied" in reason, json.dumps(reason)
    finally:
        maker.delete_all()


def test_an_update_that_aws_would_refuse(maker: ResourceMaker) -> None:
    """The configuration in use, an asynchronous one, and a roll-out that does not fit what is retained."""
    sagemaker = maker.sagemaker
    maker.create_model("m")
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
        # The new configuration says two, and one is retained.
        update("two", RetainAllVariantProperties=True, DeploymentConfig=policy)
    assert maker.wait_until_settled("updated")["EndpointConfigName"] == "one"


def test_a_call_that_is_being_processed_is_part_of_the_backlog(
    maker: ResourceMaker, aws: Callable[..., Any]
) -> None:
    """One call on one instance, for which nothing waits; and a line of the container's log is counted."""
    group = "/aws/sagemaker/Endpoints/counted"
    stacks, runtime = aws("cloudformation"), aws("sagemaker-runtime")
    counted = {
        "MetricName": "Instances",
        "MetricNamespace": "inf2kit",
        "MetricValue": "1",
    }
    resources = {
        "Log": {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": group}},
        "Started": {
            "Type": "AWS::Logs::MetricFilter",
            "Properties": {
                "LogGroupName": {"Ref": "Log"},
                "FilterPattern": '"processes on this machine"',
                "MetricTransformations": [counted],
            },
        },
    }
    stacks.create_stack(StackName="counted", TemplateBody=json.dumps({"Resources": resources}))
    stacks.get_waiter("stack_create_complete").wait(StackName="counted", WaiterConfig={"Delay": 1})
    maker.create_model("slow", INF2KIT_SIMULATED_STEP_SECONDS="0.1")
    output = {"OutputConfig": {"S3OutputPath": "s3://models/answers"}}
    maker.create_config("slow", "slow", asynchronous=output)
    maker.create_endpoint("counted", "slow")
    assert maker.wait_until_settled("counted")["EndpointStatus"] == "InService"
    body = json.dumps({"inputs": "Hello", "parameters": {"max_new_tokens": 60}})
    runtime.invoke_endpoint_async(EndpointName="counted", ContentType="application/json", Body=body)

    def largest(name: str, namespace: str, *dimensions: dict[str, str]) -> float:
        now = dt.datetime.now(dt.timezone.utc)
        points = aws("cloudwatch").get_metric_statistics(
            Namespace=namespace,
            MetricName=name,
            Dimensions=list(dimensions),
            StartTime=now - dt.timedelta(minutes=5),
            EndTime=now + dt.timedelta(minutes=1),
            Period=300,
            Statistics=["Maximum"],
        )["Datapoints"]
        return max((float(point["Maximum"]) for point in points), default=0.0)

    of_endpoint = {"Name": "EndpointName", "Value": "counted"}
    wait_until(
        lambda: largest("ApproximateBacklogSize", "AWS/SageMaker", of_endpoint) == 1, 30, "a call that runs"
    )
    wait_until(lambda: largest("Instances", "inf2kit") == 1, 30, "the line that the filter counts")
    stacks.delete_stack(StackName="counted")
    stacks.get_waiter("stack_delete_complete").wait(StackName="counted", WaiterConfig={"Delay": 1})
    assert aws("logs").describe_metric_filters()["metricFilters"] == []


FOREIGN_TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "sagemaker.amazonaws.com"},
                "Action": "sts:AssumeRole",
                "Condition": {"StringEquals": {"aws:SourceAccount": "210987654321"}},
            }
        ],
    }
)


def test_a_model_is_loaded_in_the_name_of_its_role(maker: ResourceMaker, aws: Callable[..., Any]) -> None:
    iam = aws("iam")
    with pytest.raises(ClientError, match=r"Could not assume role .*role/nobody"):
        maker.create_model("m", role="arn:aws:iam::123456789012:role/nobody")
    iam.create_role(RoleName="foreign", AssumeRolePolicyDocument=FOREIGN_TRUST)
    with pytest.raises(ClientError, match=r"allows principal 'sagemaker\.amazonaws\.com'"):
        maker.create_model("m", role="arn:aws:iam::123456789012:role/foreign")
    iam.delete_role(RoleName="foreign")
    elsewhere = {"Condition": {"StringEquals": {"aws:ResourceAccount": "210987654321"}}}
    listing = (["s3:ListBucket"], "arn:aws:s3:::models")
    for policy in (
        allow_policy((["s3:GetObject"], "*")),
        allow_policy(listing, (["s3:GetObject"], "arn:aws:s3:::models/another/*")),
        allow_policy(listing, (["s3:GetObject"], "*"), **elsewhere),
    ):
        role = create_role(iam, "narrow", policy)
        with pytest.raises(ClientError, match="Could not access model data"):
            maker.create_model("m", role=role)
    prefix = maker.uri.removeprefix("s3://models/")
    role = create_role(iam, "narrow", allow_policy(listing, (["s3:Get*"], f"arn:aws:s3:::models/{prefix}*")))
    maker.create_model("m", role=role)
    maker.create_config("c", "m")
    # A right that is taken away after the model was made is missed by an instance that starts.
    create_role(iam, "narrow", allow_policy(listing))
    maker.create_endpoint("narrow", "c")
    failed = maker.wait_until_settled("narrow")
    assert failed["EndpointStatus"] == "Failed"
    assert "Could not access model data" in failed["FailureReason"]
    iam.delete_role_policy(RoleName="narrow", PolicyName="own")
    iam.delete_role(RoleName="narrow")


def test_an_answer_is_written_in_the_name_of_the_role(
    cloud: CloudSettings, maker: ResourceMaker, aws: Callable[..., Any]
) -> None:
    """Into a bucket that encrypts with a key: the role needs both, the bucket and its key."""
    iam, s3, runtime = aws("iam"), aws("s3"), aws("sagemaker-runtime")
    key = "arn:aws:kms:us-east-1:123456789012:key/of-the-bucket"
    s3.create_bucket(Bucket="encrypted")
    by_key = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}
    s3.put_bucket_encryption(
        Bucket="encrypted",
        ServerSideEncryptionConfiguration={"Rules": [{"ApplyServerSideEncryptionByDefault": by_key}]},
    )
    reading = (["s3:GetObject", "s3:ListBucket"], "*")
    writing = (["s3:PutObject"], "arn:aws:s3:::encrypted/answers/*")
    role = create_role(iam, "writer", allow_policy(reading, writing))
    maker.create_model("m", role=role)
    maker.create_config("c", "m", asynchronous={"OutputConfig": {"S3OutputPath": "s3://encrypted/answers"}})
    maker.create_endpoint("writer", "c")
    assert maker.wait_until_settled("writer")["EndpointStatus"] == "InService"
    body = json.dumps({"inputs": "Hello", "parameters": {"max_new_tokens": 2}})

    def ask() -> str:
        answer = runtime.invoke_endpoint_async(
            EndpointName="writer", ContentType="application/json", Body=body
        )
        return str(answer["OutputLocation"])

    lost = ask()
    wait_until(lambda: f"may not write {lost}" in cloud.log.read_text(encoding="utf-8"), 30, "a refusal")
    assert "Contents" not in s3.list_objects_v2(Bucket="encrypted")
    create_role(iam, "writer", allow_policy(reading, writing, (["kms:GenerateDataKey"], key)))
    written = ask()
    wait_until(lambda: s3.list_objects_v2(Bucket="encrypted").get("Contents"), 30, "an answer")
    (found,) = s3.list_objects_v2(Bucket="encrypted")["Contents"]
    assert written.endswith(found["Key"])
    s3.delete_object(Bucket="encrypted", Key=found["Key"])
    s3.delete_bucket(Bucket="encrypted")
    iam.delete_role_policy(RoleName="writer", PolicyName="own")
    iam.delete_role(RoleName="writer")


def test_a_refused_model_leaves_no_tags(maker: ResourceMaker) -> None:
    arn = "arn:aws:sagemaker:us-east-1:123456789012:model/refused"
    with pytest.raises(ClientError, match="must have an Image"):
        maker.sagemaker.create_model(
            ModelName="refused",
            ExecutionRoleArn=ROLE,
            PrimaryContainer={"Environment": {}},
            Tags=[{"Key": "of", "Value": "the refused one"}],
        )
    maker.create_model("refused")
    assert maker.sagemaker.list_tags(ResourceArn=arn)["Tags"] == []


def _arn(endpoint: str) -> str:
    return f"arn:aws:sagemaker:us-east-1:123456789012:endpoint/{endpoint}"
