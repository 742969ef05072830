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

#: What SageMaker lets through to a container, and a little more: the model server's own limit.
MAX_BODY = 6_553_500
#: Bytes of all bodies that are inside, and of a body that is too small to count.
_BUDGET, _FREE = 64 * 1024 * 1024, 64 * 1024
#: Seconds in which a body must come.
_BODY_S = 10.0
#: A longer body is looked at before it is parsed: ``[{},{},...]`` takes 27 times its bytes as objects.
_LARGE = 256 * 1024
#: Bytes and quotation marks of such a body beside its texts: braces, commas, numbers.
_MAX_STRUCTURE = 256 * 1024


class Bodies:
    """Reads bodies for one endpoint.

    Attributes:
        limit: Bytes that a body may have, from the model's shapes once it is loaded.
    """

    def __init__(self) -> None:
        self.limit = MAX_BODY
        self._budget = _Budget()
        # One at a time: the interpreter parses one at a time anyway, and answers nobody meanwhile.
        self._parsing = asyncio.Lock()

    @asynccontextmanager
    async def read(self, receive: Receive, headers: Mapping[str, str]) -> AsyncIterator[bytearray]:
        """A request's body, whose bytes count until the call is over.

        Raises:
            RequestError: 413 for one that is too large, 429 where too many are inside already, 408 for one
                that comes too slowly, 400 for one that does not come whole.
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
            share.give_back()

    async def parse(self, body: bytearray, content_type: str | None) -> object:
        """The body's JSON value.

        Raises:
            RequestError: as ``decode_body``; 422 for a large body that is not texts for the most part.
        """
        if len(body) <= _LARGE:
            return decode_body(body, content_type)
        async with self._parsing:
            return await asyncio.to_thread(_parse_large, body, content_type)

    async def _receive(self, receive: Receive, body: bytearray, share: _Share) -> None:
        too_large = False
        async for part in body_parts(receive):
            if too_large:
                continue  # read on without keeping it: a caller that still sends would not see the answer
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
                f"the body is larger than {self.limit:,} bytes, the most that this model's shapes can use; "
                "send a shorter text, or several calls",
            )


@dataclass
class _Budget:
    """Bytes that the bodies of all calls have together."""

    taken: int = 0


class _Share:
    """What one body takes of the budget."""

    def __init__(self, budget: _Budget) -> None:
        self._budget = budget
        self._taken = 0

    def grow(self, size: int) -> None:
        """The body has so many bytes now, or will have.

        Raises:
            RequestError: 429 where the budget does not have them.
        """
        more = size - self._taken if size > _FREE else 0
        if more <= 0:
            return
        if self._budget.taken + more > _BUDGET:
            raise RequestError(
                429,
                "queue_full",
                f"the bodies of the calls that are inside have {self._budget.taken:,} bytes already; "
                "try again in a second, or send smaller ones",
                retry_after_s=1,
            )
        self._budget.taken += more
        self._taken += more

    def give_back(self) -> None:
        """The body is gone."""
        self._budget.taken -= self._taken
        self._taken = 0


def _parse_large(body: bytearray, content_type: str | None) -> object:
    # In C throughout, and in bounded memory: texts lie between quotation marks that are not escaped.
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    many = plain.count(b'"') > _MAX_STRUCTURE
    if many or sum(map(len, plain.split(b'"')[::2])) > _MAX_STRUCTURE:
        raise RequestError(
            422,
            "invalid_body",
            f"the body has more than {_MAX_STRUCTURE // 1024} KB of JSON beside its texts; "
            "send texts or messages, and no more values than they need",
        )
    return decode_body(body, content_type)
