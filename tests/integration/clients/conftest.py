"""One endpoint of the rehearsal cloud, with the simulated backend, for all clients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import inf2kit
from inf2kit.package import collect
from inf2kit.package.environment import container_environment
from inf2kit.rehearsal.cloud import lifecycle
from inf2kit.rehearsal.cloud.settings import CloudSettings
from tests.helpers import packages
from tests.helpers.cloud import boto3_client, publish_package, shell_environment
from tests.helpers.sagemaker import ResourceMaker
from tests.integration.clients.catalog import ENDPOINT


@pytest.fixture(scope="module")
def environment(cloud: CloudSettings, home: Path, tokenizer_only: Path) -> Iterator[dict[str, str]]:
    """The environment of a shell in which the rehearsal has the endpoint that docs/clients.md calls."""
    preset = inf2kit.load_preset(ENDPOINT)
    contents = packages.with_simulated_backend(collect(preset, tokenizer_only, rehearsal=True))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in lifecycle.environment(cloud).items():
            patch.setenv(name, value)
        for name in lifecycle.unset():
            patch.delenv(name, raising=False)
        uri = publish_package(contents)
    resources = ResourceMaker(boto3_client(cloud, "sagemaker"), uri, container_environment(preset))
    resources.create_model("m")
    capture = {
        "EnableCapture": True,
        "InitialSamplingPercentage": 5,
        "DestinationS3Uri": "s3://models/captured/",
        "CaptureOptions": [{"CaptureMode": "Input"}],
    }
    resources.create_config("c", "m", capture=capture)
    resources.create_endpoint(ENDPOINT, "c")
    resources.wait_until_settled(ENDPOINT)
    # Without a network, LiteLLM would look for its list of prices for long.
    yield {**shell_environment(cloud, home), "AWS_PAGER": "", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    resources.delete_all()
