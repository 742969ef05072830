"""The error with which the rehearsal cloud refuses a request."""

from __future__ import annotations


class AwsError(Exception):
    """An error of an AWS service, as its client sees it.

    Args:
        code: The service's error code, such as ``ValidationException``.
        message: A sentence for the caller.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
