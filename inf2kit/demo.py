"""The demonstration: plain boto3 against an endpoint on this machine, then everything is stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from inf2kit.errors import EndpointError
from inf2kit.local import endpoint

PRESET = "smollm2-135m-local"
NAME = "inf2kit-demo"
PROMPT = "My favorite place on earth is"
BATCH = (
    "Water boils at",
    "The three primary colors are",
    "Once upon a time, in a small village by the sea, there lived an old fisherman who",
    'def fibonacci(n):\n    """Return the n-th Fibonacci number."""\n',
)


def run(progress: Callable[[str], None]) -> None:
    """Start an endpoint, call it in four ways, stop it."""
    state = endpoint.up(PRESET, name=NAME, progress=progress)
    try:
        progress(f"in service at {state.url}")
        # This is all that a user of boto3 needs; on AWS it is the same without the first four arguments.
        client = boto3.client(
            "sagemaker-runtime",
            endpoint_url=state.url,
            region_name="us-east-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",  # noqa: S106 - the front on this machine checks none
            config=Config(retries={"total_max_attempts": 1}, read_timeout=70),
        )
        _one(client)
        _batch(client)
        _stream(client)
        _bad(client)
    finally:
        progress("stopping everything")
        endpoint.down(NAME)
    progress("done")


def _one(client: Any) -> None:
    print("\n== One prompt: invoke_endpoint")
    answer, seconds = _invoke(client, PROMPT, max_new_tokens=64, details=True)
    print(PROMPT + answer[0]["generated_text"])
    _figures(answer, seconds)


def _batch(client: Any) -> None:
    print("\n== Four prompts of different lengths in one call")
    answer, seconds = _invoke(client, list(BATCH), max_new_tokens=24, details=True)
    for prompt, item in zip(BATCH, answer, strict=True):
        shown = (prompt + item["generated_text"]).replace("\n", "\\n")
        print(f"  [{item['details']['input_length']:2d} tokens in] {shown}")
    _figures(answer, seconds)


def _stream(client: Any) -> None:
    print("\n== A stream: invoke_endpoint_with_response_stream")
    body = {"inputs": PROMPT, "parameters": {"max_new_tokens": 48}, "stream": True}
    began = time.perf_counter()
    response = client.invoke_endpoint_with_response_stream(
        EndpointName=NAME, ContentType="application/json", Body=json.dumps(body)
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


def _bad(client: Any) -> None:
    print("\n== A bad request, on purpose: top_p = 2")
    try:
        _invoke(client, PROMPT, top_p=2)
    except ClientError as error:
        kind, status = error.response["Error"]["Code"], error.response["OriginalStatusCode"]
        print(f"  {kind}, status {status}: {json.loads(error.response['OriginalMessage'])['error']}")
    print()


def _invoke(client: Any, inputs: object, **parameters: object) -> tuple[Any, float]:
    body = json.dumps({"inputs": inputs, "parameters": parameters})
    began = time.perf_counter()
    response = client.invoke_endpoint(EndpointName=NAME, ContentType="application/json", Body=body)
    answer = json.loads(response["Body"].read())
    return answer, time.perf_counter() - began


def _figures(answer: list[dict[str, Any]], seconds: float) -> None:
    tokens = sum(item["details"]["generated_tokens"] for item in answer)
    print(
        f"  {tokens} new tokens in {seconds:.2f} s: {tokens / seconds:.1f} tokens/s "
        "(new tokens only, measured at boto3 on this machine's CPU)"
    )
