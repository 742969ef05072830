"""Clients of other projects, unchanged: by the code of docs/clients.md each gets what boto3 gets."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from inf2kit.rehearsal.cloud.settings import CloudSettings
from tests.helpers.cloud import BIN, boto3_client
from tests.helpers.fault_server import fault_server, reset_before_the_answer
from tests.integration.clients import document
from tests.integration.clients.catalog import CLIENTS, ENDPOINT, FOLDER, Client

#: What docs/clients.md asks for, and how the answer's text is found.
TEXT = {"inputs": "What is deep learning?", "parameters": {"max_new_tokens": 16}}
CHAT = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 16}
REFUSAL = "is 2; it must be a number of at least 0 and at most 1"
SCRIPTED = [client for client in CLIENTS if client.path.suffix == ".py"]


def program(environment: str, name: str) -> str:
    """A program of a client's environment, which ``make setup`` installs."""
    return str(BIN.parent / f"clients-{environment}" / "bin" / name)


def run(command: list[str], environment: dict[str, str], cwd: Path) -> str:
    """Run a program, and return what it printed."""
    result = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def texts(cloud: CloudSettings, environment: dict[str, str]) -> dict[str, str]:
    """What boto3 of this environment gets: by the names of the calls, the text of each."""
    runtime = boto3_client(cloud, "sagemaker-runtime")

    def call(body: dict[str, Any]) -> Any:
        response = runtime.invoke_endpoint(
            EndpointName=ENDPOINT, ContentType="application/json", Body=json.dumps(body)
        )
        return json.load(response["Body"])

    return {"text": call(TEXT)[0]["generated_text"], "chat": call(CHAT)["choices"][0]["message"]["content"]}


@pytest.fixture(scope="module")
def outcomes(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the calls of each client's file returned, or raised: one process for each environment, as they
    import much of the same."""
    outcomes: dict[str, Any] = {}
    for name in ("aws", "others"):
        files = [str(client.path) for client in SCRIPTED if client.environment == name]
        command = [program(name, "python"), "-I", str(FOLDER / "run_calls.py"), *files]
        outcomes.update(json.loads(run(command, environment, tmp_path_factory.mktemp(name)).splitlines()[-1]))
    return outcomes


@pytest.mark.parametrize("client", SCRIPTED, ids=lambda client: client.path.stem)
def test_client(client: Client, texts: dict[str, str], outcomes: dict[str, Any]) -> None:
    results = outcomes[client.path.stem]
    assert list(results) == document.calls(client), results
    gaps = {gap.call: gap for gap in client.gaps}
    for name, result in results.items():
        gap, text = gaps.get(name), texts["chat" if name.startswith("chat") else "text"]
        if gap is not None and gap.raises:
            assert gap.raises in result.get("error", result.get("text")), (name, result)
        elif gap is not None and gap.returns is not None:
            assert text != gap.returns(text), "the text shows no difference"
            assert result == {"text": gap.returns(text)}, name
        elif name == "refused":
            assert REFUSAL in result.get("text", ""), result
        else:
            assert result == {"text": text}, name


def test_the_document_is_what_the_clients_did() -> None:
    written = document.DOCUMENT.read_text(encoding="utf-8")
    assert written == document.render(), "python -m tests.integration.clients.document writes it"


def test_no_call_is_sent_twice(environment: dict[str, str], tmp_path: Path) -> None:
    """The server ends each connection before it answers: a second request would be a second generation."""
    clients = [client for client in SCRIPTED if client.package != "sagemaker-core"]  # it has no option for it
    sent = [
        (client.path.stem, call)
        for client in clients
        for call in document.calls(client)
        if not any(gap.call == call and gap.raises == "NotImplementedError" for gap in client.gaps)
    ]
    with fault_server() as server:
        server.plans[ENDPOINT] = [reset_before_the_answer]
        for name in ("aws", "others"):
            files = [str(client.path) for client in clients if client.environment == name]
            command = [program(name, "python"), "-I", str(FOLDER / "run_calls.py"), *files]
            run(command, {**environment, "AWS_ENDPOINT_URL": server.url}, tmp_path)
        assert server.requests[ENDPOINT] == len(sent), sent


def run_shell(
    client: Client, environment: dict[str, str], cwd: Path
) -> dict[str, subprocess.CompletedProcess[str]]:
    """Run each call of a client's script with its own environment's programs."""
    path = f"{Path(program(client.environment, 'python')).parent}:{environment['PATH']}"
    parts = re.split(r"^# (\w+)\n", client.path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {
        name: subprocess.run(
            ["/bin/bash", "-ec", lines],
            env={**environment, "PATH": path},
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
        )
        for name, lines in zip(parts[::2], parts[1::2], strict=True)
    }


def test_guidellm(environment: dict[str, str], texts: dict[str, str], tmp_path: Path) -> None:
    (client,) = (client for client in CLIENTS if client.package == "guidellm")
    result = run_shell(client, environment, tmp_path)["chat_stream"]
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    requests = report["benchmarks"][0]["requests"]
    assert requests["errored"] == []
    assert [request["output"] for request in requests["successful"]] == [texts["chat"]] * 3
    assert requests["successful"][0]["output_tokens"] == CHAT["max_tokens"]


def test_aws_command_line(environment: dict[str, str], texts: dict[str, str], tmp_path: Path) -> None:
    (client,) = (client for client in CLIENTS if client.package == "awscli")
    results = run_shell(client, environment, tmp_path)
    answer = json.loads((tmp_path / "answer.json").read_text(encoding="utf-8"))
    assert answer[0]["generated_text"] == texts["text"]
    assert json.loads(results["whole"].stdout)["InvokedProductionVariant"] == "main"
    assert REFUSAL in results["refused"].stderr
    (gap,) = client.gaps
    assert gap.raises in results[gap.call].stderr

    def aws(*arguments: str) -> Any:
        output = run([program("aws", "aws"), *arguments, "--output", "json"], environment, tmp_path)
        return json.loads(output) if output.startswith("{") else None

    described = aws("sagemaker", "describe-endpoint", "--endpoint-name", ENDPOINT)
    assert described["EndpointStatus"] == "InService"
    assert described["DataCaptureConfig"]["CurrentSamplingPercentage"] == 5
    assert aws("sts", "get-caller-identity")["Account"] == "123456789012"
    aws("s3", "mb", "s3://by-the-command-line")
    aws("s3", "cp", "request.json", "s3://by-the-command-line/a/request.json")
    aws("s3", "cp", "s3://by-the-command-line/a/request.json", "back.json")
    assert (tmp_path / "back.json").read_bytes() == (tmp_path / "request.json").read_bytes()
    aws("s3", "rb", "--force", "s3://by-the-command-line")
    assert isinstance(aws("cloudformation", "describe-stacks")["Stacks"], list)


def test_resources_of_the_sagemaker_sdk(environment: dict[str, str], tmp_path: Path) -> None:
    code = f"""
import json
from sagemaker.core.resources import Endpoint
endpoint = Endpoint.get(endpoint_name="{ENDPOINT}")
variants = [variant.current_instance_count for variant in endpoint.production_variants]
print(json.dumps([endpoint.endpoint_status, variants, [each.endpoint_name for each in Endpoint.get_all()]]))
"""
    output = run([program("aws", "python"), "-I", "-c", code], environment, tmp_path)
    assert json.loads(output.splitlines()[-1]) == ["InService", [1], [ENDPOINT]]
