"""What tests of the rehearsal cloud share: a user's shell, clients, packages, calls."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

import inf2kit
from inf2kit import paths as homes
from inf2kit.package import Contents, at, publish
from inf2kit.rehearsal.cloud import lifecycle
from inf2kit.rehearsal.cloud.settings import CloudSettings

ROOT = Path(inf2kit.__file__).parents[1]
BIN = Path(sys.executable).parent
PLACE = "s3://models/llm"


def shell(cloud: CloudSettings, home: Path) -> dict[str, str]:
    """The environment of a user's shell."""
    return {
        **lifecycle.environment(cloud),
        "PATH": f"{BIN}{os.pathsep}{os.defpath}",
        "HOME": str(home),
        "CDK_HOME": str(home / "cdk"),
        "INF2KIT_HOME": str(home),
    }


def boto3_of(cloud: CloudSettings, service: str) -> Any:
    """A client without an environment."""
    given = lifecycle.environment(cloud)
    return boto3.session.Session(
        aws_access_key_id=given["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=given["AWS_SECRET_ACCESS_KEY"],
        region_name=cloud.region,
    ).client(service, endpoint_url=cloud.url, config=Config(retries={"total_max_attempts": 1}))


def published(contents: Contents) -> str:
    """Send a package to the cloud's S3, and keep its manifest for a synth."""
    done = publish(contents, at(PLACE, None), lambda _: None)
    homes.keep_manifest(done.digest, contents.manifest.to_bytes())
    return f"{done.where.rstrip('/')}/"


def generate(runtime: Any, endpoint: str, prompt: str = "Hello", **parameters: Any) -> Any:
    """One whole call."""
    body = json.dumps({"inputs": prompt, "parameters": {"max_new_tokens": 4, **parameters}})
    response = runtime.invoke_endpoint(EndpointName=endpoint, ContentType="application/json", Body=body)
    return json.loads(response["Body"].read())
