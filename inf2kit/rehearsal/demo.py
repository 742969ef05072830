"""The demonstration: the user's way to AWS with nothing of AWS, and plain boto3 against what it deployed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from inf2kit import names, paths
from inf2kit.errors import CloudError, EndpointError
from inf2kit.rehearsal import model
from inf2kit.rehearsal.local.endpoint import LocalEndpoint
from inf2kit.rehearsal.local.start import start_endpoint

Progress = Callable[[str], None]

#: What is deployed: the preset to begin with on AWS.
PRESET = "tinyllama-1.1b-starter"
NAME, STACK = names.endpoint_name(PRESET), names.stack_name(PRESET)
#: And what the quick way starts.
QUICK_PRESET, QUICK_NAME = "smollm2-135m-local", "inf2kit-demo"
BUCKET = "s3://inf2kit-demo/models"
PROMPT = "My favorite place on earth is"
BATCH = (
    "Water boils at",
    "The three primary colors are",
    "Once upon a time, in a small village by the sea, there lived an old fisherman who",
    'def fibonacci(n):\n    """Return the n-th Fibonacci number."""\n',
)


def run(progress: Progress) -> None:
    """Start a rehearsal cloud, deploy a preset with the real cdk, call it in four ways, destroy it.

    Raises:
        CloudError: there is no cdk here, or a step failed.
    """
    from inf2kit.rehearsal.cloud import lifecycle

    root = Path(__file__).parents[2]
    cdk = Path(sys.executable).with_name("cdk")
    if not (root / "cdk.json").exists() or not cdk.exists():
        raise CloudError(
            "the demonstration deploys with the repository's own cdk; run 'make demo' in a checkout, "
            "or 'inf2kit demo --quick' without CDK"
        )
    steps = _Steps()
    weights = model.prepare(progress)
    # A home of its own, so that no cloud of the user's is in its way.
    with _own_home(weights.parent):
        try:
            with steps.step("inf2kit cloud up"):
                settings = lifecycle.up(port=0, progress=lambda _: None)
            shell = {**os.environ, **lifecycle.environment(settings)}
            shell = {name: value for name, value in shell.items() if name not in lifecycle.unset()}
            shell["PATH"] = f"{cdk.parent}{os.pathsep}{shell.get('PATH', os.defpath)}"

            def command(*words: str) -> str:
                return _command(steps, words, root, shell)

            command("cdk", "bootstrap", "--app", "", f"aws://123456789012/{settings.region}")
            _client(settings.url, "s3", settings.access_key).create_bucket(Bucket=BUCKET.split("/")[2])
            package = command(
                "inf2kit", "package", "embedded", "--preset", PRESET, "--rehearsal", "--output", BUCKET
            ).strip()
            command("cdk", "deploy", STACK, "--require-approval", "never", "-c", f"package={package}")
            with steps.step("boto3: one call, a batch, a stream, a bad request"):
                _calls(_client(settings.url, "sagemaker-runtime", settings.access_key), NAME)
            command("cdk", "destroy", STACK, "--force")
        finally:
            with steps.step("inf2kit cloud down"):
                lifecycle.down()
    steps.table()


def quick(progress: Progress) -> None:
    """Start a local endpoint without CDK, call it in four ways, stop it."""
    state = start_endpoint(QUICK_PRESET, name=QUICK_NAME, progress=progress)
    try:
        progress(f"in service at {state.url}")
        _calls(_client(state.url, "sagemaker-runtime"), QUICK_NAME)
    finally:
        progress("stopping everything")
        LocalEndpoint(QUICK_NAME).stop()
    progress("done")


class _Steps:
    """Times what is done, and shows a table of it."""

    def __init__(self) -> None:
        self._done: list[tuple[float, str]] = []

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        print(f"$ {what}", flush=True)
        began = time.monotonic()
        try:
            yield
        finally:
            self._done.append((time.monotonic() - began, what))

    def table(self) -> None:
        """What was done, in seconds of this machine."""
        print("\n  SECONDS  STEP")
        for seconds, what in self._done:
            print(f"  {seconds:7.1f}  {what}")
        print(f"  {sum(seconds for seconds, _ in self._done):7.1f}  in all, on this machine's CPU")


def _command(steps: _Steps, words: tuple[str, ...], root: Path, shell: dict[str, str]) -> str:
    shown = " ".join(word or "''" for word in words)
    with steps.step(shown):
        done = subprocess.run(
            [shutil.which(words[0], path=shell["PATH"]) or words[0], *words[1:]],
            cwd=root,
            env=shell,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise CloudError(f"'{shown}' failed:\n{done.stdout}{done.stderr}")
    return done.stdout


@contextmanager
def _own_home(models: Path) -> Iterator[None]:
    before = os.environ.get("INF2KIT_HOME")
    with tempfile.TemporaryDirectory(prefix="inf2kit-demo-") as folder:
        os.environ["INF2KIT_HOME"] = folder
        paths.models().symlink_to(models)
        try:
            yield
        finally:
            del os.environ["INF2KIT_HOME"]
            if before is not None:
                os.environ["INF2KIT_HOME"] = before


def _client(url: str, service: str, access_key: str = "local") -> Any:
    # This is all that a user of boto3 needs; on AWS it is the same without the first four arguments.
    return boto3.client(
        service,
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=access_key,
        aws_secret_access_key="local",  # noqa: S106 - nobody on this machine computes a signature
        config=Config(retries={"total_max_attempts": 1}, read_timeout=70),
    )


def _calls(client: Any, name: str) -> None:
    _one(client, name)
    _batch(client, name)
    _stream(client, name)
    _bad(client, name)


def _one(client: Any, name: str) -> None:
    print("\n== One prompt: invoke_endpoint")
    answer, seconds = _invoke(client, name, PROMPT, max_new_tokens=64, details=True)
    print(PROMPT + answer[0]["generated_text"])
    _figures(answer, seconds)


def _batch(client: Any, name: str) -> None:
    print("\n== Four prompts of different lengths in one call")
    answer, seconds = _invoke(client, name, list(BATCH), max_new_tokens=24, details=True)
    for prompt, item in zip(BATCH, answer, strict=True):
        shown = (prompt + item["generated_text"]).replace("\n", "\\n")
        print(f"  [{item['details']['input_length']:2d} tokens in] {shown}")
    _figures(answer, seconds)


def _stream(client: Any, name: str) -> None:
    print("\n== A stream: invoke_endpoint_with_response_stream")
    body = {"inputs": PROMPT, "parameters": {"max_new_tokens": 48}, "stream": True}
    began = time.perf_counter()
    response = client.invoke_endpoint_with_response_stream(
        EndpointName=name, ContentType="application/json", Body=json.dumps(body)
    )
    print(PROMPT, end="", flush=True)
    first, received, tokens = 0.0, b"", 0
    for part in response["Body"]:
        received += part["PayloadPart"]["Bytes"]
        *records, received = received.split(b"\n\n")
        for record in records:
            first = first or time.perf_counter() - began
            event = json.loads(record.removeprefix(b"data: "))
            if "error" in event:
                raise EndpointError(f"the stream broke off: {event['error']}")
            tokens += 1
            print(event["token"]["text"], end="", flush=True)
    seconds = time.perf_counter() - began
    print(f"\n  {tokens} tokens, the first after {first:.2f} s, the last after {seconds:.2f} s")


def _bad(client: Any, name: str) -> None:
    print("\n== A bad request, on purpose: top_p = 2")
    try:
        _invoke(client, name, PROMPT, top_p=2)
    except ClientError as error:
        kind, status = error.response["Error"]["Code"], error.response["OriginalStatusCode"]
        print(f"  {kind}, status {status}: {json.loads(error.response['OriginalMessage'])['error']}")
    print()


def _invoke(client: Any, name: str, inputs: object, **parameters: object) -> tuple[Any, float]:
    body = json.dumps({"inputs": inputs, "parameters": parameters})
    began = time.perf_counter()
    response = client.invoke_endpoint(EndpointName=name, ContentType="application/json", Body=body)
    answer = json.loads(response["Body"].read())
    return answer, time.perf_counter() - began


def _figures(answer: list[dict[str, Any]], seconds: float) -> None:
    tokens = sum(item["details"]["generated_tokens"] for item in answer)
    print(
        f"  {tokens} new tokens in {seconds:.2f} s: {tokens / seconds:.1f} tokens/s "
        "(new tokens only, measured at boto3 on this machine's CPU)"
    )
