"""Credentials that expire in the middle of a run, by botocore's own credential_process and SSO."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from inf2kit import AsyncEndpoint, Endpoint, EndpointAccessError, EndpointError, TextResult
from inf2kit.cli.commands import main
from tests.helpers.recording_aws import RecordingAws, recording_aws

ANSWER = [
    {
        "generated_text": " the sea",
        "details": {"finish_reason": "length", "input_length": 1, "generated_tokens": 2, "seed": None},
    }
]
#: botocore renews credentials that are valid for less than ten minutes before it signs with them.
SHORT_S = 500.0
SSO = """
[profile before-sessions]
sso_start_url = https://example.awsapps.com/start
sso_region = eu-west-1
sso_account_id = 123456789012
sso_role_name = dev
[profile with-session]
sso_session = mine
sso_account_id = 123456789012
sso_role_name = dev
[profile never-logged-in]
sso_session = other
sso_account_id = 123456789012
sso_role_name = dev
[sso-session mine]
sso_start_url = https://example.awsapps.com/start
sso_region = eu-west-1
[sso-session other]
sso_start_url = https://example.awsapps.com/start
sso_region = eu-west-1
"""


class Vault:
    """What the credential_process hands out: a file that it prints."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "credentials.json"
        self.command = f"cat {self.file}"

    def hand_out(self, key: str, valid_s: float) -> None:
        expiration = dt.datetime.now(dt.timezone.utc) + dt.timedelta(seconds=valid_s)
        secrets = {"AccessKeyId": key, "SecretAccessKey": "secret", "SessionToken": "token"}
        self.write(json.dumps({"Version": 1, **secrets, "Expiration": expiration.isoformat()}))

    def write(self, text: str) -> None:
        """At once: the process may be reading."""
        scratch = self.file.with_suffix(".new")
        scratch.write_text(text, encoding="utf-8")
        scratch.replace(self.file)


@pytest.fixture
def aws(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RecordingAws]:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with recording_aws() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        server.answers["sagemaker"] = ANSWER
        yield server


@pytest.fixture
def vault(aws: RecordingAws, isolated: Path, monkeypatch: pytest.MonkeyPatch) -> Vault:
    """The first credentials are about to expire."""
    vault = Vault(isolated)
    (isolated / "config").write_text(f"[default]\ncredential_process = {vault.command}\n", encoding="utf-8")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(isolated / "config"))
    vault.hand_out("FIRST", SHORT_S)
    return vault


def outcomes_by_threads(prompts: Iterator[str]) -> list[Any]:
    return list(Endpoint("e").generate_many(prompts, concurrency=4))


def outcomes_by_asyncio(prompts: Iterator[str]) -> list[Any]:
    async def collect() -> list[Any]:
        async with AsyncEndpoint("e") as endpoint:
            return [outcome async for outcome in endpoint.generate_many(prompts, concurrency=4)]

    return asyncio.run(collect())


def outcomes_one_by_one(prompts: Iterator[str]) -> list[Any]:
    endpoint = Endpoint("e")

    def call(prompt: str) -> Any:
        try:
            return endpoint.generate(prompt)
        except EndpointError as error:
            return error

    return [call(prompt) for prompt in prompts]


#: So many calls, and the first of those after which the credentials are others.
COUNT, SWITCH = 60, 40
RUNS = [outcomes_one_by_one, outcomes_by_threads, outcomes_by_asyncio]


def prompts(then: Callable[[], None]) -> Iterator[str]:
    """Numbers; something happens before one of them is sent."""
    for number in range(COUNT):
        if number == SWITCH:
            then()
        yield str(number)


