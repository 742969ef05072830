"""Calling an endpoint: one on this machine, or one on AWS, with the same lines."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload
from urllib.parse import urlparse

from inf2kit import aws, names
from inf2kit.client.local import local_endpoint_url
from inf2kit.errors import EndpointError

#: AWS answers a call within 60 s and says to let the socket wait for 70.
READ_TIMEOUT_S = 70
#: A machine that does not take a connection within this is not going to.
_CONNECT_TIMEOUT_S = 5
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

    A local endpoint of that name is used where one is up, unless something says that AWS is meant: a region,
    a session, or AWS_PROFILE or AWS_ENDPOINT_URL in the environment. Otherwise AWS is called with boto3's own
    credentials and region. ``repr`` shows where calls go. botocore never repeats one: a repeated call is a
    second generation.

    Args:
        name: The EndpointName.
        endpoint_url: Where to call, instead of looking for it.
        region_name: The AWS region, instead of boto3's own.
        session: A ``boto3.session.Session`` that says who calls.
    """

    def __init__(
        self,
        name: str,
        *,
        endpoint_url: str | None = None,
        region_name: str | None = None,
        session: Any = None,
    ) -> None:
        self.name = name
        url = endpoint_url or _local_url(name, region_name, session)
        self._client = _client(url, region_name, session)

    def __repr__(self) -> str:
        """Where its calls go."""
        meta = self._client.meta
        where = "" if _is_aws(meta.endpoint_url) else f" at {meta.endpoint_url}"
        return f"<Endpoint {self.name!r}{where or f' on AWS in {meta.region_name}'}>"

    @classmethod
    def of_preset(cls, preset: str, *, region_name: str | None = None, session: Any = None) -> Endpoint:
        """The endpoint that serves a preset: a local one, or the one that ``cdk deploy`` has made.

        Args:
            preset: Its name, such as ``llama2-7b-throughput``.
            region_name: The AWS region, instead of boto3's own.
            session: A ``boto3.session.Session`` that says who calls.

        Raises:
            EndpointError: there is none, or AWS cannot be asked.
        """
        if _local_url(names.endpoint_name(preset), region_name, session):
            return cls(names.endpoint_name(preset))
        found = _deployed(preset, region_name, session)
        if found.get("asynchronous"):
            raise EndpointError(
                f"the endpoint {found['endpoint_name']!r} is asynchronous: put a request under "
                f"{found['async_input']} and call invoke_endpoint_async of boto3, with "
                f"InvocationTimeoutSeconds={found['async_invocation_timeout_s']}"
            )
        return cls(found["endpoint_name"], region_name=region_name, session=session)

    @overload
    def generate(self, prompt: str, **parameters: Any) -> TextResult: ...

    @overload
    def generate(self, prompt: Sequence[str], **parameters: Any) -> list[TextResult]: ...

    def generate(self, prompt: str | Sequence[str], **parameters: Any) -> TextResult | list[TextResult]:
        """Continue one text, or several at once.

        Args:
            prompt: A text, or a list of texts.
            **parameters: ``max_new_tokens``, ``temperature``, ``top_k``, ``top_p``, ``seed``, ``stop`` and
                the others of ``inf2kit.serving.wire.Parameters``.

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
                        raise _error_of_body(self.name, event)
                    yield event
                    if event.get("generated_text") is not None:
                        return
            finally:
                # A caller that has enough frees its row; without this only a garbage collection would.
                response["Body"].close()
        raise EndpointError(f"endpoint {self.name!r} broke off before the end of the stream")


def _local_url(name: str, region_name: str | None, session: Any) -> str | None:
    """Where a local endpoint is called, or None where there is none or AWS is meant."""
    meant = ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME")
    if region_name or session is not None or any(os.environ.get(variable) for variable in meant):
        return None
    return local_endpoint_url(name)


def _is_aws(url: str) -> bool:
    return urlparse(url).hostname not in ("127.0.0.1", "localhost", "::1")


def _deployed(preset: str, region_name: str | None, session: Any) -> dict[str, Any]:
    """What the stack of a preset has left for its callers."""
    from botocore.exceptions import ClientError

    with aws.translate_errors(EndpointError, f"looking for the endpoint of {preset!r}"):
        try:
            ssm = aws.client("ssm", region_name, session=session)
            found = ssm.get_parameter(Name=names.parameter_name(preset))
        except ClientError as error:
            if error.response["Error"]["Code"] != "ParameterNotFound":
                raise
            raise EndpointError(
                f"no endpoint of the preset {preset!r} is deployed in {ssm.meta.region_name}; deploy it with "
                f"'cdk deploy {names.stack_name(preset)}', or start a local one with "
                f"'inf2kit local up {preset}'"
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
    error, status = response.get("Error", {}), response.get("OriginalStatusCode")
    message = response.get("OriginalMessage") or error.get("Message", "")
    try:
        return _error_of_body(name, json.loads(message), status)
    except (ValueError, KeyError, TypeError):
        return EndpointError(f"endpoint {name!r} answered: {message}", status=status, code=error.get("Code"))


def _error_of_body(name: str, body: dict[str, Any], status: int | None = None) -> EndpointError:
    """From the container's own body, in either schema; KeyError or TypeError where it is in neither."""
    error = body["error"]
    if isinstance(error, dict):
        message, code = error["message"], error.get("code") or error.get("type")
    else:
        message, code = error, body.get("error_type")
    hint = body.get("retry_after_s")
    return EndpointError(
        f"endpoint {name!r} answered: {message}", status=status, code=code, retry_after_s=hint
    )


def _client(url: str | None, region_name: str | None, session: Any) -> Any:
    import boto3
    from botocore.exceptions import BotoCoreError

    if url is not None and not _is_aws(url):
        # A front on this machine asks for no key and no region, but botocore wants to sign with them.
        if session is None and "AWS_ACCESS_KEY_ID" not in os.environ:
            session = aws.local_session()
        session = session or boto3.session.Session()
        region_name = region_name or session.region_name or "us-east-1"
    try:
        return aws.client(
            "sagemaker-runtime",
            region_name,
            session=session,
            endpoint_url=url,
            retries={"total_max_attempts": 1},
            connect_timeout=_CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            max_pool_connections=_MAX_CONNECTIONS,
        )
    except BotoCoreError as error:
        raise EndpointError(
            f"AWS cannot be called: {error}; configure boto3, or start a local endpoint "
            "with 'inf2kit local up smollm2-135m-local'"
        ) from None
