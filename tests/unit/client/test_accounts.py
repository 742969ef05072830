"""Endpoints of other accounts: a profile, session or client of one's own makes every call."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest

from inf2kit import AsyncEndpoint, Endpoint
from inf2kit.errors import EndpointAccessError, EndpointConnectionError, EndpointError
from tests.helpers.recording_aws import RecordingAws, recording_aws

PRESET = "llama2-7b-latency"
CONFIG = """
[profile other]
region = us-west-2
aws_access_key_id = OTHER
aws_secret_access_key = secret
"""
ANSWER = [
    {
        "generated_text": " the sea",
        "details": {"finish_reason": "length", "input_length": 1, "generated_tokens": 2, "seed": None},
    }
]


@pytest.fixture
def aws(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RecordingAws]:
    """A recording AWS with an endpoint, one's own credentials in the environment, and another profile."""
    (isolated / "config").write_text(CONFIG, encoding="utf-8")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(isolated / "config"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "OWN")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with recording_aws() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        server.answers["ssm"] = {"Parameter": {"Value": json.dumps({"endpoint_name": "theirs"})}}
        server.answers["sagemaker"] = ANSWER
        yield server


def callers(aws: RecordingAws) -> set[tuple[str, str, str]]:
    return {(call.service, call.access_key, call.region) for call in aws.calls}


def test_without_any_the_environments_own_account_is_called(aws: RecordingAws) -> None:
    assert Endpoint.from_preset(PRESET).generate("I like").text == " the sea"
    assert callers(aws) == {("ssm", "OWN", "eu-west-1"), ("sagemaker", "OWN", "eu-west-1")}


def other_session() -> Any:
    return boto3.session.Session("THIRD", "secret", region_name="ap-south-1")


@pytest.mark.parametrize(
    ("arguments", "key", "region"),
    [
        ({"profile_name": "other"}, "OTHER", "eu-west-1"),
        ({"profile_name": "other", "region_name": "us-west-2"}, "OTHER", "us-west-2"),
        ({"region_name": "us-west-2"}, "OWN", "us-west-2"),
        ({"session": other_session}, "THIRD", "ap-south-1"),
        ({"session": other_session, "region_name": "us-west-2"}, "THIRD", "us-west-2"),
    ],
)
def test_profile_session_and_region_hold_for_every_call(
    aws: RecordingAws, arguments: dict[str, Any], key: str, region: str
) -> None:
    arguments = {name: value() if callable(value) else value for name, value in arguments.items()}
    endpoint = Endpoint.from_preset(PRESET, **arguments)
    assert (endpoint.name, endpoint.generate("I like").text) == ("theirs", " the sea")
    assert callers(aws) == {("ssm", key, region), ("sagemaker", key, region)}
    aws.calls.clear()
    Endpoint("theirs", **arguments).generate("I like")
    assert callers(aws) == {("sagemaker", key, region)}


async def generate(name: str, **arguments: Any) -> str:
    async with AsyncEndpoint(name, **arguments) as endpoint:
        return (await endpoint.generate("I like")).text


@pytest.mark.parametrize(
    ("arguments", "key", "region"),
    [
        ({}, "OWN", "eu-west-1"),
        ({"profile_name": "other"}, "OTHER", "eu-west-1"),
        ({"region_name": "us-west-2"}, "OWN", "us-west-2"),
        ({"session": other_session}, "THIRD", "ap-south-1"),
    ],
)
def test_asyncio_calls_the_same_account(
    aws: RecordingAws, arguments: dict[str, Any], key: str, region: str
) -> None:
    arguments = {name: value() if callable(value) else value for name, value in arguments.items()}
    assert asyncio.run(generate("theirs", **arguments)) == " the sea"
    assert callers(aws) == {("sagemaker", key, region)}

    async def from_preset() -> str:
        async with await AsyncEndpoint.from_preset(PRESET, **arguments) as endpoint:
            return (await endpoint.generate("I like")).text

    assert asyncio.run(from_preset()) == " the sea"
    assert ("ssm", key, region) in callers(aws)


