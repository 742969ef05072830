"""Calling an endpoint. This package is light: it imports boto3, and that only when an endpoint is called."""

from inf2kit.client.endpoint import Endpoint, TextResult

__all__ = ["Endpoint", "TextResult"]
