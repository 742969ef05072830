"""Errors of an endpoint, as the client raises them."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from inf2kit import Endpoint
from inf2kit.errors import EndpointError


class Full(BaseHTTPRequestHandler):
    """Answers as SageMaker does when the container is full."""

    def do_POST(self) -> None:
        error = {"error": "the queue is full", "error_type": "overloaded", "retry_after_s": 7}
        body = {"Message": "m", "OriginalStatusCode": 429, "OriginalMessage": json.dumps(error)}
        content = json.dumps(body).encode()
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(424)
        self.send_header("x-amzn-errortype", "ModelError")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the library
        """Nothing is logged."""


def test_an_error_says_when_another_try_makes_sense(isolated: Path) -> None:
    server = HTTPServer(("127.0.0.1", 0), Full)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        endpoint = Endpoint("e", endpoint_url=f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(EndpointError, match="the queue is full") as refused:
            endpoint.with_options(max_retries=0).generate("x")
    finally:
        server.shutdown()
        server.server_close()
    error = refused.value
    assert (error.status, error.code, error.retry_after_s) == (429, "overloaded", 7)


def test_missing_credentials_are_a_sentence(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(EndpointError, match="calling the endpoint 'e' needs AWS credentials"):
        Endpoint("e").generate("x")


def test_a_missing_region_is_a_sentence(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(
        EndpointError, match=r"no local endpoint 'e' is running; start one with .* AWS_REGION"
    ):
        Endpoint("e")