@pytest.mark.parametrize("run", RUNS)
def test_every_call_after_the_expiry_is_signed_with_the_new_credentials(
    aws: RecordingAws, vault: Vault, run: Callable[[Iterator[str]], list[Any]]
) -> None:
    outcomes = run(prompts(lambda: vault.hand_out("SECOND", 3600)))
    assert [type(outcome) for outcome in outcomes] == [TextResult] * COUNT
    keys = {int(json.loads(call.body)["inputs"]): call.access_key for call in aws.calls}
    assert {keys[number] for number in range(SWITCH, COUNT)} == {"SECOND"}
    assert keys[0] == "FIRST"
    assert len(aws.calls) == COUNT


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "No such file"),
        ("hello", "a credential_process printed no JSON"),
        ('{"Version": 1}', "Missing required key in response"),
    ],
)
@pytest.mark.parametrize("run", RUNS)
def test_a_process_that_fails_in_the_middle_fails_the_calls_with_a_sentence(
    aws: RecordingAws,
    vault: Vault,
    run: Callable[[Iterator[str]], list[Any]],
    answer: str | None,
    reason: str,
) -> None:
    outcomes = run(prompts(lambda: vault.file.unlink() if answer is None else vault.write(answer)))
    assert len(outcomes) == COUNT
    for outcome in outcomes[SWITCH:]:
        assert isinstance(outcome, EndpointAccessError)
        assert str(outcome).startswith("calling the endpoint 'e' failed: ")
        assert reason in str(outcome)
        assert str(outcome).endswith("; log in again, or correct the credentials of your AWS profile")
    assert isinstance(outcomes[0], TextResult)
    assert all(int(json.loads(call.body)["inputs"]) < SWITCH for call in aws.calls)


def test_credentials_that_have_expired_when_they_come_are_a_sentence(vault: Vault) -> None:
    vault.hand_out("OLD", -60)
    with pytest.raises(
        EndpointAccessError, match="the refreshed credentials are still expired; log in again"
    ):
        Endpoint("e").generate("x")


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("/nowhere/program", "No such file or directory: '/nowhere/program'"),
        ("echo hello", "a credential_process printed no JSON"),
        ("false", "Error when retrieving credentials from custom-process"),
    ],
)
def test_a_process_that_never_works_is_a_sentence(
    vault: Vault, isolated: Path, command: str, reason: str
) -> None:
    (isolated / "config").write_text(f"[default]\ncredential_process = {command}\n", encoding="utf-8")
    with pytest.raises(EndpointAccessError, match=reason):
        Endpoint("e")
    result = CliRunner().invoke(main, ["packages", "list", "s3://bucket/models"])
    assert result.exit_code == 1
    assert reason in result.output
    assert "log in again, or correct the credentials" in result.output


@pytest.mark.parametrize(
    ("profile", "reason"),
    [
        ("before-sessions", "the SSO login has expired"),
        ("with-session", "Token has expired and refresh failed"),
        ("never-logged-in", "Token for other does not exist"),
    ],
)
def test_an_sso_login_that_is_over_is_one_sentence(
    aws: RecordingAws, isolated: Path, monkeypatch: pytest.MonkeyPatch, profile: str, reason: str
) -> None:
    """The tokens lie where the AWS CLI puts them; nothing is asked of AWS."""
    (isolated / "config").write_text(SSO, encoding="utf-8")
    cache = isolated / ".aws" / "sso" / "cache"
    cache.mkdir(parents=True)
    token = {"startUrl": "https://example.awsapps.com/start", "region": "eu-west-1", "accessToken": "x"}
    for key in (token["startUrl"], "mine"):
        name = hashlib.sha1(key.encode(), usedforsecurity=False).hexdigest()
        (cache / f"{name}.json").write_text(json.dumps({**token, "expiresAt": "2020-01-01T00:00:00Z"}))
    # botocore reads HOME when it is imported.
    for provider in ("credentials.SSOProvider", "tokens.SSOTokenProvider"):
        monkeypatch.setattr(f"botocore.{provider}._SSO_TOKEN_CACHE_DIR", str(cache))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(isolated / "config"))
    sentence = f"{reason}; log in again with 'aws sso login'"

    async def call() -> None:
        async with AsyncEndpoint("e", profile_name=profile) as endpoint:
            await endpoint.generate("x")

    with pytest.raises(EndpointAccessError) as caught:
        Endpoint("e", profile_name=profile).generate("x")
    assert str(caught.value).startswith("calling the endpoint 'e' failed: ")
    assert str(caught.value).endswith(sentence)
    with pytest.raises(EndpointAccessError, match=sentence):
        asyncio.run(call())
    result = CliRunner().invoke(main, ["generate", "e", "x", "--profile", profile])
    assert (result.exit_code, sentence in result.output) == (1, True)
    assert aws.calls == []
