"""Calling an endpoint: one on this machine, or one on AWS, with the same lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

from inf2kit import aws, home
from inf2kit.errors import EndpointError

#: AWS answers a call within 60 s and says to let the socket wait for 70.
READ_TIMEOUT_S = 70
_MAX_CONNECTIONS = 64


@dataclass(frozen=True)
class TextResult:
    """The continuation of one prompt.

    Attributes:
        text: The new text.
        finish_reason: ``length``, ``eos_token``, ``stop_sequence`` or ``time_limit``.
        input_length: Tokens of the prompt.
        generated_tokens: New tokens.
        seed: The seed used, None for greedy search.
        warnings: What was ignored or changed about the request, a sentence each.
    """

    text: str
    finish_reason: str
    input_length: int
    generated_tokens: int
    seed: int | None
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, answer: dict[str, Any]) -> TextResult:
        """From one prompt's answer with details, in Text Generation Inference's schema."""
        details = answer["details"]
        return cls(
            text=answer["generated_text"],
            finish_reason=details["finish_reason"],
            input_length=details["input_length"],
            generated_tokens=details["generated_tokens"],
            seed=details["seed"],
            warnings=tuple(answer.get("warnings", ())),
        )


class Endpoint:
    """An endpoint by name.

    A local endpoint of that name is used where there is one; otherwise AWS is called with boto3's own
    credentials and region. Calls are never repeated by botocore: a repeated call is a second generation.

    Args:
        name: The EndpointName.
        endpoint_url: Where to call, instead of looking for it.
        region_name: The AWS region, instead of boto3's own.
    """

    def __init__(self, name: str, *, endpoint_url: str | None = None, region_name: str | None = None) -> None:
        self.name = name
        self._client = _client(endpoint_url or home.local_endpoint_url(name), region_name)

    @classmethod
    def of_preset(cls, preset: str, *, region_name: str | None = None) -> Endpoint:
        """The endpoint that serves a preset: a local one, or the one that ``cdk deploy`` has made.

        Args:
            preset: Its name, such as ``llama2-7b-throughput``.
            region_name: The AWS region, instead of boto3's own.

        Raises:
            EndpointError: there is none, or AWS cannot be asked.
        """
        if home.local_endpoint_url(home.endpoint_name(preset)):
            return cls(home.endpoint_name(preset))
        found = _deployed(preset, region_name)
        if found.get("asynchronous"):
            raise EndpointError(
                f"the endpoint {found['endpoint_name']!r} is asynchronous: put a request under "
                f"{found['async_input']} and call invoke_endpoint_async of boto3, with "
                f"InvocationTimeoutSeconds={found['async_invocation_timeout_s']}"
            )
        return cls(found["endpoint_name"], region_name=region_name)

    @overload
    def generate(self, prompt: str, **parameters: Any) -> TextResult: ...

    @overload
    def generate(self, prompt: Sequence[str], **parameters: Any) -> list[TextResult]: ...

    def generate(self, prompt: str | Sequence[str], **parameters: Any) -> TextResult | list[TextResult]:
        """Continue one text, or several at once.

        Args:
            prompt: A text, or a list of texts.
            **parameters: ``max_new_tokens``, ``temperature``, ``top_k``, ``top_p``, ``seed``, ``stop`` and
                the others of ``inf2kit.wire.Parameters``.

        Raises:
            EndpointError: the endpoint refused the call, failed, or cannot be reached.
        """
        inputs = prompt if isinstance(prompt, str) else list(prompt)
        body = {"inputs": inputs, "parameters": {**parameters, "details": True}}
        with _errors_of(self.name):
            response = self._client.invoke_endpoint(
                EndpointName=self.name, ContentType="application/json", Body=json.dumps(body)
            )
            answers = json.loads(response["Body"].read())
        results = [TextResult.of(answer) for answer in answers]
        return results[0] if isinstance(prompt, str) else results

    def stream(self, prompt: str, **parameters: Any) -> Iterator[str]:
        """Continue one text, giving its pieces as they come; joined, they are what ``generate`` gives.

        Raises:
            EndpointError: as ``generate``; also in the middle, when the endpoint breaks off.
        """
        body = {"inputs": prompt, "parameters": parameters, "stream": True}
        for event in self.stream_events(body):
            text = event["token"]["text"]
            if text:
                yield text

    def stream_events(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The server-sent events of a streamed call, as they come, decoded.

        Args:
            body: A whole request, in either schema; ``stream`` must be true.

        Raises:
            EndpointError: as ``stream``.
        """
        with _errors_of(self.name):
            response = self._client.invoke_endpoint_with_response_stream(
                EndpointName=self.name, ContentType="application/json", Body=json.dumps(body)
            )
            try:
                for data in _records(response["Body"]):
                    if data == b"[DONE]":
                        return
                    event = json.loads(data)
                    if "error" in event:
                        raise EndpointError(event["error"], code=event.get("error_type"))
                    yield event
                    if event.get("generated_text") is not None:
                        return
            finally:
                # A caller that has enough frees its row; without this only a garbage collection would.
                response["Body"].close()
        raise EndpointError(f"endpoint {self.name!r} broke off before the end of the stream")


