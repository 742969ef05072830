"""From a refusal to an error: which kind a status, a code and a message are. It knows no transport.

The kind decides whether a call may be repeated (``inf2kit.client.retry``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from inf2kit import aws
from inf2kit.errors import (
    EndpointAccessError,
    EndpointBusyError,
    EndpointConnectionError,
    EndpointError,
    EndpointInterruptedError,
    EndpointRequestError,
    EndpointServerError,
    EndpointTimeoutError,
)

#: AWS's codes of a call that was refused without being looked at. Throttles come as 400 and as 429.
_BUSY_CODES = frozenset(
    {
        "LimitExceededException",
        "ModelNotReadyException",
        "PriorRequestNotComplete",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "ServiceUnavailable",
        "SlowDown",
        "Throttled",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
_ACCESS_CODES = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "OptInRequired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_SHOWN = 300


@dataclass(frozen=True)
class Refusal:
    """A response with another status than 200.

    Attributes:
        http_status: The status of the response itself.
        code: AWS's name of the error, or an empty text.
        message: The message; None where AWS sends a null, as for some throttles.
        original_status: The container's status, if AWS passes on a container's error.
        original_message: The container's body, likewise.
        request_id: AWS's id of the request.
    """

    http_status: int
    code: str = ""
    message: str | None = ""
    original_status: int | None = None
    original_message: str = ""
    request_id: str | None = None

    @classmethod
    def from_response(cls, response: Mapping[str, Any]) -> Refusal:
        """Read the ``response`` of botocore's ClientError."""
        error, metadata = response.get("Error", {}), response.get("ResponseMetadata", {})
        status = response.get("OriginalStatusCode")
        return cls(
            http_status=int(metadata.get("HTTPStatusCode", 0)),
            code=str(error.get("Code", "")),
            message=_as_text(error.get("Message")),
            original_status=None if status is None else int(status),
            original_message=str(response.get("OriginalMessage") or ""),
            # botocore's own field is empty where it could not read the body.
            request_id=metadata.get("RequestId") or metadata.get("HTTPHeaders", {}).get("x-amzn-requestid"),
        )

    @classmethod
    def from_http(cls, status: int, headers: Mapping[str, str], body: bytes) -> Refusal:
        """Read a response as botocore does: the code in a header or the body, the message in the body."""
        try:
            values = json.loads(body)
            if not isinstance(values, dict):
                raise TypeError
        except (ValueError, TypeError):
            values = {"Message": body.decode("utf-8", "replace")}
        code = headers.get("x-amzn-errortype") or values.get("code") or values.get("__type") or str(status)
        original = values.get("OriginalStatusCode")
        return cls(
            http_status=status,
            code=str(code).partition(":")[0].rpartition("#")[2],
            message=_as_text(values.get("Message", values.get("message"))),
            original_status=original if isinstance(original, int) else None,
            original_message=str(values.get("OriginalMessage") or ""),
            request_id=headers.get("x-amzn-requestid"),
        )

    def to_error(self, endpoint: str) -> EndpointError:
        """Make the error of its kind, with the container's own sentence if there is one."""
        if self.original_status is not None:
            return self._container_error(endpoint, self.original_status)
        message = self.message
        kind: type[EndpointError] = EndpointServerError
        if self.code in _BUSY_CODES or self.http_status in (429, 503) or self._is_null_throttle:
            kind, message = EndpointBusyError, message or "Too many requests"
        elif self.code in _ACCESS_CODES or self.http_status in (401, 403):
            kind = EndpointAccessError
        elif self.http_status in (408, 504):
            kind = EndpointTimeoutError
        elif 400 <= self.http_status < 500:
            kind = EndpointRequestError
        sentence = _shorten(message or f"an empty error with status {self.http_status}")
        if sentence.endswith("not found."):  # AWS's words for an endpoint that is not there
            sentence = f"{sentence[:-1]}; correct its name, or the region or account that is called"
        advice = "; set this machine's clock" if self._is_clock_skew else _advise(kind)
        return kind(
            f"endpoint {endpoint!r} answered: {sentence}{advice}",
            code=self.code or None,
            request_id=self.request_id,
        )

    @property
    def _is_clock_skew(self) -> bool:
        """AWS refuses signatures that are more than minutes old, or of the future."""
        message = self.message or ""
        return (
            self.code == "RequestTimeTooSkewed"
            or "Signature expired" in message
            or "not yet current" in message
        )

    @property
    def _is_null_throttle(self) -> bool:
        """AWS answers some throttled calls with a 400 whose message is null, and with no useful code."""
        return self.http_status == 400 and self.message in (None, "", "None")

    def _container_error(self, endpoint: str, status: int) -> EndpointError:
        message = self.original_message or self.message or f"an empty error with status {status}"
        code, retry_after_s = self.code, None
        try:
            fields = _container_fields(json.loads(self.original_message))
        except (ValueError, TypeError, KeyError):
            pass
        else:
            message, code, retry_after_s = fields.message, fields.code or self.code, fields.retry_after_s
        kind: type[EndpointError] = EndpointServerError
        if status in (429, 503):
            kind = EndpointBusyError
        elif status == 504 or (status == 0 and "timed out" in f"{self.message} {message}"):
            kind = EndpointTimeoutError
        elif status == 0:
            kind = EndpointInterruptedError
        elif 400 <= status < 500:
            kind = EndpointRequestError
        return kind(
            f"endpoint {endpoint!r} answered: {_shorten(message)}{_advise(kind)}",
            status=status or None,
            code=code or None,
            retry_after_s=retry_after_s,
            request_id=self.request_id,
        )


