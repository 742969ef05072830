"""The client finds a deployed endpoint by the parameter that its stack created."""

from __future__ import annotations

import json

import boto3
import pytest

from inf2kit import Endpoint
from inf2kit.errors import EndpointError


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
    with pytest.raises(EndpointError, match="under s3://b/r/ and call invoke_endpoint_async"):
        Endpoint.from_preset("mine")


def test_no_endpoint_of_a_preset_is_a_sentence(aws: str) -> None:
    with pytest.raises(
        EndpointError, match="no endpoint of the preset 'llama2-7b-budget' is deployed in us-east-1"
    ):
        Endpoint.from_preset("llama2-7b-budget")
