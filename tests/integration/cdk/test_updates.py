"""What a later deployment changes: SageMaker refuses the configuration in use, and a change of kind."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from aws_cdk.assertions import Template

from inf2kit import paths
from inf2kit.cdk import EndpointProps
from inf2kit.rehearsal.cloud.cloudformation.resources import replaced_by, replaces
from tests.helpers.cdk import find_only

pytestmark = pytest.mark.usefixtures("home")

KEY = "arn:aws:kms:us-east-1:123456789012:key/12345678-1234-1234-1234-123456789012"
VPC = {"subnet_ids": "subnet-0123456789abcdef0", "security_group_ids": "sg-0123456789abcdef0"}
#: Another value of every option, with what it needs beside it.
OTHER: dict[str, dict[str, Any]] = {
    "stage": {"stage": "dev"},
    "endpoint_name": {"endpoint_name": "another"},
    "instance_type": {"instance_type": "ml.inf2.xlarge"},
    "min_instances": {"min_instances": "4", "max_instances": "4"},
    "max_instances": {"max_instances": "4"},
    "scalable": {"scalable": "false"},
    "target_concurrency": {"target_concurrency": "2"},
    "scale_out_cooldown_s": {"scale_out_cooldown_s": "30"},
    "scale_in_cooldown_s": {"scale_in_cooldown_s": "600"},
    "startup_timeout_s": {"startup_timeout_s": "3000"},
    "download_timeout_s": {"download_timeout_s": "3000"},
    "volume_gb": {"volume_gb": "300"},
    "rollout": {"rollout": "rolling", "min_instances": "4", "max_instances": "4"},
    "rollback": {"rollback": "false"},
    "network_isolation": {"network_isolation": "false"},
    "environment": {"environment": "INF2KIT_QUEUE_SIZE=8"},
    "asynchronous": {"asynchronous": "true"},
    "async_output": {"asynchronous": "true", "async_output": "s3://another/place/"},
    "async_deadline_s": {"asynchronous": "true", "async_deadline_s": "600"},
    "bucket_owner": {"bucket_owner": "123456789012"},
    "package_kms_key_arn": {"package_kms_key_arn": KEY},
    "kms_key_arn": {"kms_key_arn": KEY},
    "subnet_ids": VPC,
    "security_group_ids": VPC,
    "data_capture_percent": {"data_capture_percent": "5"},
    "data_capture_output": {"data_capture_percent": "5", "data_capture_output": "s3://another/place/"},
    "alarm_email": {"alarm_email": "ops@example.com"},
    "max_errors_per_minute": {"max_errors_per_minute": "7"},
    "max_errors_percent": {"max_errors_percent": "7"},
    "idle_hours": {"idle_hours": "3"},
    "log_retention_days": {"log_retention_days": "7"},
    "log_removal": {"log_removal": "retain"},
    "log_kms_key_arn": {"log_kms_key_arn": KEY},
}
BEFORE: dict[str, dict[str, Any]] = {
    "default": {},
    "fleet": {"min_instances": "4", "max_instances": "4", "rollout": "rolling"},
    "scaling": {"min_instances": "1", "max_instances": "8"},
    "async": {"asynchronous": "true", "min_instances": "0", "max_instances": "2"},
}
#: These are changed as often as one likes: no instance is started or stopped for them.
QUIET = (
    *("max_instances", "scalable", "target_concurrency", "scale_out_cooldown_s", "scale_in_cooldown_s"),
    *("alarm_email", "max_errors_per_minute", "max_errors_percent", "idle_hours"),
    *("log_retention_days", "log_removal", "log_kms_key_arn", "bucket_owner", "package_kms_key_arn"),
)


def only_of(template: Template, kind: str) -> tuple[str, dict[str, Any]]:
    """The logical id and the properties of the only resource of a kind."""
    ((name, resource),) = template.find_resources(f"AWS::SageMaker::{kind}").items()
    return name, resource["Properties"]


def replaced(before: Template, after: Template, kind: str) -> bool:
    """Whether an update makes another resource."""
    (old_id, old), (new_id, new) = only_of(before, kind), only_of(after, kind)
    return old_id != new_id or replaces(f"AWS::SageMaker::{kind}", old, new)


def own(template: Template) -> dict[str, Any]:
    """What an endpoint says beside its configuration; tags are changed without an update."""
    _, properties = only_of(template, "Endpoint")
    return {name: value for name, value in properties.items() if name not in ("Tags", "EndpointConfigName")}


def test_the_schema_says_what_is_replaced() -> None:
    """Otherwise the tests below would prove nothing."""
    assert {"ProductionVariants", "AsyncInferenceConfig"} <= replaced_by("AWS::SageMaker::EndpointConfig")
    assert "EndpointName" in replaced_by("AWS::SageMaker::Endpoint")


def test_every_option_is_here() -> None:
    options = {field.name for field in dataclasses.fields(EndpointProps)} - {"preset", "package"}
    assert set(OTHER) == options


@pytest.mark.parametrize("start", BEFORE)
@pytest.mark.parametrize("option", OTHER)
def test_an_endpoint_is_never_updated_to_the_configuration_that_it_has(
    option: str, start: str, template: Callable[..., Template]
) -> None:
    """SageMaker refuses that, so an option must change both or none; and it cannot change the kind."""
    preset = "llama2-7b-budget" if option == "instance_type" else "llama2-7b-throughput"
    before = template(preset, **BEFORE[start])
    after = template(preset, **{**BEFORE[start], **OTHER[option]})
    for old, new in ((before, after), (after, before)):
        if replaced(old, new, "Endpoint"):
            continue
        assert own(old) == own(new) or replaced(old, new, "EndpointConfig")
        kinds = [
            "AsyncInferenceConfig" in find_only(rendered, "SageMaker::EndpointConfig")
            for rendered in (old, new)
        ]
        assert kinds[0] == kinds[1], "SageMaker cannot take AsyncInferenceConfig away from an endpoint"


@pytest.mark.parametrize("option", QUIET)
def test_an_option_that_does_not_concern_the_instances_leaves_them_alone(
    option: str, template: Callable[..., Template]
) -> None:
    scaling = BEFORE["scaling"]
    before, after = template(**scaling), template(**{**scaling, **OTHER[option]})
    assert before.to_json() != after.to_json()
    for kind in ("Endpoint", "EndpointConfig", "Model"):
        assert only_of(before, kind) == only_of(after, kind)


def test_refreshed_prices_change_no_resource_of_the_endpoint(template: Callable[..., Template]) -> None:
    before = template(anew=True)
    paths.prices().parent.mkdir(parents=True, exist_ok=True)
    paths.prices().write_text(
        'date = 2026-11-01\nsource = "a test"\n[us-east-1]\n"ml.inf2.48xlarge" = 99.0\n',
        encoding="utf-8",
    )
    after = template(anew=True)
    paths.prices().unlink()
    assert after.find_outputs("EstimatedUsdPerHour")["EstimatedUsdPerHour"]["Value"].startswith("99.00")
    for kind in ("Endpoint", "EndpointConfig", "Model"):
        assert only_of(before, kind) == only_of(after, kind)


def test_the_number_of_instances_is_that_of_application_auto_scaling(
    template: Callable[..., Template],
) -> None:
    for context in BEFORE.values():
        rendered = template(**context)
        assert find_only(rendered, "SageMaker::Endpoint")["RetainAllVariantProperties"] is True
        target = find_only(rendered, "ApplicationAutoScaling::ScalableTarget")
        low, high = int(context.get("min_instances", 1)), int(context.get("max_instances", 1))
        assert (target["MinCapacity"], target["MaxCapacity"]) == (low, high)
        policies = rendered.find_resources("AWS::ApplicationAutoScaling::ScalingPolicy")
        assert bool(policies) is (high > low)


def test_another_instance_type_is_possible_without_a_scalable_target(
    template: Callable[..., Template],
) -> None:
    template(scalable="false").resource_count_is("AWS::ApplicationAutoScaling::ScalableTarget", 0)


def test_rights_of_the_running_fleet_are_not_taken_by_an_update(template: Callable[..., Template]) -> None:
    """A policy is named by what it says: what changes is a new one, and the old one goes last."""
    contexts: list[dict[str, Any]] = [
        {"asynchronous": "true"},
        {"asynchronous": "true", "async_output": "s3://models/elsewhere/"},
        {"data_capture_percent": "5"},
        {"data_capture_percent": "5", "data_capture_output": "s3://models/elsewhere/"},
        {"kms_key_arn": KEY},
        {"kms_key_arn": f"{KEY[:-1]}3"},
        VPC,
        {**VPC, "security_group_ids": "sg-0123456789abcdef1"},
        {"package_kms_key_arn": KEY},
    ]
    seen: dict[str, Any] = {}
    for context in contexts:
        for name, policy in template(**context).find_resources("AWS::IAM::Policy").items():
            assert seen.setdefault(name, policy) == policy, f"{name} would be changed in place"
    names = [policy["Properties"]["PolicyName"] for policy in seen.values()]
    assert len(set(names)) == len(names), "two of them are on one role for a while"


def test_an_update_leaves_every_package_readable(template: Callable[..., Template]) -> None:
    """A roll-back, of SageMaker's own making or not, loads the package before."""
    one, two = (template(manifest={"revision": revision}) for revision in ("one", "two"))
    assert one.find_resources("AWS::IAM::Policy") == two.find_resources("AWS::IAM::Policy")
    assert only_of(one, "Model") != only_of(two, "Model")
