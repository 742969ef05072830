"""Calls by boto3: bytes to an endpoint and bytes back, with botocore's errors as inf2kit's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from inf2kit.client import failures
from inf2kit.client.answers import Reply
from inf2kit.client.frames import FrameReader
from inf2kit.client.options import WHOLE_TIMEOUT_S
from inf2kit.client.requests import Call
from inf2kit.errors import EndpointRequestError

_READ_BYTES = 65_536


class OpenStream:
    """A streamed answer that has begun: an iterator of its bytes.

    Args:
        endpoint: The endpoint's name, for errors.
        response: What boto3 returned.
        ends_at: The monotonic second at which it must have ended.
        limit_s: Seconds from the call to that, for the error.
    """

    def __init__(self, endpoint: str, response: Any, ends_at: float, limit_s: float) -> None:
        self._endpoint, self._ends_at, self._limit_s = endpoint, ends_at, limit_s
        # botocore's own reading waits for whole chunks, which have no end against a server that drips.
        self._raw = response["Body"]._raw_stream
        self.request_id: str | None = response["ResponseMetadata"].get("RequestId")

    def __iter__(self) -> Iterator[bytes]:
        """Yield the answer's bytes as they come.

        Raises:
            EndpointError: it broke off, or took too long.
        """
        frames = FrameReader(self._endpoint, self.request_id)
        try:
            while received := self._raw.read1(_READ_BYTES):
                yield from frames.feed(received)
                if time.monotonic() > self._ends_at:
                    raise failures.timed_out(self._endpoint, self._limit_s, self.request_id)
        except Exception as error:
            _raise(error, self._endpoint, self._limit_s, self.request_id)

    def close(self) -> None:
        """Close the connection unless the answer was read to its end. The endpoint then frees its row."""
        self._raw.close()


class BotoTransport:
    """One endpoint, by a ``sagemaker-runtime`` client of boto3. Threads may share it.

    Args:
        endpoint: The EndpointName.
        client: The client; it must not repeat calls by itself.
        read_s: The client's own read timeout.
    """

    def __init__(self, endpoint: str, client: Any, read_s: float) -> None:
        self._endpoint, self._client, self._read_s = endpoint, client, read_s

    def invoke(self, call: Call, limit_s: float) -> Reply:
        """Send a call and return its whole answer.

        Args:
            call: What to send.
            limit_s: Seconds that the answer may take.

        Raises:
            EndpointError: of the kind that ``inf2kit.errors`` describes.
        """
        ends_at = time.monotonic() + limit_s
        request_id = None
        try:
            response = self._client.invoke_endpoint(
                EndpointName=self._endpoint, ContentType="application/json", Body=call.body
            )
            metadata = response["ResponseMetadata"]
            request_id = metadata.get("RequestId")
            # botocore's own reading has no end against a server that drips.
            body = b""
            with response["Body"] as raw:
                while part := raw.read1(_READ_BYTES):
                    body += part
                    if time.monotonic() > ends_at:
                        raise failures.timed_out(self._endpoint, limit_s, request_id)
        except Exception as error:
            _raise(error, self._endpoint, min(limit_s, self._read_s), request_id)
        announced = metadata.get("HTTPHeaders", {}).get("content-length")
        if announced is not None and int(announced) != len(body):
            raise failures.interrupted(self._endpoint, f"{len(body)} of {announced} bytes came", request_id)
        return Reply(body, response.get("ContentType"), request_id)

    def open_stream(self, call: Call, limit_s: float) -> OpenStream:
        """Send a call and return its streamed answer.

        Raises:
            EndpointError: the call was refused, or could not be sent.
        """
        ends_at = time.monotonic() + limit_s
        try:
            response = self._client.invoke_endpoint_with_response_stream(
                EndpointName=self._endpoint, ContentType="application/json", Body=call.body
            )
        except Exception as error:
            _raise(error, self._endpoint, min(limit_s, self._read_s), None)
        return OpenStream(self._endpoint, response, ends_at, limit_s)


@contextmanager
def translate_errors(endpoint: str) -> Iterator[None]:
    """Raise EndpointError of the fitting kind in place of botocore's and urllib3's exceptions."""
    try:
        yield
    except Exception as error:
        _raise(error, endpoint, WHOLE_TIMEOUT_S, None)


def _raise(error: Exception, endpoint: str, limit_s: float, request_id: str | None) -> NoReturn:
    """Raise EndpointError of the fitting kind in place of botocore's and urllib3's exceptions."""
    from botocore import exceptions
    from urllib3.exceptions import HTTPError
    from urllib3.exceptions import ReadTimeoutError as StreamTimeoutError

    if isinstance(error, exceptions.ClientError) and error.operation_name.startswith("InvokeEndpoint"):
        raise failures.Refusal.from_response(error.response).to_error(endpoint) from None
    # In the middle of a stream, botocore lets urllib3's own errors through.
    if isinstance(error, (exceptions.ReadTimeoutError, StreamTimeoutError)):
        raise failures.timed_out(endpoint, limit_s, request_id) from None
    if isinstance(
        error,
        (
            exceptions.ConnectTimeoutError,
            exceptions.EndpointConnectionError,
            exceptions.ProxyConnectionError,
            exceptions.SSLError,
        ),
    ):
        raise failures.unreachable(endpoint, failures.phrase(error)) from None
    if isinstance(error, (exceptions.HTTPClientError, exceptions.IncompleteReadError, HTTPError, OSError)):
        raise failures.interrupted(endpoint, failures.phrase(error), request_id) from None
    if isinstance(error, exceptions.ParamValidationError):
        raise EndpointRequestError(
            f"endpoint {endpoint!r} cannot be called: {failures.phrase(error)}"
        ) from None
    failures.raise_unsigned(error, endpoint)
