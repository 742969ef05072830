"""A local AWS: moto's server as a process of its own, and boto3's environment pointing there."""

from __future__ import annotations

import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from tests.helpers.servers import PATIENCE_S, free_port, wait_until

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """The address of a moto server: it stands in for AWS."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: _answers(url), "moto answers")
        yield url
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def aws(moto: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """boto3 calls moto, as it would call AWS, by its environment alone; AWS is empty."""
    for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": moto}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    # boto3's own session keeps the credentials of its first call for ever.
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    urllib.request.urlopen(urllib.request.Request(f"{moto}/moto-api/reset", method="POST"))  # noqa: S310
    return moto


@pytest.fixture
def bucket(aws: str) -> Any:
    """A bucket of S3."""
    models = boto3.resource("s3").Bucket("models")
    models.create()
    return models


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(f"{url}/moto-api/data.json", timeout=PATIENCE_S).close()  # noqa: S310
    except (OSError, urllib.error.URLError):
        return False
    return True
