"""The wire: one schema for every client, read in ``request`` and written in ``response``.

It is the contract of Text Generation Inference on SageMaker (``inputs`` and ``parameters``, server-sent
events) together with OpenAI's chat completions (``messages``), told apart by the body.

This package ships inside the model package: standard library only.
"""

from inf2kit.serving.wire.parameters import Parameters
from inf2kit.serving.wire.request import GenerateRequest, decode_body, essential, parse_request
from inf2kit.serving.wire.response import Generation, Token, Writer

__all__ = [
    "GenerateRequest",
    "Generation",
    "Parameters",
    "Token",
    "Writer",
    "decode_body",
    "essential",
    "parse_request",
]
