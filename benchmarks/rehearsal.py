"""The rehearsal cloud: cdk bootstrap and deploy, the time its runtime adds to a call, and 300 MB of S3."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import httpx

import inf2kit
from benchmarks.package import local_aws
from benchmarks.report import Report, Row
from inf2kit import paths
from inf2kit.names import endpoint_name, stack_name
from inf2kit.package import collect, open_store, publish
from inf2kit.rehearsal import model
from inf2kit.rehearsal.cloud import lifecycle
from inf2kit.rehearsal.cloud.settings import CloudSettings
from inf2kit.rehearsal.container import processes

_PRESET = "tinyllama-1.1b-starter"
_STACK, _NAME = stack_name(_PRESET), endpoint_name(_PRESET)
_ROOT = Path(inf2kit.__file__).parents[1]
_CDK = Path(sys.executable).with_name("cdk")
_BODY = json.dumps({"inputs": "Hello", "parameters": {"max_new_tokens": 1}}).encode()
_CALLS, _MEGABYTES = 60, 300


def measure_rehearsal(report: Report, runs: int) -> None:
    """Measure all sections, in a home folder of their own."""
    with tempfile.TemporaryDirectory(prefix="inf2kit-") as folder, temporary_home(Path(folder)):
        settings = lifecycle.up(port=0, minute_s=1.0)
        try:
            _measure_deployment(report, settings, Path(folder), runs)
            _measure_front(report, settings, runs)
        finally:
            lifecycle.down()
        _measure_objects(report, Path(folder), runs)


def _measure_deployment(report: Report, settings: CloudSettings, folder: Path, runs: int) -> None:
    shell = {**os.environ, **lifecycle.environment(settings)}
    os.environ.update(lifecycle.environment(settings))
    _client(settings, "s3").create_bucket(Bucket="models")
    contents = collect(inf2kit.load_preset(_PRESET), model.prepare(), rehearsal=True)
    plan = publish.plan(contents, open_store("s3://models/llm"))
    publish.execute(plan)
    paths.save_manifest(plan.digest, contents.manifest.to_bytes())
    package = ["-c", f"package={plan.uri}", "--require-approval", "never", "--output", str(folder / "out")]

    def cdk(*words: str) -> float:
        began = time.perf_counter()
        subprocess.run([str(_CDK), *words], cwd=_ROOT, env=shell, check=True, capture_output=True)
        return time.perf_counter() - began

    bootstrap, synth, deploy, destroy = [], [], [], []
    with report.section("a deployment rehearsed, real cdk and real model") as rows:
        for _ in range(runs):
            bootstrap.append(cdk("bootstrap", "--app", "", "--force", "aws://123456789012/us-east-1"))
            synth.append(cdk("synth", "-q", _STACK, *package))
            deploy.append(cdk("deploy", _STACK, *package))
            destroy.append(cdk("destroy", _STACK, "--force", *package))
        deploy.append(cdk("deploy", _STACK, *package))
        rows.append(Row("cdk bootstrap", bootstrap, "s"))
        rows.append(Row("cdk synth", synth, "s"))
        rows.append(Row("cdk deploy, synth and the model's start included", deploy, "s"))
        rows.append(Row("cdk destroy", destroy, "s"))


def _measure_front(report: Report, settings: CloudSettings, runs: int) -> None:
    direct_url = f"{_gateway_url(settings)}/invocations"
    front_url = f"{settings.url}/endpoints/{_NAME}/invocations"
    headers = _headers(settings)
    with report.section("one token through the rehearsal's runtime") as rows:
        for callers in (1, 8):
            _call(front_url, callers, headers)
            direct_ms, runtime_ms = [], []
            for _ in range(runs):
                direct_ms.append(_call(direct_url, callers, headers))
                runtime_ms.append(_call(front_url, callers, headers))
            label = f"{callers} caller{'s' if callers > 1 else ''}"
            rows.append(Row(f"the container itself, {label}", direct_ms, "ms"))
            rows.append(
                Row(f"through the runtime, {label}", runtime_ms, "ms", against="itself", reference=direct_ms)
            )
            added_ms = [runtime - direct for direct, runtime in zip(direct_ms, runtime_ms, strict=True)]
            rows.append(Row(f"added, {label}", added_ms, "ms"))


def _headers(settings: CloudSettings) -> dict[str, str]:
    """Headers by which the cloud routes a call to the runtime; it does not check the signature."""
    scope = f"{settings.access_key}/20260101/us-east-1/sagemaker/aws4_request"
    return {
        "authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0",
        "content-type": "application/json",
    }


def _call(url: str, callers: int, headers: dict[str, str]) -> float:
    """Return the median of a call's milliseconds, with a number of callers at a time."""
    samples: list[float] = []

    def call() -> None:
        with httpx.Client(timeout=70, trust_env=False) as client:
            for _ in range(_CALLS):
                began = time.perf_counter()
                client.post(url, content=_BODY, headers=headers).raise_for_status()
                samples.append(1e3 * (time.perf_counter() - began))

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(samples) == callers * _CALLS
    return statistics.median(samples)


def _measure_objects(report: Report, folder: Path, runs: int) -> None:
    file, back = folder / "object", folder / "back"
    file.write_bytes(os.urandom(_MEGABYTES * 10**6))
    samples: dict[str, list[float]] = {
        name: [] for name in ("moto up", "cloud up", "moto down", "cloud down")
    }
    for _ in range(runs):
        with local_aws() as environment:
            _transfer(environment, file, back, samples, "moto")
        settings = lifecycle.up(port=0)
        try:
            _transfer(lifecycle.environment(settings), file, back, samples, "cloud")
        finally:
            lifecycle.down()
    with report.section("300 MB to S3 and back by boto3's transfer manager") as rows:
        for direction in ("up", "down"):
            moto = samples[f"moto {direction}"]
            rows.append(Row(f"plain moto, {direction}", moto, "s"))
            rows.append(
                Row(
                    f"the rehearsal, {direction}",
                    samples[f"cloud {direction}"],
                    "s",
                    against="moto",
                    reference=moto,
                )
            )


def _transfer(
    environment: dict[str, str], file: Path, back: Path, samples: dict[str, list[float]], name: str
) -> None:
    session = boto3.session.Session(
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name="us-east-1",
    )
    s3 = session.client("s3", endpoint_url=environment["AWS_ENDPOINT_URL"])
    s3.create_bucket(Bucket="bench")
    transfers: dict[str, Callable[[], Any]] = {
        "up": lambda: s3.upload_file(str(file), "bench", "object"),
        "down": lambda: s3.download_file("bench", "object", str(back)),
    }
    for direction, transfer in transfers.items():
        began = time.perf_counter()
        transfer()
        samples[f"{name} {direction}"].append(time.perf_counter() - began)
    assert back.stat().st_size == file.stat().st_size


def _gateway_url(settings: CloudSettings) -> str:
    for process in processes.list_processes(settings.run_dir, nested=True):
        port = process.environ().get("SAGEMAKER_BIND_TO_PORT")
        if port:
            return f"http://127.0.0.1:{port}"
    raise AssertionError("no container runs")


def _client(settings: CloudSettings, service: str) -> Any:
    return boto3.session.Session().client(service, endpoint_url=settings.url)


@contextmanager
def temporary_home(folder: Path) -> Iterator[None]:
    """Use a home in a folder, with the user's prepared model; restore the environment afterwards."""
    models = model.prepare().parent
    before = dict(os.environ)
    os.environ["INF2KIT_HOME"] = str(folder / "home")
    (folder / "home").mkdir()
    paths.models().symlink_to(models)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
