"""SageMaker's route for OpenAI's clients, before a double of the container."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from inf2kit import aws
from inf2kit.client.bearer import sign_token
from inf2kit.client.local import REGION
from inf2kit.rehearsal.runtime.messages import MAX_BODY
from tests.helpers.runtime import serve_runtime
from tests.helpers.servers import PATIENCE_S, wait_until

EVENTS = [b'data: {"n": 1}\n\n', "data: 你好\n\n".encode(), b"data: [DONE]\n\n"]
BODY = b'{"error": {"message": "too \\"hot\\"", "code": "invalid_parameter"}}\n'


class Container:
    """A container that does what the body of a call asks for.

    Attributes:
        headers: The headers of the last call.
        path: Its path.
        read: Set by a test when it has read the first event of a stream.
        waits: Whether a call waits for its caller to leave.
        left: Whether one has left.
    """

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.path = ""
        self.read = threading.Event()
        self.waits = self.left = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.path = scope["path"]
        self.headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        wish = json.loads((await receive())["body"])["wish"]
        if wish == "never":
            await self._wait_for_the_end(receive)
            return
        is_stream = wish in ("stream", "break", "for ever")
        kind = b"text/event-stream" if is_stream else b"application/json"
        status = wish if isinstance(wish, int) else 200
        headers = [(b"content-type", kind), (b"retry-after", b"1"), (b"access-control-allow-origin", b"*")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if not is_stream:
            await send({"type": "http.response.body", "body": BODY})
            return
        await send({"type": "http.response.body", "body": EVENTS[0], "more_body": True})
        if wish == "break":
            raise RuntimeError("breaks off")
        if wish == "for ever":
            await self._wait_for_the_end(receive)
            return
        await asyncio.to_thread(self.read.wait)
        for event in EVENTS[1:]:
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _wait_for_the_end(self, receive: Any) -> None:
        self.waits = True
        while (await receive())["type"] != "http.disconnect":
            pass
        self.waits, self.left = False, True


@pytest.fixture(scope="module")
def container() -> Container:
    """The double of the container."""
    return Container()


@pytest.fixture(scope="module")
def url(container: Container) -> Iterator[str]:
    """The address of the endpoints."""
    with serve_runtime(container) as port:
        yield f"http://127.0.0.1:{port}/endpoints"


def token() -> dict[str, str]:
    """The header of a caller who may call local endpoints."""
    credentials = aws.local_session().get_credentials().get_frozen_credentials()
    return {"authorization": f"Bearer {sign_token(credentials, REGION, 60)}"}


def post(url: str, wish: object = "whole", name: str = "up", **more: Any) -> httpx.Response:
    """Call an endpoint by OpenAI's route."""
    arguments = {"headers": token(), "json": {"wish": wish}, **more}
    return httpx.post(
        f"{url}/{name}/openai/v1/chat/completions", trust_env=False, timeout=PATIENCE_S, **arguments
    )


def test_an_answer_passes_as_it_is(url: str, container: Container) -> None:
    response = post(url, headers={**token(), "x-stainless-lang": "python", "accept": "application/json"})
    assert (response.status_code, response.content) == (200, BODY)
    assert container.path == "/v1/chat/completions"
    assert not {"authorization", "x-stainless-lang"} & set(container.headers), "the container gets no token"
    assert "access-control-allow-origin" not in response.headers
    assert response.headers["x-amzn-requestid"]


def test_a_streams_events_pass_as_they_come(url: str, container: Container) -> None:
    container.read.clear()
    client = httpx.Client(trust_env=False, timeout=PATIENCE_S)
    path = f"{url}/up/openai/v1/chat/completions"
    with client.stream("POST", path, headers=token(), json={"wish": "stream"}) as response:
        assert response.headers["content-type"] == "text/event-stream"
        parts = response.iter_raw()
        first = next(parts)
        assert first == EVENTS[0], "the container has not sent the next one yet"
        container.read.set()
        assert first + b"".join(parts) == b"".join(EVENTS)


def test_a_stream_that_breaks_off_breaks_off(url: str) -> None:
    """No end is made up: a client must not take it for a whole text."""
    with pytest.raises(httpx.RemoteProtocolError):
        post(url, "break")


