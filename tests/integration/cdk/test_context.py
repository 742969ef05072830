"""The context: presets and packages of the app, and the options that are refused."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

import inf2kit
from inf2kit.cdk import DeployedPackage, EndpointProps
from inf2kit.errors import DeploymentError, Inf2KitError
from infra.app import build_app
from infra.context import Context
from tests.helpers.cdk import register_package

pytestmark = pytest.mark.usefixtures("home")

KEY = "arn:aws:kms:us-east-1:123456789012:key/12345678-1234-1234-1234-123456789012"


def own_preset(folder: Path, name: str) -> Path:
    source = Path(inf2kit.presets.__file__).with_name("llama2-7b-latency.toml")  # type: ignore[attr-defined]
    path = folder / f"{name}.toml"
    path.write_text(
        source.read_text(encoding="utf-8").replace("batch_size = 1", "batch_size = 2"), encoding="utf-8"
    )
    return path


def test_a_preset_of_ones_own_has_a_stack_of_its_own(tmp_path: Path) -> None:
    path = own_preset(tmp_path, "my-llama")
    context = {"preset": str(path), "package": register_package(inf2kit.load_preset(str(path)))}
    parsed = Context.parse(context)
    assert "my-llama" in {preset.name for preset in parsed.presets}
    preset = next(preset for preset in parsed.presets if preset.name == "my-llama")
    assert parsed.endpoint_props(preset).preset.shapes.batch_size == 2


FOREIGN: dict[str, Any] = {
    "aws-cdk:enableDiffNoFail": True,
    "@aws-cdk/core:permissionsBoundary": {"name": "boundary"},
    "@aws-cdk/customresources:installLatestAwsSdkDefault": False,
    "@company/platform:stage": "prod",
    "@company/settings": {"stage": "prod"},
    "company:max_instances": "7",
    "company/owner": "a-team",
    "acknowledged-issue-numbers": [19836],
    "availability-zones:account=123456789012:region=us-east-1": ["us-east-1a"],
    "hosted-zone:account=123456789012:domainName=example.com:region=us-east-1": {"Id": "/hostedzone/Z1"},
    "vpc-provider:account=123456789012:filter.isDefault=true:region=us-east-1": {"vpcId": "vpc-1"},
    "ssm:account=123456789012:parameterName=/x:region=us-east-1": "y",
    "ami:account=123456789012:filters.name.0=x:region=us-east-1": "ami-1",
    "cli-telemetry": False,
    "tree": True,
    "owner": "a-team",
    "cost-center": 4711,
    "env": "prod",
    "Department": {"name": "research"},
}


@pytest.mark.parametrize("key", FOREIGN)
def test_context_of_others_is_passed_over(key: str) -> None:
    preset = inf2kit.load_preset("llama2-7b-throughput")
    package = register_package(preset)
    parsed = Context.parse({"package": package, key: FOREIGN[key]})
    assert parsed.endpoint_props(preset) == Context.parse({"package": package}).endpoint_props(preset)
    assert parsed.passed_over == ((key,) if key in ("owner", "cost-center", "env", "Department") else ())


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"max_instance": "2"}, "unknown context 'max_instance'; did you mean 'max_instances'"),
    ({"Max_Instances": "2"}, "unknown context 'Max_Instances'; did you mean 'max_instances'"),
    ({"MAX_INSTANCES": "2"}, "unknown context 'MAX_INSTANCES'; did you mean 'max_instances'"),
    ({"max-instances": "2"}, "unknown context 'max-instances'; did you mean 'max_instances'"),
    ({"maxInstances": "2"}, "unknown context 'maxInstances'; did you mean 'max_instances'"),
    ({"inf2kit:max_instances": "2"}, "unknown context 'inf2kit:max_instances'; did you mean"),
    ({"instancetype": "x"}, "unknown context 'instancetype'; did you mean 'instance_type'"),
    ({"packages": "x"}, "unknown context 'packages'; did you mean 'package'"),
    ({"Stage": None}, "unknown context 'Stage'; did you mean 'stage'"),
    ({"llama2-7b-throughputt": {"stage": "x"}}, "did you mean 'llama2-7b-throughput'"),
    ({"another": {"max_instances": 2}}, "unknown context 'another'"),
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
    (
        {"environment": "INF2KIT_STALL_SECONDS=1"},
        "INF2KIT_STALL_SECONDS is '1'; it must be a number of 3 to 86400",
    ),
    (
        {"environment": "INF2KIT_QUEUE_SIZE=100001"},
        "INF2KIT_QUEUE_SIZE is '100001'; it must be a whole number of 0 to 100000",
    ),
    (
        {"environment": "INF2KIT_MIN_ENGINES=2"},
        "INF2KIT_MIN_ENGINES is '2'; it must be a whole number of 1 to 1",
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


@pytest.mark.parametrize(("context", "message"), REFUSED, ids=[" ".join(context) for context, _ in REFUSED])
def test_an_option_that_makes_no_sense_is_refused_at_synth(context: dict[str, Any], message: str) -> None:
    preset = inf2kit.load_preset("llama2-7b-throughput")
    with pytest.raises(Inf2KitError) as raised:
        Context.parse({"package": register_package(preset), **context}).endpoint_props(preset)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "option", ["target_concurrency", "startup_timeout_s", "download_timeout_s", "volume_gb"]
)
def test_an_explicit_zero_is_not_the_default(option: str) -> None:
    preset = inf2kit.load_preset("llama2-7b-throughput")
    package = DeployedPackage.from_uri(register_package(preset))
    values: dict[str, Any] = {option: 0}
    with pytest.raises(DeploymentError, match=f"{option} is 0; it must be within"):
        EndpointProps(preset=preset, package=package, **values)
    values[option] = None
    assert getattr(EndpointProps(preset=preset, package=package, **values), option) > 0


def test_texts_of_ones_own_preset_fit_a_template(tmp_path: Path) -> None:
    path = own_preset(tmp_path, "wordy")
    content = path.read_text(encoding="utf-8")
    line = next(line for line in content.splitlines() if line.startswith("description"))
    path.write_text(content.replace(line, f'description = "{1001 * "x"}"'), encoding="utf-8")
    preset = inf2kit.load_preset(str(path))
    with pytest.raises(DeploymentError, match=r"description is 'x+\.\.\.'; it must be at most 1000 bytes"):
        Context.parse({"preset": str(path), "package": register_package(preset)}).endpoint_props(preset)


@pytest.mark.parametrize("boundary", [{"name": "limit"}, '{"name": "limit"}'], ids=["object", "text"])
def test_a_permissions_boundary_is_on_every_role(tmp_path: Path, boundary: object) -> None:
    """As cdk.json has it, and as ``cdk -c`` gives it."""
    context = {
        "package": register_package("llama2-7b-latency"),
        "compile_output": "s3://models/llm",
        "@aws-cdk/core:permissionsBoundary": boundary,
    }
    app = build_app(context, outdir=str(tmp_path / "out"))
    assembly = app.synth()
    roles = [
        resource["Properties"].get("PermissionsBoundary")
        for stack in assembly.stacks
        for resource in stack.template.get("Resources", {}).values()
        if resource["Type"].startswith(("AWS::IAM::Role", "AWS::IAM::User"))
    ]
    assert len(roles) == 2, "of the endpoint and of compilation jobs"
    assert all(":policy/limit" in str(role) for role in roles)


@pytest.mark.parametrize("boundary", ["limit", "[1]", '{"nam": "limit"}', {"name": ""}])
def test_a_permissions_boundary_that_names_no_policy_is_refused(tmp_path: Path, boundary: object) -> None:
    with pytest.raises(DeploymentError, match=r"it must be an object such as \{\"name\": \"POLICY\"\}"):
        build_app({"@aws-cdk/core:permissionsBoundary": boundary}, outdir=str(tmp_path / "out"))


def test_two_stacks_never_have_one_endpoint(tmp_path: Path) -> None:
    package = ",".join(map(register_package, ("llama2-7b-throughput", "llama2-7b-latency")))
    app = build_app({"package": package, "endpoint_name": "chat"}, outdir=str(tmp_path / "out"))
    errors = [
        str(entry.data)
        for child in app.node.children
        for entry in child.node.metadata
        if entry.type == "aws:cdk:error" and "both have" in str(entry.data)
    ]
    assert len(errors) == 1
    assert "would both have the endpoint 'chat'" in errors[0]

    own = own_preset(tmp_path, "llama2-7b-latency-dev")
    context = {"preset": str(own), "llama2-7b-latency": {"stage": "dev"}}
    with pytest.raises(DeploymentError, match="would have the stack inf2-llama2-7b-latency-dev"):
        build_app(context, outdir=str(tmp_path / "other"))


def test_packages_that_cannot_be_deployed_are_refused(tmp_path: Path) -> None:
    throughput = register_package("llama2-7b-throughput")
    digest = throughput.split("/")[-2]
    preset = inf2kit.load_preset("llama2-7b-throughput")
    own = own_preset(tmp_path, "llama2-7b-latency")
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "there is no package for the preset 'llama2-7b-throughput'; give -c package="),
        ({"package": register_package("llama2-7b-latency")}, "(the one given is for llama2-7b-latency)"),
        ({"package": "s3://models/llm/"}, "does not end in a package's digest"),
        ({"package": "s3://models/llm/latest/"}, "does not end in a package's digest"),
        ({"package": f"/home/me/{digest}/"}, "is not in S3"),
        ({"package": f"s3://models/{32 * 'a'}/"}, "aws s3 cp s3://models/" + 32 * "a" + "/inf2kit.json ."),
        ({"package": f"{throughput},{throughput}"}, "two packages are for the same preset"),
        (
            {"package": register_package(preset, image_tag="old")},
            "is for the image old, this inf2kit deploys",
        ),
        ({"package": throughput, "manifest": "nowhere.json"}, "manifest nowhere.json cannot be read"),
        ({"preset": str(own)}, "two presets are named 'llama2-7b-latency'"),
        (
            {"package": register_package(inf2kit.load_preset(str(own_preset(tmp_path, "mine"))))},
            "give its file with -c preset",
        ),
    ]
    for context, message in cases:
        with pytest.raises(Inf2KitError) as raised:
            Context.parse(context).endpoint_props(preset)
        assert message in str(raised.value)


def test_a_manifest_that_was_changed_is_refused(tmp_path: Path) -> None:
    uri = register_package("llama2-7b-throughput")
    other = register_package("llama2-7b-throughput", revision="other")
    copy = inf2kit.paths.manifest(uri.split("/")[-2])  # type: ignore[attr-defined]
    copy.write_bytes(inf2kit.paths.manifest(other.split("/")[-2]).read_bytes())  # type: ignore[attr-defined]
    with pytest.raises(DeploymentError, match="not its own but that of"):
        Context.parse({"package": uri})
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
