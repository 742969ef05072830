"""SageMaker's route for OpenAI's clients in the rehearsal cloud: whose tokens are taken, what a call gets."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import httpx
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config

from inf2kit import Endpoint
from inf2kit.rehearsal.cloud.settings import CloudSettings
from tests.helpers.cloud import BIN, boto3_client, generate, shell_environment
from tests.helpers.sagemaker import ResourceMaker
from tests.helpers.servers import PATIENCE_S

#: Has the SageMaker SDK.
SDK = BIN.parent / "clients-aws" / "bin" / "python"
BODY = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}


def ask(cloud: CloudSettings, token: str, endpoint: str = "nobody", **body: Any) -> httpx.Response:
    """Call an endpoint with a token. One that is taken gets a 400 of the endpoint that does not exist."""
    return httpx.post(
        f"{cloud.url}/endpoints/{endpoint}/openai/v1/chat/completions",
        headers={"authorization": f"Bearer {token}"},
        json={**BODY, **body},
        trust_env=False,
        timeout=PATIENCE_S,
    )


def make_token(session: Any = None, **arguments: Any) -> str:
    """A token for an endpoint, of a session or of the environment."""
    return str(Endpoint("nobody", session=session, **arguments).openai()["api_key"]())


def session_of(credentials: dict[str, str], region: str = "us-east-1") -> Any:
    """A session with keys that IAM or STS has issued."""
    keys = [credentials.get(name) for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")]
    return boto3.session.Session(*keys, region_name=region)


def test_the_clouds_own_keys_are_taken(cloud: CloudSettings, aws: Callable[..., Any]) -> None:
    response = ask(cloud, make_token())
    assert (response.status_code, response.json()["error"]["code"]) == (400, "validation_error")
    assert "Endpoint nobody of account 123456789012 not found" in response.text, "the cloud's own account"
    elsewhere = ask(cloud, make_token(region_name="eu-west-1"))
    assert elsewhere.status_code == 403
    assert "the token is for eu-west-1, and this endpoint is in us-east-1" in elsewhere.text
    stranger = ask(cloud, make_token(boto3.session.Session("AKID", "secret", region_name="us-east-1")))
    assert (stranger.status_code, "inf2kit cloud env" in stranger.text) == (403, True)


def test_the_sagemaker_sdks_token_is_taken(cloud: CloudSettings, home: Path) -> None:
    code = "from sagemaker.core.token_generator import generate_token; print(generate_token())"
    command = [str(SDK), "-I", "-c", code]
    ended = subprocess.run(
        command, env=shell_environment(cloud, home), capture_output=True, text=True, check=True
    )
    assert ask(cloud, ended.stdout.splitlines()[-1]).status_code == 400


def test_a_roles_and_a_users_keys_are_taken_with_their_own_secrets(
    cloud: CloudSettings, aws: Callable[..., Any]
) -> None:
    iam = aws("iam")
    iam.create_user(UserName="caller")
    user = iam.create_access_key(UserName="caller")["AccessKey"]
    role = aws("sts").assume_role(RoleArn="arn:aws:iam::123456789012:role/r", RoleSessionName="mine")
    for credentials in (user, role["Credentials"]):
        assert ask(cloud, make_token(session_of(credentials))).status_code == 400
        wrong = ask(cloud, make_token(session_of({**credentials, "SecretAccessKey": "guessed"})))
        assert (wrong.status_code, "signature does not match" in wrong.text) == (403, True)
    expired = ask(cloud, make_token(session_of({**role["Credentials"], "SessionToken": "another"})))
    assert (expired.status_code, "session token" in expired.text) == (403, True)
    iam.delete_access_key(UserName="caller", AccessKeyId=user["AccessKeyId"])
    iam.delete_user(UserName="caller")
    assert ask(cloud, make_token(session_of(user))).status_code == 403


def test_a_signature_of_version_4_is_refused(cloud: CloudSettings, aws: Callable[..., Any]) -> None:
    url = f"{cloud.url}/endpoints/nobody/openai/v1/chat/completions"
    request = AWSRequest("POST", url, headers={"Content-Type": "application/json"}, data=b"{}")
    SigV4Auth(boto3.session.Session().get_credentials(), "sagemaker", cloud.region).add_auth(request)
    for headers in (dict(request.headers), {}):
        response = httpx.post(url, headers=headers, content=b"{}", trust_env=False)
        assert (response.status_code, response.json()["error"]["code"]) == (403, "access_denied")


def test_a_key_in_a_bucket_may_have_the_same_path(cloud: CloudSettings) -> None:
    s3, key = boto3_client(cloud, "s3"), "nobody/openai/v1/chat/completions"
    s3.create_bucket(Bucket="endpoints")
    s3.put_object(Bucket="endpoints", Key=key, Body=b"mine")
    assert s3.get_object(Bucket="endpoints", Key=key)["Body"].read() == b"mine"
    own = boto3.session.Session(cloud.access_key, "rehearsal", region_name=cloud.region)
    signing = own.client("s3", endpoint_url=cloud.url, config=Config(signature_version="s3v4"))
    address = signing.generate_presigned_url("get_object", {"Bucket": "endpoints", "Key": key})
    assert httpx.get(address, trust_env=False).content == b"mine"
    s3.delete_object(Bucket="endpoints", Key=key)
    s3.delete_bucket(Bucket="endpoints")


def test_a_web_page_is_refused_even_with_a_token(cloud: CloudSettings, aws: Callable[..., Any]) -> None:
    headers = {"authorization": f"Bearer {make_token()}", "origin": "https://evil.example"}
    url = f"{cloud.url}/endpoints/nobody/openai/v1/chat/completions"
    response = httpx.post(url, headers=headers, json=BODY, trust_env=False)
    assert (response.status_code, "no web page" in response.text) == (403, True)


def test_a_deployed_endpoint_is_called(
    cloud: CloudSettings, aws: Callable[..., Any], maker: ResourceMaker
) -> None:
    maker.create_model("m")
    maker.create_config("c", "m")
    maker.create_endpoint("for-openai", "c")
    maker.wait_until_settled("for-openai")
    endpoint = Endpoint("for-openai")
    assert endpoint.openai()["base_url"] == f"{cloud.url}/endpoints/for-openai/openai/v1"
    expected = endpoint.chat(BODY["messages"], max_tokens=4).text  # type: ignore[arg-type]
    answer = ask(cloud, endpoint.openai()["api_key"](), "for-openai").json()
    assert answer["choices"][0]["message"]["content"] == expected
    streamed = ask(cloud, endpoint.openai()["api_key"](), "for-openai", stream=True)
    assert streamed.headers["content-type"] == "text/event-stream"
    assert streamed.text.endswith("data: [DONE]\n\n")
    refused = ask(cloud, endpoint.openai()["api_key"](), "for-openai", top_p=2)
    assert refused.status_code == 400
    assert refused.json()["error"]["message"].startswith("Received client error (422) from main with message")
    assert generate(aws("sagemaker-runtime"), "for-openai")
