"""``inf2kit demo``: what goes wrong with its calls is a sentence."""

from __future__ import annotations

import boto3
import pytest

from inf2kit.errors import EndpointError
from inf2kit.rehearsal.demo import call_endpoint
from tests.helpers.recording_aws import recording_aws


def test_a_refused_call_is_a_sentence() -> None:
    with recording_aws() as aws:
        session = boto3.session.Session("KEY", "secret", region_name="us-east-1")
        client = session.client("sagemaker-runtime", endpoint_url=aws.url)
        with pytest.raises(EndpointError, match="endpoint 'mine' answered: no"):
            call_endpoint(client, "mine")
