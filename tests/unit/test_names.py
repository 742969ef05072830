"""Names of AWS resources: valid for AWS, and different for different presets and stages."""

from __future__ import annotations

import re

import boto3
import pytest

import inf2kit
from inf2kit import names


@pytest.mark.parametrize(
    ("preset", "stage", "endpoint"),
    [
        ("llama2-7b-throughput", "", "llama2-7b-throughput"),
        ("tinyllama-1.1b-starter", "", "tinyllama-1-1b-starter"),
        ("tinyllama-1.1b-starter", "dev", "tinyllama-1-1b-starter-dev"),
        ("_my__preset_", "", "my-preset"),
    ],
)
def test_a_preset_gives_its_endpoint_and_stack_their_names(preset: str, stage: str, endpoint: str) -> None:
    assert names.endpoint_name(preset, stage) == endpoint
    assert names.stack_name(preset, stage) == f"inf2-{endpoint}"


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("a--b", "a--b"),
        ("tinyllama-1.1b-starter", "tinyllama-1-1b-starter"),
        ("tinyllama-1.1b-starter-dev", "tinyllama-1-1b-starter-dev"),
        ("presets/my_own.toml", "my-own"),
        ("../x", "../x"),
        (".", "."),
        ("naïve", "naïve"),
        ("", ""),
    ],
)
def test_an_endpoint_may_be_named_by_its_preset(text: str, endpoint: str) -> None:
    assert names.endpoint_or_preset(text) == endpoint


def test_the_parameter_keeps_the_presets_own_name() -> None:
    assert names.parameter_name("tinyllama-1.1b-starter") == "/inf2kit/presets/tinyllama-1.1b-starter"
    assert names.parameter_name("llama2-7b-budget", "dev") == "/inf2kit/presets/llama2-7b-budget-dev"


def test_an_asynchronous_endpoint_has_another_name() -> None:
    assert names.endpoint_name("llama2-7b-budget", "dev", asynchronous=True) == "llama2-7b-budget-dev-async"


def test_an_endpoint_logs_to_sagemakers_group() -> None:
    assert names.log_group_name("mine") == "/aws/sagemaker/Endpoints/mine"


@pytest.mark.parametrize("preset", inf2kit.preset_names())
def test_the_names_of_presets_that_ship_are_valid(preset: str) -> None:
    for asynchronous in (False, True):
        assert names.is_endpoint_name(names.endpoint_name(preset, "dev", asynchronous=asynchronous))
    assert len(names.stack_name(preset, "dev")) <= 128


def test_a_name_is_valid_exactly_where_sagemaker_says_so() -> None:
    metadata = (
        boto3.client("sagemaker", region_name="us-east-1")
        .meta.service_model.shape_for("EndpointName")
        .metadata
    )
    longest = metadata["max"]
    candidates = ["", "a", "-a", "a-", "a--b", "a.b", "a" * longest, "a" * (longest + 1), "a-" * 40 + "a"]
    for name in candidates:
        valid = re.fullmatch(metadata["pattern"], name) is not None and len(name) <= longest
        assert names.is_endpoint_name(name) == valid, name
    assert names.is_endpoint_name("a" * longest)
