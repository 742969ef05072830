"""The wire format: requests are read in ``request``, answers are written in ``response``.

There are two schemas, and the body shows which one a request uses: that of Text Generation Inference on
SageMaker (``inputs`` and ``parameters``, server-sent events), and OpenAI's chat completions (``messages``).
docs/wire.md describes both.

This package ships inside the model package: standard library only.
"""

from inf2kit.serving.wire.parameters import Parameters
from inf2kit.serving.wire.request import (
    Chat,
    Form,
    GenerateRequest,
    decode_body,
    drop_ignored_values,
    parse_request,
)
from inf2kit.serving.wire.response import Generation, ResponseWriter, Token

__all__ = [
    "Chat",
    "Form",
    "GenerateRequest",
    "Generation",
    "Parameters",
    "ResponseWriter",
    "Token",
    "decode_body",
    "drop_ignored_values",
    "parse_request",
]
