"""A user's shell, clients, packages and calls for the tests of the rehearsal cloud."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

import inf2kit
from inf2kit import paths
from inf2kit.package import Contents, open_store
from inf2kit.rehearsal.cloud import lifecycle
from inf2kit.rehearsal.cloud.settings import CloudSettings
from tests.helpers import packages

ROOT = Path(inf2kit.__file__).parents[1]
BIN = Path(sys.executable).parent
STORE = "s3://models/llm"


def shell_environment(cloud: CloudSettings, home: Path) -> dict[str, str]:
    """Return the environment of a user's shell that has run ``inf2kit cloud env``."""
    return {
        **lifecycle.environment(cloud),
        "PATH": f"{BIN}{os.pathsep}{os.defpath}",
        "HOME": str(home),
        "CDK_HOME": str(home / "cdk"),
        "INF2KIT_HOME": str(home),
        # Of a synth's time the CDK's own rules take most; see pytest_configure.
        "CDK_VALIDATION": "false",
    }


def boto3_client(cloud: CloudSettings, service: str) -> Any:
    """Return a client that does not read this process's environment."""
    variables = lifecycle.environment(cloud)
    return boto3.session.Session(
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
        region_name=cloud.region,
    ).client(service, endpoint_url=cloud.url, config=Config(retries={"total_max_attempts": 1}))


def publish_package(contents: Contents) -> str:
    """Publish a package to the cloud's S3, keep its manifest for synthesis, and return its URI."""
    plan = packages.publish(contents, open_store(STORE))
    paths.save_manifest(plan.digest, contents.manifest.to_bytes())
    return f"{plan.uri.rstrip('/')}/"


def generate(runtime: Any, endpoint: str, prompt: str = "Hello", **parameters: Any) -> Any:
    """Call an endpoint once, without a stream."""
    body = json.dumps({"inputs": prompt, "parameters": {"max_new_tokens": 4, **parameters}})
    response = runtime.invoke_endpoint(EndpointName=endpoint, ContentType="application/json", Body=body)
    return json.loads(response["Body"].read())