@pytest.mark.parametrize("wish", ["for ever", "never"])
def test_a_caller_who_leaves_ends_the_containers_call(url: str, container: Container, wish: str) -> None:
    container.left = False
    address = httpx.URL(url)
    connection = http.client.HTTPConnection(address.host, address.port)
    path = "/endpoints/up/openai/v1/chat/completions"
    connection.request("POST", path, json.dumps({"wish": wish}), token())
    wait_until(lambda: container.waits, "the call has reached the container")
    connection.close()
    wait_until(lambda: container.left, "the container's connection is closed")


@pytest.mark.parametrize(
    ("status", "answered", "side"),
    [
        (422, 400, "client"),
        (429, 400, "client"),
        (413, 400, "client"),
        (500, 424, "server"),
        (503, 424, "server"),
    ],
)
def test_a_containers_error_is_quoted(url: str, status: int, answered: int, side: str) -> None:
    response = post(url, status)
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["code"]) == (answered, "server_error", "model_error")
    assert set(error) == {"message", "type", "code"}
    quoted = BODY.decode()
    assert error["message"].startswith(
        f'Received {side} error ({status}) from AllTraffic with message "{quoted}". See https://'
    )
    assert error["message"].endswith("in account 000000000000 for more information.")
    assert "retry-after" not in response.headers, "AWS does not pass it on"


def test_a_call_ends_by_awss_limit(container: Container) -> None:
    with serve_runtime(container, call_limit_s=0.5) as port:
        response = post(f"http://127.0.0.1:{port}/endpoints", "never")
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (424, "model_error")
    assert "timed out" in error["message"]


@pytest.mark.parametrize(
    ("name", "more", "status", "message"),
    [
        ("nobody", {}, 400, "Endpoint nobody of account 000000000000 not found."),
        ("creating", {}, 400, "Endpoint creating of account 000000000000 is in status Creating"),
        ("gone", {}, 503, "the container did not answer"),
        ("up/inference-components/one", {}, 400, "Endpoint up has no inference components."),
        ("up", {"x-amzn-sagemaker-inference-component": "one"}, 400, "has no inference components."),
        ("up", {"authorization": "Bearer sk-of-openai"}, 403, "does not begin with sagemaker-api-key-"),
        ("up", {"authorization": ""}, 403, "bearer tokens alone"),
        ("nobody", {"authorization": "Bearer x"}, 403, "The request is not authorized"),
    ],
)
def test_a_refusal_has_openais_form(
    url: str, name: str, more: dict[str, str], status: int, message: str
) -> None:
    response = post(url, name=name, headers={**token(), **more})
    error = response.json()["error"]
    assert response.status_code == status
    assert message in error["message"]
    assert set(error) == {"message", "type", "code"}
    assert response.headers["x-amzn-requestid"]


def test_a_signature_is_no_token(url: str) -> None:
    scope = "local/20260101/us-east-1/sagemaker/aws4_request"
    signed = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"
    for headers in ({"authorization": signed}, {}):
        response = post(url, headers=headers)
        assert (response.status_code, response.json()["error"]["code"]) == (403, "access_denied")
        assert "Endpoint(NAME).openai()" in response.json()["error"]["message"]


def test_a_token_is_for_this_route_alone(url: str) -> None:
    """The routes of boto3 check no signature in a rehearsal, so that they take anything: also a token."""
    response = httpx.post(f"{url}/up/invocations", headers=token(), json={"wish": "whole"}, trust_env=False)
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "v1/chat/completions"),
        ("POST", "v1/completions"),
        ("GET", "v1/models"),
        ("POST", "v1/embeddings"),
        ("POST", "v1/chat/completions/"),
        ("POST", "chat/completions"),
        ("POST", ""),
    ],
)
def test_there_is_no_other_route(url: str, method: str, path: str) -> None:
    response = httpx.request(
        method, f"{url}/up/openai/{path}", headers=token(), content=b"{}", trust_env=False
    )
    assert (response.status_code, response.json()["error"]["code"]) == (404, "unknown_operation")


def test_a_body_that_is_too_large_is_refused_when_it_was_read(url: str) -> None:
    response = post(url, "x" * (MAX_BODY + 1))
    assert (response.status_code, response.json()["error"]["code"]) == (413, "request_too_large")
    assert post(url, headers={"authorization": "Bearer x"}).status_code == 403
