"""The binary event stream in which sagemaker-runtime sends a streamed answer.

A frame is: total length, header length, checksum of these two, headers, payload, checksum of all before.
A header is: length of the name, name, type 7 (text), length of the value, value.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

CONTENT_TYPE = "application/vnd.amazon.eventstream"


def payload_part(data: bytes) -> bytes:
    """A part of the answer's body."""
    headers = {
        ":message-type": "event",
        ":event-type": "PayloadPart",
        ":content-type": "application/octet-stream",
    }
    return frame(headers, data)


def model_stream_error(message: str, code: str) -> bytes:
    """The end of a stream that the container broke off."""
    import json

    headers = {
        ":message-type": "exception",
        ":exception-type": "ModelStreamError",
        ":content-type": "application/json",
    }
    return frame(headers, json.dumps({"Message": message, "ErrorCode": code}).encode())


def frame(headers: Mapping[str, str], payload: bytes) -> bytes:
    """One frame; headers are text."""
    block = bytearray()
    for name, value in headers.items():
        encoded = value.encode()
        block += struct.pack("!B", len(name)) + name.encode()
        block += struct.pack("!BH", 7, len(encoded)) + encoded
    prelude = struct.pack("!II", 16 + len(block) + len(payload), len(block))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + bytes(block) + payload
    return message + struct.pack("!I", zlib.crc32(message))
