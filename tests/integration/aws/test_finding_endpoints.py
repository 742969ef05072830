"""The client finds a deployed endpoint by the parameter that its stack created."""

from __future__ import annotations

import json

import boto3
import pytest

import inf2kit
from inf2kit import Endpoint
from inf2kit.errors import EndpointError
from infra.context import Context


def test_an_endpoint_is_found_by_its_preset(aws: str) -> None:
    value = json.dumps({"endpoint_name": "mine", "preset": "llama2-7b-latency"})
    boto3.client("ssm").put_parameter(Name="/inf2kit/presets/llama2-7b-latency", Type="String", Value=value)
    assert Endpoint.from_preset("llama2-7b-latency").name == "mine"


def test_an_asynchronous_endpoint_is_not_called_as_if_it_were_none(aws: str) -> None:
    value = {
        "endpoint_name": "mine",
        "asynchronous": True,
        "async_input": "s3://b/r/",
        "async_invocation_timeout_s": 900,
    }
    boto3.client("ssm").put_parameter(Name="/inf2kit/presets/mine", Type="String", Value=json.dumps(value))
    endpoint = Endpoint.from_preset("mine")
    for call in (endpoint.generate, endpoint.stream, lambda text: endpoint.chat([{"content": text}])):
        with pytest.raises(EndpointError, match="is asynchronous: call submit"):
            call("x")


@pytest.mark.parametrize("preset", inf2kit.preset_names())
def test_no_endpoint_of_a_preset_is_a_sentence_with_its_stack(aws: str, preset: str) -> None:
    stack = Context.parse({}).stack_name(inf2kit.load_preset(preset))
    sentence = (
        f"no endpoint of the preset '{preset}' is deployed in us-east-1; deploy it with 'cdk deploy {stack}'"
    )
    with pytest.raises(EndpointError, match=sentence):
        Endpoint.from_preset(preset)


def test_a_preset_of_ones_own_is_found_by_its_file(aws: str) -> None:
    value = json.dumps({"endpoint_name": "mine"})
    with pytest.raises(EndpointError, match=r"'cdk deploy inf2-my-own-1 -c preset=presets/my-own\.1\.toml'"):
        Endpoint.from_preset("presets/my-own.1.toml")
    boto3.client("ssm").put_parameter(Name="/inf2kit/presets/my-own.1", Type="String", Value=value)
    assert Endpoint.from_preset("presets/my-own.1.toml").name == "mine"
