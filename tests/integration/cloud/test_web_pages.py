"""A web page in the user's browser, and another user of the machine, can do nothing to the rehearsal.

All requests go over real sockets, with exactly the headers that the tests write.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import stat
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from inf2kit.rehearsal import folders
from inf2kit.rehearsal.cloud.settings import CloudSettings
from inf2kit.rehearsal.local.asgi_server import LoopbackServer
from inf2kit.rehearsal.runtime.server import SageMakerRuntime
from tests.helpers.cloud import boto3_client
from tests.helpers.servers import PATIENCE_S, free_port, wait_until

_KEY_OF_NOBODY = "AKIAIOSFODNN7EXAMPLE"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


def ask(port: int, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Answer:
    """Send one request with exactly these headers; Host defaults to the server's."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in {"Host": f"127.0.0.1:{port}", **headers}.items():
            connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        response_headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, response_headers, response.read())
    finally:
        connection.close()


def signed(key: str, service: str) -> dict[str, str]:
    scope = f"{key}/20260101/us-east-1/{service}/aws4_request"
    return {"Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"}


#: Headers that a browser adds to the request of a page, or sends to a name that resolves to this machine.
OF_PAGES = {
    "a foreign name": {"Host": "evil.example"},
    "a foreign name, with the port": {"Host": "evil.example:{port}"},
    "an address of the network": {"Host": "192.168.0.7:{port}"},
    "the right host with another port": {"Host": "127.0.0.1:1"},
    "the right host without a port": {"Host": "127.0.0.1"},
    "no host": {"Host": ""},
    "a host within a name": {"Host": "127.0.0.1.evil.example:{port}"},
    "a page of another site": {"Origin": "https://evil.example"},
    "a page in a file or a sandbox": {"Origin": "null"},
    "a page of this very server": {"Origin": "http://127.0.0.1:{port}"},
    "a form or an image of another site": {"Sec-Fetch-Site": "cross-site"},
    "a page of another port of this machine": {"Sec-Fetch-Site": "same-site"},
}
PREFLIGHT = {
    "Origin": "https://evil.example",
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "x-amz-target,content-type,authorization",
    "Access-Control-Request-Private-Network": "true",
}
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_JSON = {"Content-Type": "application/x-amz-json-1.1"}
#: Requests that change or read something: service, method, path, headers and body.
REQUESTS: dict[str, tuple[str, str, str, dict[str, str], bytes]] = {
    "a bucket": ("s3", "PUT", "/created-by-a-page", {}, b""),
    "a stack": ("cloudformation", "POST", "/", _FORM, b"Action=ListStacks&Version=2010-05-15"),
    "a list": ("sagemaker", "POST", "/", {**_JSON, "X-Amz-Target": "SageMaker.ListModels"}, b"{}"),
    "a call": ("sagemaker", "POST", "/endpoints/e/invocations", {"Content-Type": "application/json"}, b"{}"),
}


@pytest.mark.parametrize("row", OF_PAGES)
@pytest.mark.parametrize("request_", REQUESTS)
def test_the_cloud_does_nothing_for_a_page(cloud: CloudSettings, row: str, request_: str) -> None:
    """Not even for a page that knows the access key."""
    service, method, path, more, body = REQUESTS[request_]
    of_page = {name: value.format(port=cloud.port) for name, value in OF_PAGES[row].items()}
    own = signed(key_of(cloud), service)
    assert ask(cloud.port, method, path, {**own, **more, **of_page}, body).status == 403
    buckets = boto3_client(cloud, "s3").list_buckets()["Buckets"]
    assert "created-by-a-page" not in [bucket["Name"] for bucket in buckets]


@pytest.fixture
def runtime() -> Iterator[int]:
    """The runtime of a local endpoint, as its host starts it; its port."""
    port, ending = free_port(), threading.Event()
    server = LoopbackServer(SageMakerRuntime(lambda _name, _variant: None), port)

    async def serve() -> None:
        serving = asyncio.ensure_future(server.serve())
        while not ending.is_set() and not serving.done():
            await asyncio.sleep(0.02)
        server.should_exit = server.force_exit = True
        await serving

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    wait_until(lambda: server.started, "the runtime listens")
    yield port
    ending.set()
    thread.join()


