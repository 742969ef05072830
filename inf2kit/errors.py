"""The errors of inf2kit. Each message is a sentence that says where, what and what to try.

    Inf2KitError
    ├── PresetError          a preset's name, key or value
    ├── ModelDirectoryError  a model directory that cannot be loaded, whatever is tried again
    ├── PackageError         a model package that cannot be made, found, verified or deleted
    ├── CompileError         a compilation that makes no sense, cannot be done here, or has failed
    ├── DeploymentError      a deployment that makes no sense, found before anything is provisioned
    ├── LocalEndpointError   a local endpoint that cannot be started, found or stopped
    ├── CloudError           the rehearsal cloud that cannot be started, found or stopped
    ├── EndpointError        an endpoint answered with an error, or did not answer
    └── RequestError         one request, with the HTTP status and code the caller gets

This module ships inside the model package: standard library only.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class Inf2KitError(Exception):
    """The root of every error that inf2kit raises on purpose."""


class PresetError(Inf2KitError, ValueError):
    """A preset that does not exist, or has a wrong key or value."""


class ModelDirectoryError(Inf2KitError):
    """A model directory that cannot be loaded: trying again will not help."""


class PackageError(Inf2KitError):
    """A model package that cannot be made, found, verified or deleted."""


class CompileError(Inf2KitError):
    """A compilation that makes no sense, cannot be done here, or has failed."""


class DeploymentError(Inf2KitError):
    """A deployment that makes no sense, found before anything is provisioned."""


class LocalEndpointError(Inf2KitError):
    """A local endpoint that cannot be started, found or stopped."""


class CloudError(Inf2KitError):
    """The rehearsal cloud cannot be started, found or stopped."""


class EndpointError(Inf2KitError):
    """An endpoint answered with an error, or did not answer.

    Attributes:
        status: The HTTP status that the container gave, or None where it gave none.
        code: The container's own code (``prompt_too_long``) or AWS's (``ModelError``).
        retry_after_s: Whole seconds after which another try makes sense, or None where it said nothing.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s


class RequestError(Inf2KitError):
    """One request that is refused.

    Attributes:
        status: HTTP status: 4xx for the caller's fault, 429 for a full queue, 503 while the engine is
            not ready, 500 for ours.
        code: A stable, machine-readable name such as ``invalid_parameter``.
        retry_after_s: Whole seconds after which another try makes sense, or None.
    """

    def __init__(self, status: int, code: str, message: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s

    def body(self) -> dict[str, object]:
        """The JSON body of the answer: the keys of Text Generation Inference, plus the hint."""
        body: dict[str, object] = {"error": str(self), "error_type": self.code}
        if self.retry_after_s is not None:
            body["retry_after_s"] = self.retry_after_s
        return body


def unavailable(message: str) -> RequestError:
    """A 503: the engine is not ready, or went away in the middle; the same call may work in a moment."""
    return RequestError(503, "unavailable", message, retry_after_s=1)


def suggest(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for the known name whose spelling is closest, or an empty text."""
    matches = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""
