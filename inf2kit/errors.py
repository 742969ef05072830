"""The errors of inf2kit. The message of each one is a sentence that says where, what and what to try.

    Inf2KitError
    ├── PresetError          a preset does not exist, or has a wrong key or value
    ├── ModelDirectoryError  a model directory cannot be loaded
    ├── PackageError         a model package cannot be created, read, verified or deleted
    ├── CompileError         a model cannot be compiled, or its compilation failed
    │   └── CheckpointError  a model's folder is not one that can be served; a PackageError too
    ├── DeploymentError      an option of a deployment is wrong
    ├── LocalEndpointError   a local endpoint cannot be started, found or stopped
    ├── PlanError            a demand cannot be planned for, or nothing is known of a preset's speed
    ├── CloudError           the rehearsal cloud cannot be started, found or stopped
    ├── EndpointError        an endpoint answered with an error, or did not answer
    │   ├── EndpointConnectionError   it cannot be reached, and nothing was sent
    │   ├── EndpointBusyError         it is full, throttled or not ready, and generated nothing
    │   ├── EndpointTimeoutError      no answer in time; the generation may go on
    │   ├── EndpointInterruptedError  the answer broke off
    │   ├── EndpointServerError       it failed, or what answered is no endpoint of inf2kit
    │   ├── EndpointRequestError      the request is wrong
    │   │   └── CallTooLongError      the answer would come too late; nothing was sent
    │   ├── EndpointAccessError       no credentials, or no permission
    │   └── JobError                  an asynchronous call failed, or has no answer
    └── RequestError         a request is refused, with an HTTP status and a code

All of them are exported by ``inf2kit``. This module ships inside the model package and uses only the
standard library.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class Inf2KitError(Exception):
    """The base class of inf2kit's errors."""


class PresetError(Inf2KitError, ValueError):
    """A preset does not exist, or has a wrong key or value."""


class ModelDirectoryError(Inf2KitError):
    """A model directory cannot be loaded. Trying again does not help."""


class PackageError(Inf2KitError):
    """A model package cannot be created, read, verified or deleted."""


class CompileError(Inf2KitError):
    """A model cannot be compiled as requested or on this machine, or its compilation failed."""


class CheckpointError(PackageError, CompileError):
    """A model's folder is not one that can be packaged or compiled. The message says what it is instead."""


class DeploymentError(Inf2KitError):
    """An option of a deployment is wrong. It is raised before anything is deployed."""


class LocalEndpointError(Inf2KitError):
    """A local endpoint cannot be started, found or stopped."""


class PlanError(Inf2KitError):
    """A demand cannot be planned for, or nothing is known of the preset's speed."""


class CloudError(Inf2KitError):
    """The rehearsal cloud cannot be started, found or stopped."""


class EndpointError(Inf2KitError):
    """An endpoint answered with an error, or did not answer.

    Attributes:
        status: The HTTP status of the container's answer; None if there was no answer.
        code: The container's error code, such as ``prompt_too_long``, or AWS's, such as ``ModelError``.
        retry_after_s: Whole seconds to wait before another try; None if the answer does not say.
        request_id: AWS's id of the request; None if nothing was sent or nothing came back.
        attempts: How many times the request was sent.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        retry_after_s: int | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s
        self.request_id = request_id
        self.attempts = 0


class EndpointConnectionError(EndpointError):
    """The endpoint cannot be reached. Nothing was sent, so the call may be repeated."""


class EndpointBusyError(EndpointError):
    """The endpoint is full, throttled or not ready. It generated nothing, so the call may be repeated."""


class EndpointTimeoutError(EndpointError):
    """No answer came in time. The generation may go on, so a repeated call may be a second generation."""


class EndpointInterruptedError(EndpointError):
    """The answer broke off, whole or streamed. A repeated call is a second generation."""


class EndpointServerError(EndpointError):
    """The endpoint failed, or what answered at its address is no endpoint of inf2kit."""


class EndpointRequestError(EndpointError):
    """The request is wrong. Trying again does not help."""


class CallTooLongError(EndpointRequestError):
    """A whole answer would take longer than an endpoint may. Nothing was sent.

    Attributes:
        expected_s: Seconds that the call is expected to take.
        max_new_tokens: The largest ``max_new_tokens`` that is expected to fit; 0 if none is.
    """

    def __init__(self, message: str, *, expected_s: float, max_new_tokens: int) -> None:
        super().__init__(message)
        self.expected_s = expected_s
        self.max_new_tokens = max_new_tokens


class EndpointAccessError(EndpointError):
    """There are no credentials, or they do not allow the call."""


class JobError(EndpointError):
    """An asynchronous call failed, was dropped, or has no answer yet."""


class RequestError(Inf2KitError):
    """A request is refused.

    Attributes:
        status: The HTTP status: 4xx if the request is wrong, 429 if the queue is full, 503 while the engine
            is not ready, 500 if the engine failed.
        code: A stable, machine-readable name such as ``invalid_parameter``.
        retry_after_s: Whole seconds to wait before another try, or None.
        param: The key that is wrong, if it is one.
        form: Schema of the refused request (``tgi``, ``chat`` or ``completion``), in which it is answered;
            None while it is not known.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        retry_after_s: int | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s
        self.param = param
        self.form: str | None = None

    def body(self) -> dict[str, object]:
        """Return the JSON body of the answer: OpenAI's for its requests, else Text Generation Inference's."""
        if self.form in ("chat", "completion"):
            error: dict[str, object] = {
                "message": str(self),
                "type": self._openai_type(),
                "param": self.param,
                "code": self.code,
            }
            body: dict[str, object] = {"error": error}
        else:
            body = error = {"error": str(self), "error_type": self.code}
        if self.retry_after_s is not None:
            error["retry_after_s"] = self.retry_after_s
        return body

    def _openai_type(self) -> str:
        if self.status >= 500:
            return "server_error"
        return "rate_limit_error" if self.status == 429 else "invalid_request_error"


def unavailable(message: str) -> RequestError:
    """Make the error of an engine that is not ready or has stopped: 503, to be tried again after a second."""
    return RequestError(503, "unavailable", message, retry_after_s=1)


def suggest(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for the known name whose spelling is closest, or an empty text."""
    matches = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""