@pytest.mark.parametrize("row", OF_PAGES)
def test_the_runtime_does_nothing_for_a_page(runtime: int, row: str) -> None:
    of_page = {name: value.format(port=runtime) for name, value in OF_PAGES[row].items()}
    path = "/endpoints/e/invocations"
    allowed = ask(runtime, "POST", path, {}, b"{}")
    assert (allowed.status, b"not found" in allowed.body) == (400, True), "its own refusal"
    refused = ask(runtime, "POST", path, of_page, b"{}")
    assert refused.status == 403
    assert b"not found" not in refused.body, "the runtime itself was never asked"


@pytest.mark.parametrize("path", ["/", "/a-bucket", "/endpoints/e/invocations", "/moto-api/reset"])
def test_a_preflight_allows_nothing(cloud: CloudSettings, runtime: int, path: str) -> None:
    for port in (cloud.port, runtime):
        answer = ask(port, "OPTIONS", path, PREFLIGHT)
        assert answer.status == 403
        assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_no_answer_can_be_read_by_a_page(cloud: CloudSettings) -> None:
    for service, method, path, more, body in REQUESTS.values():
        if method == "POST":
            answer = ask(cloud.port, method, path, {**signed(key_of(cloud), service), **more}, body)
            assert not [name for name in answer.headers if name.startswith("access-control-")], path


@pytest.mark.parametrize("path", ["/moto-api", "/moto-api/data.json", "//moto-api/data.json", "/moto%2Dapi/"])
def test_motos_own_api_is_closed(cloud: CloudSettings, path: str) -> None:
    assert ask(cloud.port, "GET", path, {}).status == 404
    assert ask(cloud.port, "GET", path, signed(key_of(cloud), "s3")).status == 404


def test_a_form_does_not_reset_motos_state(cloud: CloudSettings) -> None:
    assert ask(cloud.port, "POST", "/moto-api/reset", _FORM).status == 404
    assert boto3_client(cloud, "s3").list_buckets()["Buckets"]


#: Requests of a caller who cannot read the file with the key.
STRANGERS: dict[str, tuple[str, dict[str, str]]] = {
    "nothing": ("", {}),
    "a key of his own": ("", signed(_KEY_OF_NOBODY, "s3")),
    "an empty key": ("", signed("", "s3")),
    "a key without a signature": ("", {"Authorization": "AWS4-HMAC-SHA256 Credential={key}/20260101/u/s3/a"}),
    "the old signature": ("", {"Authorization": "AWS {key}:signature"}),
    "the old signature in the address": ("?AWSAccessKeyId={key}&Signature=0&Expires=9999999999", {}),
    "an address with a key of his own": (
        f"?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={_KEY_OF_NOBODY}%2F20260101%2Fus-east-1%2Fs3"
        "%2Faws4_request&X-Amz-Date=20260101T000000Z&X-Amz-Expires=60&X-Amz-Signature=0",
        {},
    ),
    "an address without a signature": ("?X-Amz-Credential={key}%2F20260101%2Fus-east-1%2Fs3%2F", {}),
    "a bearer's token": ("", {"Authorization": "Bearer {key}"}),
}


@pytest.mark.parametrize("who", STRANGERS)
def test_nobody_reads_an_object_without_the_key(cloud: CloudSettings, who: str) -> None:
    boto3_client(cloud, "s3").put_object(Bucket="models", Key="private", Body=b"secret")
    query, headers = STRANGERS[who]
    filled = {name: value.replace("{key}", key_of(cloud)) for name, value in headers.items()}
    answer = ask(cloud.port, "GET", "/models/private" + query.replace("{key}", key_of(cloud)), filled)
    assert answer.status == 403
    assert b"secret" not in answer.body
    assert b"<Code>" in answer.body, "in S3's own form"