def _deployed(preset: str, region_name: str | None) -> dict[str, Any]:
    """What the stack of a preset has left for its callers."""
    from botocore.exceptions import ClientError

    with aws.errors(EndpointError, f"looking for the endpoint of {preset!r}"):
        try:
            ssm = aws.client("ssm", region_name)
            found = ssm.get_parameter(Name=f"/inf2kit/presets/{preset}")
        except ClientError as error:
            if error.response["Error"]["Code"] != "ParameterNotFound":
                raise
            raise EndpointError(
                f"no endpoint of the preset {preset!r} is deployed in {ssm.meta.region_name}; deploy it with "
                f"'cdk deploy inf2-{preset}', or start a local one with 'inf2kit local up {preset}'"
            ) from None
    value: dict[str, Any] = json.loads(found["Parameter"]["Value"])
    return value


def _records(body: Any) -> Iterator[bytes]:
    """The data of each server-sent event, however the parts are cut."""
    received = b""
    for part in body:
        received += part["PayloadPart"]["Bytes"]
        *records, received = received.split(b"\n\n")
        for record in records:
            yield record.partition(b"data:")[2].strip()


class _errors_of:  # noqa: N801 - reads as a phrase: with _errors_of(name)
    """Turns botocore's exceptions into one EndpointError with the container's own sentence."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        from botocore.exceptions import (
            BotoCoreError,
            ClientError,
            ConnectionError,  # noqa: A004
            EventStreamError,
            HTTPClientError,
        )
        from urllib3.exceptions import HTTPError

        # The last one comes from the middle of a stream, where botocore hands over urllib3's own response.
        if isinstance(error, EventStreamError | HTTPError):
            raise EndpointError(
                f"endpoint {self._name!r} broke off: {error}", code="ModelStreamError"
            ) from None
        if isinstance(error, ClientError):
            raise _endpoint_error(self._name, error.response) from None
        if isinstance(error, HTTPClientError | ConnectionError):
            raise EndpointError(
                f"endpoint {self._name!r} cannot be reached ({error}); is it up? "
                "'inf2kit local status' lists the local ones"
            ) from None
        if isinstance(error, BotoCoreError):
            raise EndpointError(f"endpoint {self._name!r} cannot be called: {error}") from None


def _endpoint_error(name: str, response: Any) -> EndpointError:
    code = response.get("Error", {}).get("Code")
    status = response.get("OriginalStatusCode")
    message = response.get("OriginalMessage") or response.get("Error", {}).get("Message", "")
    try:
        body = json.loads(message)
        message, code = body["error"], body["error_type"]
    except (ValueError, KeyError, TypeError):
        pass
    return EndpointError(f"endpoint {name!r} answered: {message}", status=status, code=code)


def _client(local_url: str | None, region_name: str | None) -> Any:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    config = Config(
        retries={"total_max_attempts": 1},
        read_timeout=READ_TIMEOUT_S,
        max_pool_connections=_MAX_CONNECTIONS,
    )
    local: dict[str, str] = {}
    if local_url is not None:
        # The front on this machine does not check signatures, but botocore wants to make one.
        local = {
            "endpoint_url": local_url,
            "region_name": region_name or "us-east-1",
            "aws_access_key_id": "local",
            "aws_secret_access_key": "local",
        }
    try:
        return boto3.client("sagemaker-runtime", **{"region_name": region_name, **local}, config=config)
    except BotoCoreError as error:
        raise EndpointError(
            f"AWS cannot be called: {error}; configure boto3, or start a local endpoint "
            "with 'inf2kit local up smollm2-135m-local'"
        ) from None
