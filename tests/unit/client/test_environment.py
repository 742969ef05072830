"""Proxies, certificates and addresses: both clients go where boto3 goes, by HTTPS, through a proxy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import botocore.session
import pytest
from botocore.config import Config

from inf2kit import AsyncEndpoint, Endpoint, EndpointConnectionError, EndpointError
from tests.helpers.aws_by_proxy import TunnelProxy, server_context, tunnel_proxy, write_certificate
from tests.helpers.fault_server import TEXT, FaultServer, fault_server

HOST = "runtime.sagemaker.eu-west-1.amazonaws.com:443"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_certificate(tmp_path_factory.mktemp("certificates"))[0]


@pytest.fixture
def server(bundle: Path) -> Iterator[FaultServer]:
    with fault_server(server_context(bundle.with_name("chain.pem"))) as server:
        yield server


@pytest.fixture
def proxy(server: FaultServer, isolated: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TunnelProxy]:
    """What stands in for AWS behind a proxy, and credentials."""
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "KEY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SECRET")
    with tunnel_proxy(int(server.server_address[1])) as proxy:
        yield proxy


def call_sync(**arguments: object) -> str:
    return Endpoint("e", **arguments).with_options(max_retries=0).generate("x").text  # type: ignore[arg-type]


def call_async(**arguments: object) -> str:
    async def call() -> str:
        async with AsyncEndpoint("e", **arguments).with_options(max_retries=0) as endpoint:  # type: ignore[arg-type]
            return (await endpoint.generate("x")).text

    return asyncio.run(call())


BOTH = pytest.mark.parametrize("call", [call_sync, call_async])


@BOTH
@pytest.mark.parametrize(
    ("environment", "asked"),
    [
        ({}, HOST),
        ({"AWS_REGION": "cn-north-1"}, "runtime.sagemaker.cn-north-1.amazonaws.com.cn:443"),
        (
            {"AWS_USE_FIPS_ENDPOINT": "true", "AWS_REGION": "us-east-1"},
            "runtime-fips.sagemaker.us-east-1.amazonaws.com:443",
        ),
        ({"AWS_USE_DUALSTACK_ENDPOINT": "true"}, "runtime.sagemaker.eu-west-1.api.aws:443"),
        (
            {"AWS_USE_FIPS_ENDPOINT": "true", "AWS_REGION": "us-gov-west-1"},
            "runtime.sagemaker.us-gov-west-1.amazonaws.com:443",
        ),
        (
            {"AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": "https://mine.vpce.example:8443/a"},
            "mine.vpce.example:8443",
        ),
    ],
    ids=["region", "partition", "FIPS", "dual stack", "FIPS by default", "one's own"],
)
def test_the_address_is_boto3s(
    proxy: TunnelProxy,
    bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[..., str],
    environment: dict[str, str],
    asked: str,
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert call() == TEXT
    assert proxy.asked == [(asked, None)]


@BOTH
def test_a_proxy_gets_its_password(
    proxy: TunnelProxy, bundle: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[..., str]
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:p%40ss@127.0.0.1:{proxy.port}")
    assert call() == TEXT
    assert proxy.asked == [(HOST, "Basic bWU6cEBzcw==")]


@BOTH
def test_a_proxy_is_passed_by_where_the_environment_says_so(
    proxy: TunnelProxy, monkeypatch: pytest.MonkeyPatch, call: Callable[..., str]
) -> None:
    """With a port, too, by which boto3 looks for it."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("NO_PROXY", "e.vpce.example:8443")
    with pytest.raises(EndpointConnectionError):
        call(endpoint_url="https://e.vpce.example:8443")
    assert proxy.asked == []


@BOTH
def test_a_proxy_of_the_session_is_asked(
    proxy: TunnelProxy, bundle: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[..., str]
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    core = botocore.session.Session()
    core.set_default_client_config(Config(proxies={"https": f"http://127.0.0.1:{proxy.port}"}))
    assert call(session=boto3.session.Session(botocore_session=core), region_name="eu-west-1") == TEXT
    assert proxy.asked == [(HOST, None)]


@BOTH
@pytest.mark.parametrize("where", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "profile"])
def test_certificates_are_trusted_where_boto3_trusts_them(
    proxy: TunnelProxy,
    bundle: Path,
    isolated: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[..., str],
    where: str,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
    with pytest.raises(EndpointConnectionError, match=r"(?i)certificate"):
        call()
    if where == "profile":
        (isolated / "config").write_text(
            f"[profile mine]\nregion = eu-west-1\nca_bundle = {bundle}\n", encoding="utf-8"
        )
        monkeypatch.setenv("AWS_CONFIG_FILE", str(isolated / "config"))
        monkeypatch.setenv("AWS_PROFILE", "mine")
    else:
        monkeypatch.setenv(where, str(bundle))
    session = boto3.session.Session("KEY", "SECRET") if where == "profile" else None
    assert call(session=session) == TEXT


@BOTH
def test_a_bundle_that_is_not_there_is_named(
    proxy: TunnelProxy, monkeypatch: pytest.MonkeyPatch, call: Callable[..., str]
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("AWS_CA_BUNDLE", "/nowhere/bundle.pem")
    with pytest.raises(EndpointError, match=r"there is no file /nowhere/bundle\.pem.* AWS_CA_BUNDLE"):
        call()
