"""The client of endpoints. It is light: boto3 is imported when the first endpoint is created."""

from inf2kit.client.endpoint import Endpoint
from inf2kit.client.generation import TextResult

__all__ = ["Endpoint", "TextResult"]
