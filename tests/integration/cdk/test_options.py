"""The options, as people write them after -c, and the ones that are refused."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk.assertions import Annotations, Match, Template

import inf2kit
from inf2kit.cdk.props import EndpointProps
from inf2kit.cdk.stack import EndpointStack
from inf2kit.errors import DeploymentError, Inf2KitError
from infra.app import build
from infra.context import Context
from tests.helpers.stacks import deployable, only

pytestmark = pytest.mark.usefixtures("home")

KEY = "arn:aws:kms:us-east-1:123456789012:key/12345678-1234-1234-1234-123456789012"


def test_more_instances_scale_on_texts_and_sooner_on_calls(template: Callable[..., Template]) -> None:
    rendered = template(max_instances="4")
    target = only(rendered, "ApplicationAutoScaling::ScalableTarget")
    assert target["ResourceId"] == "endpoint/llama2-7b-throughput/variant/main"
    assert (target["MinCapacity"], target["MaxCapacity"]) == (1, 4)
    policies = {
        each["Properties"]["PolicyName"]: each["Properties"]["TargetTrackingScalingPolicyConfiguration"]
        for each in rendered.find_resources("AWS::ApplicationAutoScaling::ScalingPolicy").values()
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
    update = only(rendered, "SageMaker::Endpoint")["DeploymentConfig"]
    assert len(update["AutoRollbackConfiguration"]["Alarms"]) == 3
    fewest = int(context.get("min_instances", 1))
    assert (
        only(rendered, "SageMaker::EndpointConfig")["ProductionVariants"][0]["InitialInstanceCount"] == fewest
    )
    if kind == "ROLLING":
        assert update["RollingUpdatePolicy"]["MaximumBatchSize"] == {"Type": "CAPACITY_PERCENT", "Value": 25}
        assert 600 <= update["RollingUpdatePolicy"]["MaximumExecutionTimeoutInSeconds"] <= 28_800
        return
    traffic = update["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]
    assert traffic["Type"] == kind
    assert traffic.get("CanarySize") == ({"Type": "INSTANCE_COUNT", "Value": 1} if kind == "CANARY" else None)


def warnings(tmp_path: Path, **context: str) -> list[str]:
    """What a synth says of a stack."""
    app = build({"package": deployable("llama2-7b-throughput"), **context}, outdir=str(tmp_path / "warned"))
    stack = app.node.find_child("inf2-llama2-7b-throughput")
    return [
        str(each.entry.data) for each in Annotations.from_stack(stack).find_warning("*", Match.any_value())
    ]


def test_an_update_without_roll_back_says_so(template: Callable[..., Template], tmp_path: Path) -> None:
    """An endpoint in alarm undoes its own mend; this is the way through."""
    rendered = template(rollback="false")
    assert "AutoRollbackConfiguration" not in only(rendered, "SageMaker::Endpoint")["DeploymentConfig"]
    (warning,) = warnings(tmp_path, rollback="false")
    assert "no alarm undoes this update of llama2-7b-throughput" in warning
    assert warnings(tmp_path) == []


def test_a_large_fleet_all_at_once_is_warned_of(tmp_path: Path) -> None:
    fleet = {"min_instances": "4", "max_instances": "4"}
    (warning,) = warnings(tmp_path, **fleet)
    assert "needs as many again; -c rollout=rolling" in warning
    assert warnings(tmp_path, **fleet, rollout="rolling") == []


def test_an_asynchronous_endpoint_scales_to_zero_and_has_a_deadline_of_its_own(
    template: Callable[..., Template],
) -> None:
    rendered = template(asynchronous="true", min_instances="0", max_instances="2", async_deadline_s="1800")
    name = only(rendered, "SageMaker::Endpoint")["EndpointName"]
    assert name == "llama2-7b-throughput-async", "no endpoint can be made asynchronous, or real-time again"
    configuration = only(rendered, "SageMaker::EndpointConfig")
    output = configuration["AsyncInferenceConfig"]["OutputConfig"]
    assert output["S3OutputPath"] == "s3://models/inf2kit-async/llama2-7b-throughput-async/answers/"
    assert output["S3FailurePath"] == "s3://models/inf2kit-async/llama2-7b-throughput-async/failures/"
    assert configuration["AsyncInferenceConfig"]["ClientConfig"] == {"MaxConcurrentInvocationsPerInstance": 5}
    assert configuration["ProductionVariants"][0]["InitialInstanceCount"] == 1
    variables = only(rendered, "SageMaker::Model")["PrimaryContainer"]["Environment"]
    assert variables["INF2KIT_DEADLINE_SECONDS"] == "1800"
    assert int(variables["SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS"]) > 1800
    assert only(rendered, "ApplicationAutoScaling::ScalableTarget")["MinCapacity"] == 0
    policies = {
        each["Properties"]["PolicyType"]: each["Properties"]
        for each in rendered.find_resources("AWS::ApplicationAutoScaling::ScalingPolicy").values()
    }
    tracked = policies["TargetTrackingScaling"]["TargetTrackingScalingPolicyConfiguration"]
    assert tracked["CustomizedMetricSpecification"]["MetricName"] == "ApproximateBacklogSizePerInstance"
    # The backlog has the calls that are being answered, too: a full instance alone must not add another.
    assert tracked["TargetValue"] == 5 + 4
    alarms = {
        each["Properties"]["AlarmName"].rpartition("-")[2]: each["Properties"]
        for each in rendered.find_resources("AWS::CloudWatch::Alarm").values()
    }
    assert "IdleMoney" not in alarms, "with none running nothing idles"
    assert alarms["Wake"]["MetricName"] == "HasBacklogWithoutCapacity"
    wake = next(
        name
        for name, each in rendered.find_resources("AWS::ApplicationAutoScaling::ScalingPolicy").items()
        if each["Properties"]["PolicyType"] == "StepScaling"
    )
    assert alarms["Wake"]["AlarmActions"] == [{"Ref": wake}]
    parameter = json.loads(only(rendered, "SSM::Parameter")["Value"])
    assert parameter["async_input"].endswith("/requests/")
    assert parameter["async_invocation_timeout_s"] == 1860, "SageMaker's own default is 900"


def test_a_key_of_the_customer_covers_volume_answers_and_captured_data(
    template: Callable[..., Template],
) -> None:
    rendered = template(kms_key_arn=KEY, asynchronous="true", data_capture_percent="10")
    configuration = only(rendered, "SageMaker::EndpointConfig")
    assert configuration["KmsKeyId"] == KEY
    assert configuration["AsyncInferenceConfig"]["OutputConfig"]["KmsKeyId"] == KEY
    assert configuration["DataCaptureConfig"]["KmsKeyId"] == KEY
    assert configuration["DataCaptureConfig"]["InitialSamplingPercentage"] == 10
    header = configuration["DataCaptureConfig"]["CaptureContentTypeHeader"]
    assert header == {"JsonContentTypes": ["application/json"]}, "otherwise it is base64"


def test_a_key_of_the_log_is_that_of_the_topic(template: Callable[..., Template]) -> None:
    rendered = template(log_kms_key_arn=KEY)
    assert only(rendered, "Logs::LogGroup")["KmsKeyId"] == KEY
    assert only(rendered, "SNS::Topic")["KmsMasterKeyId"] == KEY


def test_data_capture_is_off_unless_asked_for(template: Callable[..., Template]) -> None:
    assert "DataCaptureConfig" not in only(template(), "SageMaker::EndpointConfig")


def test_a_vpc(template: Callable[..., Template]) -> None:
    rendered = template(
        subnet_ids="subnet-0123456789abcdef0,subnet-0123456789abcdef1",
        security_group_ids="sg-0123456789abcdef0",
    )
    assert only(rendered, "SageMaker::Model")["VpcConfig"] == {
        "Subnets": ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"],
        "SecurityGroupIds": ["sg-0123456789abcdef0"],
    }


def test_settings_of_the_engine_can_be_changed(template: Callable[..., Template]) -> None:
    rendered = template(environment="INF2KIT_QUEUE_SIZE=64,INF2KIT_PREFILLS_PER_STEP=2")
    variables = only(rendered, "SageMaker::Model")["PrimaryContainer"]["Environment"]
    assert (variables["INF2KIT_QUEUE_SIZE"], variables["INF2KIT_PREFILLS_PER_STEP"]) == ("64", "2")
    thresholds = {
        each["Properties"]["AlarmName"].rpartition("-")[2]: each["Properties"]["Threshold"]
        for each in rendered.find_resources("AWS::CloudWatch::Alarm").values()
    }
    assert thresholds["Saturation"] == 4 + 32, "half of the longer queue"


def test_another_instance_of_the_preset(template: Callable[..., Template]) -> None:
    rendered = template("llama2-7b-budget", instance_type="ml.inf2.xlarge")
    assert (
        only(rendered, "SageMaker::EndpointConfig")["ProductionVariants"][0]["InstanceType"]
        == "ml.inf2.xlarge"
    )


def test_options_of_one_preset_only(template: Callable[..., Template]) -> None:
    context: dict[str, Any] = {
        "llama2-7b-throughput": {"max_instances": 3},
        "llama2-7b-latency": {"max_instances": 9},
    }
    rendered = template("llama2-7b-throughput", **context)
    assert only(rendered, "ApplicationAutoScaling::ScalableTarget")["MaxCapacity"] == 3


def own_preset(folder: Path, name: str) -> Path:
    source = Path(inf2kit.presets.__file__).with_name("llama2-7b-latency.toml")  # type: ignore[attr-defined]
    path = folder / f"{name}.toml"
    path.write_text(
        source.read_text(encoding="utf-8").replace("batch_size = 1", "batch_size = 2"), encoding="utf-8"
    )
    return path


def test_a_preset_of_ones_own_has_a_stack_of_its_own(tmp_path: Path) -> None:
    path = own_preset(tmp_path, "my-llama")
    context = {"preset": str(path), "package": deployable(inf2kit.load_preset(str(path)))}
    read = Context.read(context)
    assert "my-llama" in {preset.name for preset in read.presets}
    preset = next(preset for preset in read.presets if preset.name == "my-llama")
    assert read.props(preset).preset.shapes.batch_size == 2


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"max_instance": "2"}, "unknown context 'max_instance'; did you mean 'max_instances'"),
    ({"max_instances": "many"}, "max_instances is 'many'; it must be a whole number"),
    ({"network_isolation": "maybe"}, "network_isolation is 'maybe'; it must be true or false"),
    ({"max_instances": "0"}, "max_instances is 0; it must be within 1..100"),
    ({"min_instances": "0"}, "min_instances is 0; it must be within 1..100"),
    ({"min_instances": "3", "max_instances": "2"}, "max_instances is 2; it must be within 3..100"),
    ({"target_concurrency": "5"}, "target_concurrency is 5.0; it must be within 1..4"),
    ({"rollout": "rollling"}, "rollout is 'rollling'; it must be one of all_at_once, canary, rolling"),
    ({"rollout": "canary"}, "rollout is 'canary'; it must be all_at_once with fewer than 2 min_instances"),
    ({"rollout": "rolling", "min_instances": "3", "max_instances": "3"}, "with fewer than 4 min_instances"),
    ({"volume_gb": "0"}, "volume_gb is '0'; leave it out, and it fits the model"),
    ({"stage": "a b"}, "stage is 'a b'; it must be letters and digits, such as dev"),
    (
        {"environment": ",".join(f"X{number}={'y' * 1000}" for number in range(40))},
        "it must be at most 32,768 in all",
    ),
    ({"max_errors_percent": "0"}, "max_errors_percent is 0; it must be within 1..100"),
    ({"log_removal": "keep"}, "log_removal is 'keep'; it must be one of destroy, retain"),
    ({"bucket_owner": "me"}, "bucket_owner is 'me'; it must be an account of 12 digits"),
    (
        {"kms_key_arn": KEY, "package_kms_key_arn": KEY.replace("us-east-1", "eu-west-1")},
        "it must be in the region of kms_key_arn, aws:us-east-1",
    ),
    ({"compile_token_secret": "hub"}, "compile_token_secret needs compile_output"),
    ({"compile_output": "/a/folder"}, "compile_output is '/a/folder'; it must be s3://BUCKET/PREFIX"),
    ({"startup_timeout_s": "3601"}, "startup_timeout_s is 3601; it must be within 60..3600"),
    ({"startup_timeout_s": "100"}, "startup_timeout_s is 100; it must be at least 195 for 13.5 GB of model"),
    ({"download_timeout_s": "59"}, "download_timeout_s is 59; it must be within 60..3600"),
    ({"volume_gb": "513"}, "volume_gb is 513; it must be within 42..512"),
    ({"volume_gb": "30"}, "volume_gb is 30; it must be within 42..512"),
    ({"instance_type": "ml.inf2.xlarge"}, "does not run on 'ml.inf2.xlarge'"),
    ({"endpoint_name": "my_endpoint"}, "endpoint_name is 'my_endpoint'"),
    ({"log_retention_days": "31"}, "log_retention_days is 31"),
    ({"async_deadline_s": "3600", "asynchronous": "true"}, "async_deadline_s is 3600"),
    (
        {"environment": "SAGEMAKER_PROGRAM=x.py"},
        "environment SAGEMAKER_PROGRAM is 'x.py'; it must be left out",
    ),
    ({"environment": "HF_TOKEN=abc"}, "environment HF_TOKEN is '...'; it must be left out"),
    (
        {"environment": f"X={'y' * 1025}"},
        "environment X is '1025 characters'; it must be at most 1,024 bytes",
    ),
    ({"environment": "my-var=1"}, "named by letters, digits and '_'"),
    (
        {"environment": "INF2KIT_QUEUE_SIZE=abc"},
        "environment INF2KIT_QUEUE_SIZE is 'abc'; it must be a whole number",
    ),
    ({"environment": "INF2KIT_BACKEND=simulated"}, "free are INF2KIT_PREFILLS_PER_STEP, INF2KIT_QUEUE_SIZE"),
    ({"environment": "hf_token=abc"}, "environment hf_token is '...'"),
    ({"environment": "AWS_ACCESS_KEY_ID=abc"}, "environment AWS_ACCESS_KEY_ID is '...'"),
    ({"max_instances": "inf"}, "max_instances is 'inf'; it must be a whole number"),
    ({"max_instances": 2.7}, "max_instances is 2.7; it must be a whole number"),
    ({"subnet_ids": "x", "security_group_ids": "sg-0123456789abcdef0"}, "such as subnet-0123456789abcdef0"),
    ({"environment": "X"}, "environment is 'X'; it must be NAME=VALUE"),
    ({"subnet_ids": "subnet-0123456789abcdef0"}, "given together with security_group_ids"),
    ({"kms_key_arn": "alias/mine"}, "the ARN of a key"),
    ({"data_capture_percent": "101"}, "data_capture_percent is 101"),
    ({"async_output": "s3://bucket"}, "async_output is 's3://bucket'; it must be s3://BUCKET/PREFIX/"),
    ({"alarm_email": "nobody"}, "alarm_email is 'nobody'"),
    ({"llama2-7b-throughput": "[1]"}, "must be an object of options"),
]


@pytest.mark.parametrize(("context", "message"), REFUSED, ids=[" ".join(each) for each, _ in REFUSED])
def test_an_option_that_makes_no_sense_is_refused_at_synth(context: dict[str, Any], message: str) -> None:
    preset = inf2kit.load_preset("llama2-7b-throughput")
    with pytest.raises(Inf2KitError) as raised:
        Context.read({"package": deployable(preset), **context}).props(preset)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_texts_of_ones_own_preset_fit_a_template(tmp_path: Path) -> None:
    path = own_preset(tmp_path, "wordy")
    content = path.read_text(encoding="utf-8")
    line = next(line for line in content.splitlines() if line.startswith("description"))
    path.write_text(content.replace(line, f'description = "{1001 * "x"}"'), encoding="utf-8")
    preset = inf2kit.load_preset(str(path))
    with pytest.raises(DeploymentError, match=r"description is 'x+\.\.\.'; it must be at most 1000 bytes"):
        Context.read({"preset": str(path), "package": deployable(preset)}).props(preset)


def test_a_region_without_the_image_is_refused_before_it_is_deployed_to(tmp_path: Path) -> None:
    app = build({"package": deployable("llama2-7b-throughput")}, region="af-south-1", outdir=str(tmp_path))
    stack = app.node.find_child("inf2-llama2-7b-throughput")
    (error,) = Annotations.from_stack(stack).find_error("*", Match.any_value())
    assert "no registry of deep learning containers in 'af-south-1'; there are ap-east-1" in error.entry.data


def test_a_key_of_another_region_is_refused_where_the_stack_has_one(tmp_path: Path) -> None:
    preset = inf2kit.load_preset("llama2-7b-throughput")
    props = Context.read({"package": deployable(preset), "kms_key_arn": KEY}).props(preset)
    app = cdk.App(outdir=str(tmp_path))
    there = cdk.Environment(account="123456789012", region="eu-west-1")
    with pytest.raises(DeploymentError, match="this stack is for eu-west-1; give a key of that region"):
        EndpointStack(app, "stack", props=props, env=there)


def test_packages_that_cannot_be_deployed_are_refused(tmp_path: Path) -> None:
    throughput = deployable("llama2-7b-throughput")
    digest = throughput.split("/")[-2]
    preset = inf2kit.load_preset("llama2-7b-throughput")
    own = own_preset(tmp_path, "llama2-7b-latency")
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "there is no package for the preset 'llama2-7b-throughput'; give -c package="),
        ({"package": deployable("llama2-7b-latency")}, "(the one given is for llama2-7b-latency)"),
        ({"package": "s3://models/llm/"}, "does not end in a package's digest"),
        ({"package": "s3://models/llm/latest/"}, "does not end in a package's digest"),
        ({"package": f"/home/me/{digest}/"}, "is not in S3"),
        ({"package": f"s3://models/{32 * 'a'}/"}, "aws s3 cp s3://models/" + 32 * "a" + "/inf2kit.json ."),
        ({"package": f"{throughput},{throughput}"}, "two packages are for the same preset"),
        ({"package": deployable(preset, image_tag="old")}, "is for the image old, this inf2kit deploys"),
        ({"package": throughput, "manifest": "nowhere.json"}, "manifest nowhere.json cannot be read"),
        ({"preset": str(own)}, "two presets are named 'llama2-7b-latency'"),
        (
            {"package": deployable(inf2kit.load_preset(str(own_preset(tmp_path, "mine"))))},
            "give its file with -c preset",
        ),
    ]
    for context, message in cases:
        with pytest.raises(Inf2KitError) as raised:
            Context.read(context).props(preset)
        assert message in str(raised.value)


def test_a_manifest_that_was_changed_is_refused(tmp_path: Path) -> None:
    uri = deployable("llama2-7b-throughput")
    other = deployable("llama2-7b-throughput", revision="other")
    copy = inf2kit.paths.manifest(uri.split("/")[-2])  # type: ignore[attr-defined]
    copy.write_bytes(inf2kit.paths.manifest(other.split("/")[-2]).read_bytes())  # type: ignore[attr-defined]
    with pytest.raises(DeploymentError, match="not its own but that of"):
        Context.read({"package": uri})
    copy.unlink()


def test_every_option_is_in_the_documents() -> None:
    page = (Path(inf2kit.__file__).parents[1] / "docs/deploying.md").read_text(encoding="utf-8")
    options = {
        name
        for row in re.findall(r"^\| (`[a-z_`, ]+`) \|", page[page.index("## Options") :], re.MULTILINE)
        for name in re.findall(r"`([a-z_]+)`", row)
    }
    own = {"package", "manifest", "preset", "compile_output", "compile_token_secret"}
    fields = {field.name for field in dataclasses.fields(EndpointProps)} - {"preset", "package"}
    assert options == fields | own


def test_a_stage_is_a_stack_of_its_own(tmp_path: Path) -> None:
    """Two of a preset in one account share no name."""
    names: list[set[str]] = []
    for context in ({}, {"stage": "dev"}, {"stage": "prod", "asynchronous": "true"}):
        app = build({"package": deployable("llama2-7b-throughput"), **context}, outdir=str(tmp_path / "cdk"))
        suffix = f"-{context['stage']}" if "stage" in context else ""
        stack = app.node.find_child(f"inf2-llama2-7b-throughput{suffix}")
        resources = Template.from_stack(stack).to_json()["Resources"].values()  # type: ignore[arg-type]
        named = ("AlarmName", "EndpointName", "LogGroupName", "Name", "ResourceId")
        names.append(
            {
                each["Properties"][key]
                for each in resources
                for key in named
                if isinstance(each["Properties"].get(key), str)
            }
        )
        assert f"/inf2kit/presets/llama2-7b-throughput{suffix}" in names[-1]
        (idle,) = [
            each["Properties"]
            for each in resources
            if str(each["Properties"].get("AlarmName")).endswith("-IdleMoney")
        ]
        assert idle["AlarmDescription"].endswith(f"cdk destroy inf2-llama2-7b-throughput{suffix}")
    assert not names[0] & names[1]
    assert not names[1] & names[2]