def test_without_credentials_asyncio_has_a_sentence(
    aws: RecordingAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    with pytest.raises(EndpointAccessError, match="needs AWS credentials"):
        asyncio.run(generate("theirs", endpoint_url="https://aws.example"))


def call_as_role() -> None:
    Endpoint("e", profile_name="role").generate("x")


def call_as_role_by_asyncio() -> None:
    asyncio.run(generate("e", profile_name="role"))


@pytest.mark.parametrize("call", [call_as_role, call_as_role_by_asyncio])
def test_a_role_that_may_not_be_assumed_is_a_sentence(
    aws: RecordingAws, isolated: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[[], None]
) -> None:
    """The error is that of STS, not of the endpoint, which was not called."""
    role = "\n[profile role]\nrole_arn = arn:aws:iam::123456789012:role/r\nsource_profile = other\n"
    (isolated / "config").write_text(CONFIG + role, encoding="utf-8")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(EndpointAccessError, match=r"calling the endpoint 'e' failed: no \(AccessDenied\)"):
        call()
    assert {call.service for call in aws.calls} == {"sts"}


def test_a_client_of_ones_own_is_used_as_it_is(aws: RecordingAws) -> None:
    session = other_session()
    client = session.client("sagemaker-runtime", region_name="sa-east-1")
    assert Endpoint("theirs", client=client).generate("I like").text == " the sea"
    assert callers(aws) == {("sagemaker", "THIRD", "sa-east-1")}
    assert Endpoint.from_preset(PRESET, client=client, session=session).generate("I like").text == " the sea"
    assert ("ssm", "THIRD", "ap-south-1") in callers(aws)
    with pytest.raises(EndpointError, match="give its session too"):
        Endpoint.from_preset(PRESET, client=client)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"profile_name": "nobody"}, "there is no profile 'nobody'"),
        ({"region_name": "eu-west1"}, "'eu-west1' is not the name of a region; did you mean 'eu-west-1'"),
        ({"session": other_session(), "profile_name": "other"}, "a session has a profile of its own"),
        ({"client": object(), "region_name": "eu-west-1"}, "leave out endpoint_url, region_name"),
        ({"endpoint_url": "nonsense"}, "is no address such as http://127.0.0.1:8080; correct endpoint_url"),
        ({"endpoint_url": "http://[::"}, "correct endpoint_url"),
    ],
)
def test_what_cannot_be_called_is_a_sentence(
    aws: RecordingAws, arguments: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(EndpointError, match=sentence.replace("?", r"\?")):
        Endpoint("theirs", **arguments)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "-a", "x" * 64, "naïve"])
def test_a_name_that_no_endpoint_has_is_not_called(aws: RecordingAws, name: str) -> None:
    with pytest.raises(EndpointError, match="cannot be an endpoint's name"):
        Endpoint(name)


def test_a_presets_name_that_no_endpoint_has_is_told_its_endpoints(aws: RecordingAws) -> None:
    with pytest.raises(EndpointError, match="that preset's endpoint is 'tinyllama-1-1b-starter'"):
        Endpoint("tinyllama-1.1b-starter")


def test_a_parameter_of_somebody_else_is_a_sentence(aws: RecordingAws) -> None:
    for value in ("", "[]", "{}", "7"):
        aws.answers["ssm"] = {"Parameter": {"Value": value}}
        with pytest.raises(EndpointError, match=f"/inf2kit/presets/{PRESET} does not name an endpoint"):
            Endpoint.from_preset(PRESET)


class CountingSession(boto3.session.Session):
    """Notes whether two threads make clients with it at once, which boto3 does not allow."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.busy, self.clashes = threading.Lock(), 0

    def client(self, *arguments: Any, **options: Any) -> Any:
        if not self.busy.acquire(blocking=False):
            self.clashes += 1
            return super().client(*arguments, **options)
        try:
            return super().client(*arguments, **options)
        finally:
            self.busy.release()


def test_threads_may_share_a_session(aws: RecordingAws) -> None:
    session = CountingSession("THIRD", "secret", region_name="ap-south-1")
    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(lambda _: Endpoint("e", session=session).generate("x").text, range(16)))
    assert (set(texts), session.clashes) == ({" the sea"}, 0)


def test_a_local_endpoint_is_called_without_a_proxy(
    aws: RecordingAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert Endpoint("e", endpoint_url=aws.url).generate("x").text == " the sea"
    assert asyncio.run(generate("e", endpoint_url=aws.url)) == " the sea"


def test_asyncio_asks_the_proxy_of_the_environment_for_what_is_elsewhere(
    aws: RecordingAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", aws.url.removeprefix("http://"))
    monkeypatch.setenv("no_proxy", "inside.example")
    assert asyncio.run(generate("e", endpoint_url="http://aws.example")) == " the sea"
    assert len(aws.calls) == 1
    with pytest.raises(EndpointConnectionError):
        asyncio.run(generate("e", endpoint_url="http://inside.example"))
    assert len(aws.calls) == 1
