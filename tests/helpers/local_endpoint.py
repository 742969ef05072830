"""Call a local endpoint as users do, and look at its metrics and processes."""

from __future__ import annotations

import http.client
import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import psutil
from botocore.config import Config

from inf2kit.rehearsal.container import processes
from inf2kit.rehearsal.local.state import EndpointState
from inf2kit.serving.engine.metrics import parse_samples
from tests.helpers.servers import PATIENCE_S


class EndpointCaller:
    """boto3 against a local endpoint, exactly as a user has it."""

    def __init__(self, endpoint: EndpointState) -> None:
        self.name = endpoint.name
        self.client = boto3.client(
            "sagemaker-runtime",
            endpoint_url=endpoint.url,
            region_name="us-east-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",  # noqa: S106
            config=Config(retries={"total_max_attempts": 1}, read_timeout=70, max_pool_connections=64),
        )

    def invoke(self, body: object, content_type: str = "application/json") -> Any:
        raw = body if isinstance(body, bytes | str) else json.dumps(body)
        response = self.client.invoke_endpoint(EndpointName=self.name, ContentType=content_type, Body=raw)
        return json.loads(response["Body"].read())

    def generate(self, inputs: object, **parameters: object) -> Any:
        return self.invoke({"inputs": inputs, "parameters": parameters})

    def parts(self, body: dict[str, Any]) -> Iterator[bytes]:
        """The payload parts of a streamed answer, as they arrive."""
        response = self.client.invoke_endpoint_with_response_stream(
            EndpointName=self.name, ContentType="application/json", Body=json.dumps(body)
        )
        for part in response["Body"]:
            yield part["PayloadPart"]["Bytes"]

    def events(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """The decoded events of a stream, without the closing [DONE] of a chat."""
        records = b"".join(self.parts(body)).split(b"\n\n")
        assert records[-1] == b"", "a streamed body ends with a newline"
        data = [record.removeprefix(b"data: ") for record in records[:-1]]
        return [json.loads(datum) for datum in data if datum != b"[DONE]"]

    def stream(self, prompt: str, **parameters: object) -> list[dict[str, Any]]:
        return self.events({"inputs": prompt, "parameters": parameters, "stream": True})


def read_metrics(endpoint: EndpointState) -> dict[str, float]:
    """Return the metrics of gateway and engine by name, summed over their labels."""
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.gateway_port, timeout=PATIENCE_S)
    try:
        connection.request("GET", "/metrics")
        return parse_samples(connection.getresponse().read().decode())
    finally:
        connection.close()


def find_processes(endpoint: EndpointState, word: str) -> list[psutil.Process]:
    """Return the endpoint's processes with a word in their command line."""
    matches = []
    for process in processes.list_processes(Path(endpoint.run_dir)):
        try:
            if any(word in argument for argument in process.cmdline()):
                matches.append(process)
        except psutil.Error:
            continue
    return matches


def find_model_server(endpoint: EndpointState) -> psutil.Process:
    """Return the endpoint's model server, which is Java's."""
    (java,) = [process for process in find_processes(endpoint, "ModelServer") if "java" in process.name()]
    return java


@contextmanager
def stopped(process: psutil.Process) -> Iterator[None]:
    """Let a process do nothing for a while, as one that hangs."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        if process.is_running():
            process.send_signal(signal.SIGCONT)
