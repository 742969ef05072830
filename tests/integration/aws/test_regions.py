"""One region for every command: the calls of each one against what the real ``cdk`` takes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from inf2kit import Endpoint
from inf2kit.cli.commands import main
from inf2kit.errors import EndpointError
from tests.helpers.recording_aws import RecordingAws, recording_aws

CONFIG = """
[default]
region = eu-north-1
[profile mine]
region = us-west-2
aws_access_key_id = THEIRS
aws_secret_access_key = secret
[profile without-region]
output = json
"""
#: Variables, and the region that all take from them.
SETTINGS = [
    ({}, "eu-north-1"),
    ({"AWS_PROFILE": "mine"}, "us-west-2"),
    ({"AWS_PROFILE": "without-region"}, "eu-north-1"),
    ({"AWS_PROFILE": "mine", "AWS_DEFAULT_REGION": "ap-south-1"}, "ap-south-1"),
    ({"AWS_REGION": "sa-east-1"}, "sa-east-1"),
    ({"AWS_REGION": "sa-east-1", "AWS_DEFAULT_REGION": "ap-south-1", "AWS_PROFILE": "mine"}, "sa-east-1"),
]
OWNER = ["--bucket-owner", "123456789012"]
ROLE = "arn:aws:iam::123456789012:role/r"
STORE = "s3://models/llm"
#: A command by the service that it calls, in the region that is looked at.
COMMANDS = {
    "package": ("s3", ["package", "embedded", "--preset", "smollm2-135m-local", "--output", STORE, *OWNER]),
    "package, its owner": (
        "sts",
        ["package", "embedded", "--preset", "smollm2-135m-local", "--output", STORE],
    ),
    "packages list": ("s3", ["packages", "list", STORE, *OWNER]),
    "packages verify": ("s3", ["packages", "verify", f"{STORE}/{'0' * 32}", *OWNER]),
    "packages prune": ("s3", ["packages", "prune", STORE, *OWNER]),
    "compile": ("s3", ["compile", "smollm2-135m-local", "--output", STORE, *OWNER]),
    "generate": ("sagemaker", ["generate", "nobody", "Hello"]),
}
JOB = f"compile llama2-7b-budget --output {STORE} --job --role {ROLE} --token-secret hub --dry-run".split()


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RecordingAws]:
    """A recording AWS, and a configuration with profiles but no region in the environment."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    (tmp_path / "config").write_text(CONFIG, encoding="utf-8")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "OWN")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with recording_aws() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        yield server


def run(aws: RecordingAws, *words: str) -> str:
    """Run a command, which AWS refuses or whose output is enough; return the output."""
    aws.calls.clear()
    result = CliRunner().invoke(main, words)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result.output


def observe_regions(aws: RecordingAws, *options: str) -> dict[str, str]:
    """Return the region of each command, with the same options for all."""
    regions = {}
    for name, (service, words) in COMMANDS.items():
        output = run(aws, *words, *options)
        regions[name] = aws.regions().get(service, output)
    output = run(aws, *JOB, *options)
    image = re.search(r"dkr\.ecr\.([a-z0-9-]+)\.", output)
    regions["compile --job"] = image[1] if image else output
    run(aws, "prices", "refresh", *options)
    asked = re.search(r'"regionCode", "Value": "([^"]+)|"Value": "([a-z]+-[a-z]+-\d)"', aws.calls[-1].body)
    regions["prices refresh"] = asked[1] or asked[2] if asked else aws.calls[-1].body
    return regions


def cdk_region(folder: Path) -> str:
    """Return the region in which the real ``cdk`` would deploy."""
    (folder / "app.sh").write_text("#!/bin/sh\necho region=$CDK_DEFAULT_REGION\nexit 1\n", encoding="utf-8")
    (folder / "app.sh").chmod(0o755)
    command = [str(Path(sys.executable).with_name("cdk")), "synth", "-q", "--app", "./app.sh"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    region = re.search(r"region=(\S*)", result.stdout + result.stderr)
    assert region, result.stdout + result.stderr
    return region[1]


@pytest.mark.parametrize(("variables", "region"), SETTINGS, ids=str)
def test_every_command_calls_the_region_that_cdk_deploys_to(
    aws: RecordingAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], region: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    regions = observe_regions(aws)
    aws.calls.clear()
    with pytest.raises(EndpointError):
        Endpoint.from_preset("llama2-7b-latency")
    regions["Endpoint.from_preset"] = aws.regions()["ssm"]
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    regions["cdk"] = cdk_region(tmp_path)
    assert regions == dict.fromkeys(regions, region)


@pytest.mark.parametrize(
    ("options", "region"),
    [
        (["--region", "ca-central-1"], "ca-central-1"),
        (["--profile", "mine"], "us-west-2"),
        (["--profile", "mine", "--region", "ca-central-1"], "ca-central-1"),
    ],
    ids=str,
)
def test_every_command_has_the_same_options(aws: RecordingAws, options: list[str], region: str) -> None:
    regions = observe_regions(aws, *options)
    assert regions == dict.fromkeys(regions, region)
    assert aws.calls[-1].access_key == ("THEIRS" if "--profile" in options else "OWN")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--region", "eu-west1"], "'eu-west1' is not the name of a region; did you mean 'eu-west-1'?"),
        (["--profile", "nobody"], "there is no profile 'nobody' in your AWS configuration"),
    ],
    ids=str,
)
def test_a_region_or_profile_that_does_not_exist_is_one_sentence(
    aws: RecordingAws, options: list[str], sentence: str
) -> None:
    commands = [words for _, words in COMMANDS.values()] + [["prices", "refresh"]]
    for words in commands:
        output = run(aws, *words, *options)
        assert sentence in output, (words, output)
        assert output.strip().count("\n") == 0, (words, output)
        assert not aws.calls, words
