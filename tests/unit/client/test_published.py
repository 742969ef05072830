"""The record by which callers find a deployed endpoint."""

from __future__ import annotations

import json

import pytest

from inf2kit.client.published import PublishedEndpoint
from inf2kit.errors import EndpointError

RECORD = PublishedEndpoint(
    endpoint_name="e", preset="p", package="s3://b/d/", batch_size=4, sequence_length=2048
)


def test_a_record_survives_the_parameter() -> None:
    assert PublishedEndpoint.from_json("/x", RECORD.to_json()) == RECORD
    assert "async_input" not in json.loads(RECORD.to_json())


def test_a_record_of_another_release_is_read() -> None:
    value = json.dumps({"endpoint_name": "e", "of_another_release": 1})
    assert PublishedEndpoint.from_json("/x", value).endpoint_name == "e"


@pytest.mark.parametrize("value", ["", "e", "3", "[]", "null", '{"preset": "p"}'])
def test_a_parameter_of_others_is_named(value: str) -> None:
    with pytest.raises(EndpointError, match="the parameter /inf2kit/presets/p does not name an endpoint"):
        PublishedEndpoint.from_json("/inf2kit/presets/p", value)