def error_from_event(endpoint: str, event: Mapping[str, Any], request_id: str | None = None) -> EndpointError:
    """Make the error of an event that ends a stream early."""
    try:
        fields = _container_fields(event)
    except (TypeError, KeyError):
        fields = _Fields(str(event), None, None)
    return EndpointInterruptedError(
        f"endpoint {endpoint!r} broke off: {_shorten(fields.message)}",
        code=fields.code,
        retry_after_s=fields.retry_after_s,
        request_id=request_id,
    )


def stream_error(endpoint: str, code: str, message: str, request_id: str | None) -> EndpointError:
    """Make the error of an exception in AWS's event stream, such as ``ModelStreamError``."""
    kind = EndpointTimeoutError if "TimeExceeded" in code or "allotted time" in message else None
    return (kind or EndpointInterruptedError)(
        f"endpoint {endpoint!r} broke off: {_shorten(message)}", code=code, request_id=request_id
    )


def not_an_answer(
    endpoint: str, content_type: str | None, body: bytes, request_id: str | None
) -> EndpointError:
    """Make the error of a 200 whose body is none of an endpoint of inf2kit."""
    shown = _shorten(" ".join(body[:_SHOWN].decode("utf-8", "replace").split()), 80)
    return EndpointServerError(
        f"what answered for {endpoint!r} is no endpoint of inf2kit: it sent {content_type or 'no type'} "
        f"beginning with {shown!r}; is there a proxy in between, or another model behind that name?",
        request_id=request_id,
    )


def timed_out(endpoint: str, seconds: float, request_id: str | None = None) -> EndpointError:
    """Make the error of a call that the caller's own clock ended."""
    return EndpointTimeoutError(
        f"endpoint {endpoint!r} did not answer within {seconds:g} s; the generation may go on. Ask for fewer "
        "tokens, stream, or give a longer timeout",
        request_id=request_id,
    )


def interrupted(endpoint: str, reason: str, request_id: str | None = None) -> EndpointError:
    """Make the error of an answer that broke off."""
    return EndpointInterruptedError(
        f"endpoint {endpoint!r} broke off: {reason}; the call is not repeated by itself, as that would be a "
        "second generation (idempotent=True allows it)",
        request_id=request_id,
    )


def unreachable(endpoint: str, reason: str) -> EndpointError:
    """Make the error of an endpoint that no connection can be made to."""
    return EndpointConnectionError(
        f"endpoint {endpoint!r} cannot be reached ({reason}); is it up? "
        "'inf2kit local status' lists the local ones"
    )


@dataclass(frozen=True)
class _Fields:
    message: str
    code: str | None
    retry_after_s: int | None


def _container_fields(body: Mapping[str, Any]) -> _Fields:
    """Read a container's error, in the schema of Text Generation Inference or of OpenAI.

    Raises:
        KeyError, TypeError: the body has neither schema.
    """
    error = body["error"]
    if isinstance(error, dict):
        message, code = error.get("message") or error, error.get("code") or error.get("type")
    else:
        message, code = error, body.get("error_type")
    seconds = body.get("retry_after_s")
    if seconds is None and isinstance(error, dict):
        seconds = error.get("retry_after_s")
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 <= seconds < 1e6:
        seconds = None
    return _Fields(
        str(message), None if code is None else str(code), None if seconds is None else int(seconds)
    )


def _advise(kind: type[EndpointError]) -> str:
    if kind is EndpointAccessError:
        return "; log in again, or ask for the right to call the endpoint (sagemaker:InvokeEndpoint)"
    if kind is EndpointTimeoutError:
        return "; ask for fewer tokens, or stream the answer"
    return ""


def _as_text(value: object) -> str | None:
    return None if value is None else str(value)


def _shorten(text: str, length: int = _SHOWN) -> str:
    return text if len(text) <= length else f"{text[:length]}..."


def raise_unsigned(error: BaseException, endpoint: str) -> NoReturn:
    """Raise botocore's error of a call that it could not sign as EndpointAccessError, any other as it is."""
    from botocore import exceptions

    if isinstance(error, (exceptions.BotoCoreError, exceptions.ClientError)):
        # Credentials that are missing, or cannot be renewed: a role that STS refuses, for one.
        with aws.translate_errors(EndpointAccessError, f"calling the endpoint {endpoint!r}"):
            raise error
    raise error


def phrase(error: BaseException) -> str:
    """Return an error's message as part of a sentence."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
