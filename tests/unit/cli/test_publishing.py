"""The command that is printed after packaging deploys to the region and account of the package."""

from __future__ import annotations

import os
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import inf2kit
from inf2kit.cli.publishing import print_deploy_command, store_options
from inf2kit.package.stores.s3 import S3Store

CONFIG = "[profile other]\naws_access_key_id = OTHER\naws_secret_access_key = secret\nregion = eu-west-1\n"


@click.command()
@click.option("--preset", default="llama2-7b-latency")
@store_options
def publish(preset: str, region: str | None, bucket_owner: str | None) -> None:
    """Print the command for a package in a bucket."""
    loaded = inf2kit.load_preset("llama2-7b-latency")
    store = S3Store("models", "llm/", region, bucket_owner)
    print_deploy_command(loaded, preset, store.uri("0" * 32), store)


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ([], "cdk deploy inf2-llama2-7b-latency -c package={uri}"),
        (["--region", "us-east-1"], "cdk deploy inf2-llama2-7b-latency -c package={uri}"),
        (
            ["--region", "eu-west-1"],
            "AWS_REGION=eu-west-1 cdk deploy inf2-llama2-7b-latency -c package={uri}",
        ),
        (["--profile", "other"], "cdk deploy inf2-llama2-7b-latency -c package={uri} --profile other"),
        (
            ["--preset", "my own.toml"],
            "cdk deploy inf2-llama2-7b-latency -c 'preset=my own.toml' -c package={uri}",
        ),
    ],
    ids=str,
)
def test_the_printed_command_goes_where_the_package_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], command: str
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    (tmp_path / "config").write_text(CONFIG, encoding="utf-8")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    if "--profile" not in arguments:
        monkeypatch.setenv("AWS_REGION", "us-east-1")
    result = CliRunner().invoke(publish, [*arguments, "--bucket-owner", "123456789012"])
    uri = f"s3://models/llm/{'0' * 32}/"
    assert result.output == f"deploy: {command.format(uri=uri)}\n", result.exception
