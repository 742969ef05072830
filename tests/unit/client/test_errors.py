"""Errors of an endpoint, as the client raises them."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from inf2kit import Endpoint
from inf2kit.client.errors import error_from_body
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
        with pytest.raises(EndpointError, match="the queue is full") as refused:
            Endpoint("e", endpoint_url=f"http://127.0.0.1:{server.server_port}").generate("x")
    finally:
        server.shutdown()
        server.server_close()
    error = refused.value
    assert (error.status, error.code, error.retry_after_s) == (429, "overloaded", 7)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"error": "too long", "error_type": "prompt_too_long"}, "prompt_too_long"),
        ({"error": {"message": "too long", "code": "prompt_too_long"}}, "prompt_too_long"),
        ({"error": {"message": "too long", "type": "invalid_request"}}, "invalid_request"),
        (
            {"error": {"message": "too long", "type": "invalid_request_error", "code": "x", "param": None}},
            "x",
        ),
    ],
)
def test_both_schemas_of_errors_are_read(body: dict[str, object], code: str) -> None:
    error = error_from_body("e", body, 422)
    assert str(error) == "endpoint 'e' answered: too long"
    assert (error.status, error.code, error.retry_after_s) == (422, code, None)


def test_missing_credentials_are_a_sentence(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(EndpointError, match="calling the endpoint 'e' needs AWS credentials"):
        Endpoint("e").generate("x")


def test_a_missing_region_is_a_sentence(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(
        EndpointError, match="needs a region; set AWS_REGION, give region_name, or start a local endpoint"
    ):
        Endpoint("e")