def test_a_form_of_a_page_puts_no_object(cloud: CloudSettings) -> None:
    fields = (("key", b"k"), ('file"; filename="f', b"x"))
    parts = [
        b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.encode(), value)
        for name, value in fields
    ]
    body = b"".join(parts) + b"--b--\r\n"
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    assert ask(cloud.port, "POST", "/models", kind, body).status == 403


@pytest.mark.parametrize(
    ("service", "operation", "code"),
    [
        ("s3", "list_buckets", "InvalidAccessKeyId"),
        ("cloudformation", "list_stacks", "InvalidClientTokenId"),
        ("sts", "get_caller_identity", "InvalidClientTokenId"),
        ("sagemaker", "list_models", "UnrecognizedClientException"),
        ("ssm", "describe_parameters", "UnrecognizedClientException"),
        ("cloudwatch", "describe_alarms", "UnrecognizedClientException"),
    ],
)
def test_a_shell_of_an_earlier_cloud_gets_advice(
    cloud: CloudSettings, service: str, operation: str, code: str
) -> None:
    session = boto3.session.Session("rehearsal", "rehearsal", region_name=cloud.region)
    client = session.client(service, endpoint_url=cloud.url)
    with pytest.raises(ClientError, match="inf2kit cloud env") as refused:
        getattr(client, operation)()
    assert refused.value.response["Error"]["Code"] == code
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_a_call_of_a_stranger_is_refused_as_the_runtime_does(cloud: CloudSettings) -> None:
    session = boto3.session.Session("rehearsal", "rehearsal", region_name=cloud.region)
    with pytest.raises(ClientError, match=r"UnrecognizedClientException.*inf2kit cloud env"):
        session.client("sagemaker-runtime", endpoint_url=cloud.url).invoke_endpoint(
            EndpointName="e", Body=b""
        )


def test_presigned_addresses_and_assumed_roles_are_let_in(cloud: CloudSettings) -> None:
    boto3_client(cloud, "s3").put_object(Bucket="models", Key="shared", Body=b"shared")
    s3 = boto3.session.Session(key_of(cloud), "rehearsal", region_name=cloud.region).client(
        "s3", endpoint_url=cloud.url, config=Config(signature_version="s3v4")
    )
    address = s3.generate_presigned_url("get_object", {"Bucket": "models", "Key": "shared"})
    with urllib.request.urlopen(address) as response:  # noqa: S310
        assert response.read() == b"shared"
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(address.replace(key_of(cloud), _KEY_OF_NOBODY))  # noqa: S310
    role = boto3_client(cloud, "sts").assume_role(
        RoleArn="arn:aws:iam::123456789012:role/r", RoleSessionName="mine"
    )
    credentials = role["Credentials"]
    assumed = boto3.session.Session(
        credentials["AccessKeyId"], credentials["SecretAccessKey"], credentials["SessionToken"], cloud.region
    )
    assert assumed.client("s3", endpoint_url=cloud.url).list_buckets()["Buckets"]


def test_another_user_of_the_machine_cannot_read_the_key(cloud: CloudSettings, home: Path) -> None:
    for folder in (home, cloud.folder, cloud.run_dir, *cloud.folder.iterdir()):
        mode = stat.S_IMODE(folder.stat().st_mode)
        wanted = 0o700 if folder in (home, cloud.folder, cloud.run_dir) else None
        assert wanted in (None, mode), (folder, oct(mode))
    for name in ("cloud.json", "state.json"):
        assert stat.S_IMODE((cloud.folder / name).stat().st_mode) == 0o600, name


def test_an_open_home_becomes_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INF2KIT_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir(mode=0o755)
    with folders.locked("anything"):
        pass
    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700


def key_of(cloud: CloudSettings) -> str:
    settings: dict[str, Any] = json.loads((cloud.folder / "cloud.json").read_text(encoding="utf-8"))
    return str(settings.get("access_key", "rehearsal"))
