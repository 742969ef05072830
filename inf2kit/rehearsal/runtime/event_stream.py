"""AWS's binary event stream, the format of streamed responses.

A frame is: total length, length of the headers, checksum of these two, headers, payload, checksum of all of
the above. A header is: length of the name, name, type 7 (string), length of the value, value.
``botocore.eventstream`` decodes the same format.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping

CONTENT_TYPE = "application/vnd.amazon.eventstream"
_STRING = 7


def encode_payload_part(data: bytes) -> bytes:
    """Encode a part of the response's body."""
    headers = {
        ":message-type": "event",
        ":event-type": "PayloadPart",
        ":content-type": "application/octet-stream",
    }
    return encode_frame(headers, data)


def encode_model_stream_error(message: str, code: str) -> bytes:
    """Encode the exception that ends a stream early."""
    headers = {
        ":message-type": "exception",
        ":exception-type": "ModelStreamError",
        ":content-type": "application/json",
    }
    return encode_frame(headers, json.dumps({"Message": message, "ErrorCode": code}).encode())


def encode_frame(headers: Mapping[str, str], payload: bytes) -> bytes:
    """Encode one frame with string headers."""
    block = bytearray()
    for name, value in headers.items():
        encoded = value.encode()
        block += struct.pack("!B", len(name)) + name.encode()
        block += struct.pack("!BH", _STRING, len(encoded)) + encoded
    prelude = struct.pack("!II", 16 + len(block) + len(payload), len(block))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + bytes(block) + payload
    return message + struct.pack("!I", zlib.crc32(message))
