"""What the rehearsal cloud answers where AWS would refuse."""

from __future__ import annotations


class AwsError(Exception):
    """An error of an AWS service, as its client will see it.

    Args:
        code: Such as ``ValidationException``.
        message: A sentence.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
