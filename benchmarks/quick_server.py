"""A server in place of SageMaker's runtime that answers after some seconds: ``quick_server.py SECONDS``.

It prints its port. What it answers is the same for every call, so that only the client is measured.
"""

from __future__ import annotations

import asyncio
import json
import sys

_BODY = json.dumps(
    [
        {
            "generated_text": " the ocean" * 20,
            "details": {"finish_reason": "length", "generated_tokens": 64, "input_length": 6, "seed": None},
        }
    ]
).encode()
_ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(_BODY) + _BODY
)


async def _serve(delay_s: float) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                (length,) = [
                    line[15:] for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:"
                ]
                await reader.readexactly(int(length))
                if delay_s:
                    await asyncio.sleep(delay_s)
                writer.write(_ANSWER)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(float(sys.argv[1])))
