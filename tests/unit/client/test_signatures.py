"""What asyncio's transport sends is signed as botocore would sign it: nothing in between changes it."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from inf2kit import AsyncEndpoint
from tests.helpers.fault_server import answer, fault_server, read_request

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=KEY/\d{8}/us-west-2/sagemaker/aws4_request, "
    r"SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})"
)


@pytest.mark.parametrize("token", [None, "a+b/c=="])
@pytest.mark.parametrize("stream", [False, True])
def test_the_signature_is_botocores(token: str | None, stream: bool) -> None:
    seen: list[tuple[dict[str, str], bytes]] = []

    def note(connection: Any, is_stream: bool) -> None:
        seen.append(read_request())
        answer(connection, is_stream)

    async def call(url: str) -> None:
        session = boto3.session.Session("KEY", "SECRET", token, region_name="us-west-2")
        async with AsyncEndpoint("my-endpoint", endpoint_url=url, session=session) as endpoint:
            await (endpoint.stream("你好").read() if stream else endpoint.generate("你好"))

    with fault_server() as server:
        server.plans["my-endpoint"] = [note]
        asyncio.run(call(server.url))
    ((headers, body),) = seen
    match = _AUTHORIZATION.fullmatch(headers["authorization"])
    assert match
    signed = {name: headers[name] for name in match[1].split(";")}
    assert {"content-type", "host", "x-amz-date"} <= set(signed)
    assert signed.get("x-amz-security-token") == token
    route = "invocations-response-stream" if stream else "invocations"
    request = AWSRequest("POST", f"{server.url}/endpoints/my-endpoint/{route}", headers=signed, data=body)
    request.context["timestamp"] = headers["x-amz-date"]
    auth = SigV4Auth(Credentials("KEY", "SECRET", token), "sagemaker", "us-west-2")
    canonical = auth.canonical_request(request)
    assert auth.signature(auth.string_to_sign(request, canonical), request) == match[2]
    assert headers["user-agent"].startswith("inf2kit/")
