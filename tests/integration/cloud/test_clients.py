"""Other people's clients, unchanged: the SageMaker SDK v3 and the aws command line."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inf2kit.rehearsal.cloud.settings import CloudSettings
from tests.helpers.cloud import BIN, shell_environment
from tests.helpers.sagemaker import ResourceMaker

#: Created by ``make setup`` from clients/requirements.txt.
CLIENTS = BIN.parent / "clients" / "bin"
SCRIPT = Path(__file__).parent / "clients" / "sdk_v3.py"


def test_other_clients_call_an_endpoint(
    cloud: CloudSettings, home: Path, aws: Callable[..., Any], maker: ResourceMaker, tmp_path: Path
) -> None:
    maker.create_model("m")
    capture = {
        "EnableCapture": True,
        "InitialSamplingPercentage": 5,
        "DestinationS3Uri": "s3://models/captured/",
        "CaptureOptions": [{"CaptureMode": "Input"}],
    }
    maker.create_config("c", "m", capture=capture)
    maker.create_endpoint("others", "c")
    maker.wait_until_settled("others")

    def run(program: str, *arguments: str) -> str:
        environment = {**shell_environment(cloud, home), "AWS_PAGER": ""}
        command = [str(CLIENTS / program), *arguments]
        result = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    def aws_cli(*arguments: str) -> Any:
        output = run("aws", *arguments, "--output", "json")
        return json.loads(output) if output.strip() else None

    results = json.loads(run("python", str(SCRIPT), "others").splitlines()[-1])
    assert results["status"] == "InService"
    assert results["variants"] == [1]
    assert results["all"] == ["others"]
    assert results["events"] == 3
    assert results["answer"][0]["generated_text"]
    assert "422" in results["refused"]

    request = tmp_path / "request.json"
    request.write_text('{"inputs": "Hello", "parameters": {"max_new_tokens": 3}}', encoding="utf-8")
    response = aws_cli(
        "sagemaker-runtime", "invoke-endpoint", "--endpoint-name", "others",
        "--content-type", "application/json", "--body", f"fileb://{request}", "answer.json",
    )  # fmt: skip
    assert response["InvokedProductionVariant"] == "main"
    assert json.loads((tmp_path / "answer.json").read_text(encoding="utf-8")) == results["answer"]
    described = aws_cli("sagemaker", "describe-endpoint", "--endpoint-name", "others")
    assert described["EndpointStatus"] == "InService"
    assert described["DataCaptureConfig"]["CurrentSamplingPercentage"] == 5
    assert aws_cli("sts", "get-caller-identity")["Account"] == "123456789012"
    run("aws", "s3", "mb", "s3://by-the-command-line")
    run("aws", "s3", "cp", str(request), "s3://by-the-command-line/a/request.json")
    run("aws", "s3", "cp", "s3://by-the-command-line/a/request.json", "back.json")
    assert (tmp_path / "back.json").read_bytes() == request.read_bytes()
    run("aws", "s3", "rb", "--force", "s3://by-the-command-line")
    assert isinstance(aws_cli("cloudformation", "describe-stacks")["Stacks"], list)
