"""The tokens and addresses that OpenAI's clients get from an endpoint."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import json
import re
from pathlib import Path
from typing import Any

import boto3
import botocore.auth
import botocore.session
import pytest
from botocore.credentials import Credentials, RefreshableCredentials

from inf2kit import AsyncEndpoint, Endpoint, EndpointAccessError, EndpointError
from inf2kit.client.bearer import sign_token
from tests.helpers.recording_aws import recording_aws

#: The keys of AWS's own test suite for signatures.
KEY, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
NOON = dt.datetime(2026, 5, 21, 12, tzinfo=dt.timezone.utc)
_BEFORE = (
    "sagemaker.amazonaws.com/?Action=CallWithBearerToken&X-Amz-Algorithm=AWS4-HMAC-SHA256"
    "&X-Amz-Credential=AKIDEXAMPLE%2F20260521%2Fus-east-1%2Fsagemaker%2Faws4_request"
    "&X-Amz-Date=20260521T120000Z&X-Amz-Expires=300&X-Amz-SignedHeaders=host"
)
#: What sagemaker-core 2.27.0 makes of these keys at noon, for us-east-1 and 300 s, by the session token.
RECORDED = {
    None: f"{_BEFORE}"
    "&X-Amz-Signature=86a1497a4574a32381e77bb3e94a5a86cac46e9f029fd4098c9cb75f7ab14e25&Version=1",
    "a+b/c==": f"{_BEFORE}&X-Amz-Security-Token=a%2Bb%2Fc%3D%3D"
    "&X-Amz-Signature=f3607e678e6516ab2b74f165cfcbdae19b9a0b520910aa8cfa10706f12dd1579&Version=1",
}


def decode(token: str) -> str:
    """The address in a token."""
    assert token.startswith("sagemaker-api-key-")
    return base64.b64decode(token.removeprefix("sagemaker-api-key-"), validate=True).decode()


def key_of(token: str) -> str:
    """The access key id that signed a token."""
    match = re.search(r"X-Amz-Credential=(\w+)%2F", decode(token))
    assert match
    return match[1]


@pytest.mark.parametrize("session_token", RECORDED)
def test_a_token_is_the_sagemaker_sdks_byte_for_byte(
    session_token: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *_, **__: NOON)
    token = sign_token(Credentials(KEY, SECRET, session_token).get_frozen_credentials(), "us-east-1", 300)
    assert decode(token) == RECORDED[session_token]


@pytest.mark.parametrize(
    ("region", "url"),
    [
        ("us-east-1", "https://runtime.sagemaker.us-east-1.amazonaws.com/endpoints/llm/openai/v1"),
        ("cn-north-1", "https://runtime.sagemaker.cn-north-1.amazonaws.com.cn/endpoints/llm/openai/v1"),
    ],
)
def test_an_endpoint_on_aws_has_its_regions_address_and_its_sessions_key(
    isolated: Path, region: str, url: str
) -> None:
    session = boto3.session.Session(KEY, SECRET, region_name=region)
    arguments = Endpoint("llm", session=session).openai(lifetime_s=60)
    address = decode(arguments["api_key"]())
    assert arguments["base_url"] == url
    assert f"AKIDEXAMPLE%2F{dt.datetime.now(dt.timezone.utc):%Y%m%d}%2F{region}%2F" in address
    assert "X-Amz-Expires=60&" in address

    awaited = AsyncEndpoint("llm", session=session).openai()
    assert (awaited["base_url"], key_of(asyncio.run(awaited["api_key"]()))) == (url, KEY)


def test_credentials_that_are_renewed_sign_the_next_token(isolated: Path) -> None:
    keys = iter(("FIRST", "SECOND"))

    def renew() -> dict[str, str]:
        soon = dt.datetime.now(dt.timezone.utc) + dt.timedelta(seconds=1)
        return {
            "access_key": next(keys),
            "secret_key": "secret",
            "token": "token",
            "expiry_time": (soon if not given else soon + dt.timedelta(hours=6)).isoformat(),
        }

    given: list[str] = []
    core = botocore.session.get_session()
    core._credentials = RefreshableCredentials.create_from_metadata(renew(), renew, "test")  # type: ignore[attr-defined]
    given.append("FIRST")
    session = boto3.session.Session(botocore_session=core, region_name="us-east-1")
    make = Endpoint("llm", session=session).openai()["api_key"]
    assert key_of(make()) == "SECOND", "those that are about to expire are renewed first"
    assert key_of(make()) == "SECOND"
    awaited = AsyncEndpoint("llm", session=session).openai()["api_key"]
    assert key_of(asyncio.run(awaited())) == "SECOND"


def test_an_asynchronous_endpoint_has_no_route(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    with recording_aws() as aws:
        monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
        published = {"endpoint_name": "late", "asynchronous": True}
        aws.answers["ssm"] = {"Parameter": {"Value": json.dumps(published)}}
        with pytest.raises(EndpointError, match=r"'late' is asynchronous: call submit"):
            Endpoint.from_preset("llama2-7b-budget").openai()


def test_a_client_of_ones_own_shows_no_credentials(isolated: Path) -> None:
    client = boto3.session.Session(KEY, SECRET, region_name="us-east-1").client("sagemaker-runtime")
    with pytest.raises(EndpointError, match=r"does not tell its credentials.*session=session"):
        Endpoint("llm", client=client).openai()


@pytest.mark.parametrize("kind", [Endpoint, AsyncEndpoint])
@pytest.mark.parametrize("lifetime_s", [0, -1, 43_201, 60.5, "60", True])
def test_a_token_lasts_at_most_twelve_hours(isolated: Path, kind: Any, lifetime_s: Any) -> None:
    with pytest.raises(EndpointError, match=r"lifetime_s is .* 1 to 43200 whole seconds"):
        kind("llm", session=boto3.session.Session(KEY, SECRET)).openai(lifetime_s=lifetime_s)


def test_without_credentials_the_first_token_says_so(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    make = Endpoint("llm").openai()["api_key"]
    with pytest.raises(EndpointAccessError, match=r"calling the endpoint 'llm' needs AWS credentials"):
        make()
    with pytest.raises(EndpointAccessError, match=r"needs AWS credentials"):
        asyncio.run(AsyncEndpoint("llm").openai()["api_key"]())
