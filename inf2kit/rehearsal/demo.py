"""``inf2kit demo``: deploy a preset to the rehearsal cloud with the real cdk, and call it with boto3."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from inf2kit import aws, names, paths
from inf2kit.client.boto_transport import translate_errors
from inf2kit.client.failures import error_from_event
from inf2kit.errors import CloudError, EndpointError
from inf2kit.rehearsal import model
from inf2kit.rehearsal.local.endpoint import LocalEndpoint
from inf2kit.rehearsal.local.start import start_endpoint

Progress = Callable[[str], None]

#: The preset that the full demo deploys, which is the first one to deploy on AWS.
PRESET = "tinyllama-1.1b-starter"
NAME, STACK = names.endpoint_name(PRESET), names.stack_name(PRESET)
#: The preset that the quick demo starts.
QUICK_PRESET, QUICK_NAME = "smollm2-135m-local", "inf2kit-demo"
BUCKET = "s3://inf2kit-demo/models"
PROMPT = "My favorite place on earth is"
PROMPTS = (
    "Water boils at",
    "The three primary colors are",
    "Once upon a time, in a small village by the sea, there lived an old fisherman who",
    'def fibonacci(n):\n    """Return the n-th Fibonacci number."""\n',
)
#: What a user may do after the demo.
_NEXT = """
next: source .venv/bin/activate
      inf2kit local up smollm2-135m-local    an endpoint that stays up, for generate, chat and boto3
      inf2kit cloud up                       a cloud that stays up, for cdk, boto3 and aws
      inf2kit doctor                         what is missing for a deployment to AWS"""


def run(progress: Progress) -> None:
    """Start a rehearsal cloud, deploy a preset with the real cdk, call it in four ways, and destroy it.

    Args:
        progress: Called with the name of each step before the cloud is up.

    Raises:
        CloudError: cdk is not installed, or a step fails.
    """
    from inf2kit.rehearsal.cloud import lifecycle

    checkout = Path(__file__).parents[2]
    cdk = Path(sys.executable).with_name("cdk")
    if not (checkout / "cdk.json").exists() or not cdk.exists():
        raise CloudError(
            "the full demo deploys with the cdk of the repository; run 'make demo' in a checkout, "
            "or 'inf2kit demo --quick' without cdk"
        )
    steps = _Steps()
    weights = model.prepare(progress)
    # A temporary home leaves a running cloud of the user alone.
    with (
        aws.translate_errors(CloudError, "a call of the rehearsal cloud"),
        _temporary_home(weights.parent),
    ):
        try:
            with steps.step("inf2kit cloud up"):
                settings = lifecycle.up(port=0, progress=lambda _: None)
            environment = {**os.environ, **lifecycle.environment(settings)}
            environment = {
                name: value for name, value in environment.items() if name not in lifecycle.unset()
            }
            environment["PATH"] = f"{cdk.parent}{os.pathsep}{environment.get('PATH', os.defpath)}"

            def run_command(*words: str) -> str:
                return _run_command(steps, words, checkout, environment)

            run_command("cdk", "bootstrap", "--app", "", f"aws://123456789012/{settings.region}")
            s3 = _create_client(settings.url, "s3", settings.access_key)
            s3.create_bucket(Bucket=BUCKET.split("/")[2])
            package = run_command(
                "inf2kit", "package", "embedded", "--preset", PRESET, "--rehearsal", "--output", BUCKET
            ).strip()
            run_command("cdk", "deploy", STACK, "--require-approval", "never", "-c", f"package={package}")
            with steps.step("boto3: one prompt, a list of prompts, a stream, an invalid request"):
                call_endpoint(_create_client(settings.url, "sagemaker-runtime", settings.access_key), NAME)
            run_command("cdk", "destroy", STACK, "--force")
        finally:
            with steps.step("inf2kit cloud down"):
                lifecycle.down()
    steps.print_table()
    print(_NEXT)


def run_quick(progress: Progress) -> None:
    """Start a local endpoint without cdk, call it in four ways, and stop it.

    Args:
        progress: Called with the name of each step.
    """
    state = start_endpoint(QUICK_PRESET, name=QUICK_NAME, progress=progress)
    try:
        progress(f"in service at {state.url}")
        call_endpoint(_create_client(state.url, "sagemaker-runtime"), QUICK_NAME)
    finally:
        progress("stopping the endpoint")
        LocalEndpoint(QUICK_NAME).stop()
    progress("done")


class _Steps:
    """Measures the seconds of each step."""

    def __init__(self) -> None:
        self._finished: list[tuple[float, str]] = []

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        print(f"$ {name}", flush=True)
        began = time.monotonic()
        try:
            yield
        finally:
            self._finished.append((time.monotonic() - began, name))

    def print_table(self) -> None:
        """Print the seconds of every step."""
        print("\n  SECONDS  STEP")
        for seconds, name in self._finished:
            print(f"  {seconds:7.1f}  {name}")
        total_s = sum(seconds for seconds, _ in self._finished)
        print(f"  {total_s:7.1f}  total, on this machine's CPU")


def _run_command(steps: _Steps, words: tuple[str, ...], folder: Path, environment: dict[str, str]) -> str:
    """Run a command as a step, show what it says of its progress, and return its output."""
    command = " ".join(word or "''" for word in words)
    progress: list[str] = []

    def show(lines: Iterable[str]) -> None:
        for line in lines:
            progress.append(line)
            # Of the some fifty events of a stack, those of the endpoint are what is waited for.
            if line.strip() and (" | " not in line or "AWS::SageMaker::" in line):
                print(f"  {line.rstrip()}", flush=True)

    with (
        steps.step(command),
        subprocess.Popen(
            [shutil.which(words[0], path=environment["PATH"]) or words[0], *words[1:]],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        ) as process,
    ):
        reader = threading.Thread(target=show, args=(process.stderr or (),))
        reader.start()
        try:
            output = "".join(process.stdout or ())
        except BaseException:
            process.kill()
            raise
        finally:
            reader.join()
    if process.returncode != 0:
        raise CloudError(f"'{command}' failed:\n{output}{''.join(progress)}")
    return output


@contextmanager
def _temporary_home(models: Path) -> Iterator[None]:
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


def _create_client(url: str, service: str, access_key: str = "local") -> Any:
    # The endpoint, the region and the keys are for this machine. On AWS only the service's name is needed.
    return boto3.client(
        service,
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=access_key,
        aws_secret_access_key="local",  # noqa: S106 - signatures are not checked on this machine
        config=Config(retries={"total_max_attempts": 1}, read_timeout=70),
    )


def call_endpoint(client: Any, name: str) -> None:
    """Call the endpoint in four ways.

    Raises:
        EndpointError: one of them failed.
    """
    with translate_errors(name):
        _call_with_prompt(client, name)
        _call_with_list(client, name)
        _call_with_stream(client, name)
        _call_with_invalid_parameter(client, name)


def _call_with_prompt(client: Any, name: str) -> None:
    print("\n== One prompt: invoke_endpoint")
    results, seconds = _invoke(client, name, PROMPT, max_new_tokens=64, details=True)
    print(PROMPT + results[0]["generated_text"])
    _print_speed(results, seconds)


def _call_with_list(client: Any, name: str) -> None:
    print("\n== Four prompts of different lengths in one call")
    results, seconds = _invoke(client, name, list(PROMPTS), max_new_tokens=24, details=True)
    for prompt, result in zip(PROMPTS, results, strict=True):
        text = (prompt + result["generated_text"]).replace("\n", "\\n")
        print(f"  [{result['details']['input_length']:2d} input tokens] {text}")
    _print_speed(results, seconds)


def _call_with_stream(client: Any, name: str) -> None:
    print("\n== A stream: invoke_endpoint_with_response_stream")
    body = {"inputs": PROMPT, "parameters": {"max_new_tokens": 48}, "stream": True}
    began = time.perf_counter()
    response = client.invoke_endpoint_with_response_stream(
        EndpointName=name, ContentType="application/json", Body=json.dumps(body)
    )
    print(PROMPT, end="", flush=True)
    first_token_s, buffer, tokens = 0.0, b"", 0
    for part in response["Body"]:
        buffer += part["PayloadPart"]["Bytes"]
        *records, buffer = buffer.split(b"\n\n")
        for record in records:
            first_token_s = first_token_s or time.perf_counter() - began
            event = json.loads(record.partition(b"data:")[2])
            if "error" in event:
                raise error_from_event(name, event)
            tokens += 1
            print(event["token"]["text"], end="", flush=True)
    seconds = time.perf_counter() - began
    print(f"\n  {tokens} tokens, the first after {first_token_s:.2f} s, the last after {seconds:.2f} s")


def _call_with_invalid_parameter(client: Any, name: str) -> None:
    print("\n== An invalid request: top_p = 2")
    try:
        with translate_errors(name):
            _invoke(client, name, PROMPT, top_p=2)
    except EndpointError as error:
        print(f"  ModelError, status {error.status}: {error}")
    print()


def _invoke(
    client: Any, name: str, inputs: object, **parameters: object
) -> tuple[list[dict[str, Any]], float]:
    """Call an endpoint, and return the results and the seconds of the call."""
    body = json.dumps({"inputs": inputs, "parameters": parameters})
    began = time.perf_counter()
    response = client.invoke_endpoint(EndpointName=name, ContentType="application/json", Body=body)
    results = json.loads(response["Body"].read())
    return results, time.perf_counter() - began


def _print_speed(results: list[dict[str, Any]], seconds: float) -> None:
    tokens = sum(result["details"]["generated_tokens"] for result in results)
    print(
        f"  {tokens} new tokens in {seconds:.2f} s: {tokens / seconds:.1f} tokens/s "
        "(new tokens only, measured at boto3 on this machine's CPU)"
    )
