"""Reading requests' bodies: bounded in bytes, in memory all together, and in time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from inf2kit.errors import RequestError
from inf2kit.serving.asgi import DisconnectedError, Receive, body_parts
from inf2kit.serving.wire import decode_body

#: Most bytes of a body: SageMaker's "25 MB" in its larger meaning. The model server is told the same; its own
#: default is 6,553,500.
MAX_BODY = 26_214_400
#: Most bytes of all bodies together, and bytes of a body that is too small to count.
_BUDGET, _FREE = 64 * 1024 * 1024, 64 * 1024
#: Seconds in which a body must arrive.
_BODY_S = 10.0
#: Bytes above which a body is checked before it is parsed: ``[{},{},...]`` takes 27 times as many.
_LARGE = 256 * 1024
#: Most bytes outside of texts (braces, commas, numbers), and most quotation marks, of such a body.
_MAX_STRUCTURE = 256 * 1024


class Bodies:
    """Reads bodies for one endpoint.

    Attributes:
        limit: Most bytes of a body.
    """

    def __init__(self) -> None:
        self.limit = MAX_BODY
        self._budget = _Budget()
        # One large body at a time: parsing holds the interpreter's lock, so several would only delay others.
        self._parsing = asyncio.Lock()

    @asynccontextmanager
    async def read(self, receive: Receive, headers: Mapping[str, str]) -> AsyncIterator[bytearray]:
        """A request's body. Its bytes count against the budget until the context ends.

        Raises:
            RequestError: 413 if it is too large, 429 if the budget is used up, 408 if it arrives too slowly,
                400 if the connection closes before its end.
        """
        body = bytearray()
        share = _Share(self._budget)
        try:
            declared = headers.get("content-length", "")
            if re.fullmatch("[0-9]{1,18}", declared) and int(declared) <= self.limit:
                share.grow(int(declared))
            try:
                await asyncio.wait_for(self._receive(receive, body, share), _BODY_S)
            except asyncio.TimeoutError:
                raise RequestError(
                    408, "slow_body", f"the body did not come within {_BODY_S:g} s; send it at once"
                ) from None
            except DisconnectedError:
                raise RequestError(
                    400, "disconnected", "the caller closed the connection before the body's end"
                ) from None
            yield body
        finally:
            share.release()

    async def parse(self, body: bytearray, content_type: str | None) -> object:
        """The JSON value of a body.

        Raises:
            RequestError: as ``decode_body``; 422 for a large body that is mostly not texts.
        """
        if len(body) <= _LARGE:
            return decode_body(body, content_type)
        async with self._parsing:
            return await asyncio.to_thread(_parse_large, body, content_type)

    async def _receive(self, receive: Receive, body: bytearray, share: _Share) -> None:
        too_large = False
        async for part in body_parts(receive):
            if too_large:
                continue  # read on and drop it: a caller that still sends would not see the answer
            if len(body) + len(part) > self.limit:
                too_large = True
                body.clear()
                continue
            share.grow(len(body) + len(part))
            body += part
        if too_large:
            raise RequestError(
                413,
                "body_too_large",
                f"the body is larger than {self.limit:,} bytes, the most that an endpoint takes; "
                "send a shorter text, or several calls",
            )


@dataclass
class _Budget:
    """Bytes of all bodies together.

    Attributes:
        used: Bytes in use.
    """

    used: int = 0


class _Share:
    """The bytes of the budget that one body uses."""

    def __init__(self, budget: _Budget) -> None:
        self._budget = budget
        self._used = 0

    def grow(self, size: int) -> None:
        """Use ``size`` bytes in all.

        Raises:
            RequestError: 429 if the budget is used up.
        """
        more = size - self._used if size > _FREE else 0
        if more <= 0:
            return
        if self._budget.used + more > _BUDGET:
            raise RequestError(
                429,
                "queue_full",
                f"the bodies of the calls in progress have {self._budget.used:,} bytes already; "
                "try again in a second, or send smaller ones",
                retry_after_s=1,
            )
        self._budget.used += more
        self._used += more

    def release(self) -> None:
        """Use no bytes any more."""
        self._budget.used -= self._used
        self._used = 0


def _parse_large(body: bytearray, content_type: str | None) -> object:
    # Texts lie between quotation marks that are not escaped. These calls run in C and in bounded memory.
    unescaped = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    has_many_texts = unescaped.count(b'"') > _MAX_STRUCTURE
    if has_many_texts or sum(map(len, unescaped.split(b'"')[::2])) > _MAX_STRUCTURE:
        raise RequestError(
            422,
            "invalid_body",
            f"the body has more than {_MAX_STRUCTURE // 1024} KB of JSON beside its texts; "
            "send texts or messages, and no more values than they need",
        )
    return decode_body(body, content_type)
