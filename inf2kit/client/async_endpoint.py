"""The client of one endpoint for asyncio: the calls of ``Endpoint``, awaitable, without threads."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, overload

import anyio.to_thread

from inf2kit.client.answers import EventReader
from inf2kit.client.async_batch import run_in_tasks
from inf2kit.client.async_calls import AsyncCalls
from inf2kit.client.async_text_stream import AsyncTextStream
from inf2kit.client.base import EndpointBase, Long
from inf2kit.client.batch import Outcome, Prompt, Queue, build_call, check_batch
from inf2kit.client.options import CallOptions
from inf2kit.client.progress import Counter, Progress
from inf2kit.client.requests import chat_call, raw_call, text_call
from inf2kit.client.results import TextResult
from inf2kit.client.retry import BackOff, RetryBudget
from inf2kit.client.target import Target
from inf2kit.errors import EndpointError

if TYPE_CHECKING:
    from inf2kit.client.async_jobs import AsyncJob


class AsyncEndpoint(EndpointBase):
    """An endpoint by name, for asyncio. It is found, and its calls are repeated, as by ``Endpoint``.

        async with AsyncEndpoint("llama2-7b-throughput") as llama:
            result = await llama.generate("What is deep learning?", max_new_tokens=128)

    The tasks of one event loop may share an endpoint. Without ``async with``, ``aclose`` closes its
    connections.

    Args:
        name: The EndpointName.
        endpoint_url: The address to call; without it, the address is looked up.
        region_name: The AWS region, instead of the configured one.
        profile_name: A profile of the AWS configuration, such as that of another account.
        session: A ``boto3.session.Session`` with credentials and region of its own.

    Raises:
        EndpointError: no endpoint can have this name, no region is configured for AWS, the profile does not
            exist, or arguments contradict each other.
    """

    _calls: AsyncCalls

    def __init__(
        self,
        name: str,
        *,
        endpoint_url: str | None = None,
        region_name: str | None = None,
        profile_name: str | None = None,
        session: Any = None,
    ) -> None:
        self._use(Target.by_name(name, endpoint_url, region_name, profile_name, session, None))

    def _use(self, target: Target) -> None:
        self._target = target
        self._calls = AsyncCalls(target.name, target.async_transport(), CallOptions(), RetryBudget())

    @classmethod
    async def from_preset(
        cls,
        preset: str,
        *,
        region_name: str | None = None,
        profile_name: str | None = None,
        session: Any = None,
    ) -> AsyncEndpoint:
        """Return the endpoint that serves a preset, as ``Endpoint.from_preset`` does.

        Args:
            preset: The preset's name, such as ``llama2-7b-throughput``.
            region_name: The AWS region, instead of the configured one.
            profile_name: A profile of the AWS configuration, such as that of another account.
            session: A ``boto3.session.Session`` with credentials and region of its own.

        Raises:
            EndpointError: as for ``Endpoint.from_preset``.
        """
        target = await anyio.to_thread.run_sync(
            Target.by_preset, preset, region_name, profile_name, session, None
        )
        endpoint = cls.__new__(cls)
        endpoint._use(target)
        return endpoint

    async def __aenter__(self) -> AsyncEndpoint:
        """Return the endpoint, whose connections are closed at the end of the block."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections. A further call opens new ones."""
        await self._calls.transport.aclose()

    @overload
    async def generate(
        self, prompt: str, *, allow_long: bool = False, long: Long = "refuse", **parameters: Any
    ) -> TextResult: ...

    @overload
    async def generate(
        self, prompt: Sequence[str], *, allow_long: bool = False, long: Long = "refuse", **parameters: Any
    ) -> list[TextResult]: ...

    async def generate(
        self,
        prompt: str | Sequence[str],
        *,
        allow_long: bool = False,
        long: Long = "refuse",
        **parameters: Any,
    ) -> TextResult | list[TextResult]:
        """Continue one text, or several in one call, as ``Endpoint.generate`` does.

        Raises:
            CallTooLongError: the answer is expected to come too late; nothing was sent.
            EndpointError: of the kind that says what happened; ``inf2kit.errors`` has the tree.
        """
        too_long = None if allow_long else self._target.check_length(prompt, parameters)
        if too_long is not None:
            if long == "stream" and isinstance(prompt, str):
                return await self.stream(prompt, **parameters).read()
            raise too_long
        results = await self._calls.whole(text_call(prompt, parameters))
        return results[0] if isinstance(prompt, str) and len(results) == 1 else results

    def stream(self, prompt: str, **parameters: Any) -> AsyncTextStream:
        """Continue one text, piece by piece, as ``Endpoint.stream`` does.

            async with llama.stream("Once upon a time") as stream:
                async for text in stream:
                    print(text, end="")

        Raises:
            EndpointRequestError: the request cannot be sent. All other errors come with the first piece, or
                in the middle, when the endpoint breaks off.
        """
        self._target.check_kind()
        return self._calls.stream(text_call(prompt, parameters, stream=True))

    @overload
    def chat(
        self, messages: Sequence[Mapping[str, Any]], *, stream: Literal[False] = False, **parameters: Any
    ) -> Coroutine[Any, Any, TextResult]: ...

    @overload
    def chat(
        self, messages: Sequence[Mapping[str, Any]], *, stream: Literal[True], **parameters: Any
    ) -> AsyncTextStream: ...

    def chat(
        self, messages: Sequence[Mapping[str, Any]], *, stream: bool = False, **parameters: Any
    ) -> Coroutine[Any, Any, TextResult] | AsyncTextStream:
        """Answer a conversation, as ``Endpoint.chat`` does. A stream is not awaited.

            (await llama.chat([{"role": "user", "content": "Hi"}])).text

        Raises:
            EndpointError: as for ``generate`` and ``stream``.
        """
        call = chat_call(messages, parameters, stream=stream)
        if not stream and (too_long := self._target.check_length(messages, parameters)):
            raise too_long
        return self._calls.stream(call) if stream else self._calls.one(call)

    @overload
    def generate_many(
        self,
        prompts: Iterable[Prompt],
        *,
        concurrency: int | None = None,
        as_completed: Literal[False] = False,
        progress: bool | Callable[[Progress], None] = False,
        until: Callable[[], bool] | None = None,
        **parameters: Any,
    ) -> AsyncGenerator[Outcome, None]: ...

    @overload
    def generate_many(
        self,
        prompts: Iterable[Prompt],
        *,
        concurrency: int | None = None,
        as_completed: Literal[True],
        progress: bool | Callable[[Progress], None] = False,
        until: Callable[[], bool] | None = None,
        **parameters: Any,
    ) -> AsyncGenerator[tuple[int, Outcome], None]: ...

    def generate_many(
        self,
        prompts: Iterable[Prompt],
        *,
        concurrency: int | None = None,
        as_completed: bool = False,
        progress: bool | Callable[[Progress], None] = False,
        until: Callable[[], bool] | None = None,
        **parameters: Any,
    ) -> AsyncGenerator[Outcome, None] | AsyncGenerator[tuple[int, Outcome], None]:
        """Continue many texts, several at a time, as ``Endpoint.generate_many`` does.

            async for result in llama.generate_many(prompts, max_new_tokens=64):
                ...

        Calls that run are cancelled if the caller stops early.

        Raises:
            EndpointRequestError: an argument is wrong.
        """
        count = self._target.concurrency if concurrency is None else concurrency
        counter = Counter(check_batch(prompts, count, parameters), progress)
        back_off = BackOff()

        async def call_one(prompt: Prompt) -> Outcome:
            if too_long := self._target.check_length(prompt, parameters):
                return too_long
            try:
                return (await self._calls.whole(build_call(prompt, parameters), back_off))[0]
            except EndpointError as error:
                return error

        async def pairs() -> AsyncGenerator[tuple[int, Outcome], None]:
            queued = Queue(prompts, count, in_order=not as_completed, until=until)
            async with aclosing(run_in_tasks(call_one, queued, count)) as outcomes:
                async for index, outcome in outcomes:
                    counter.add(outcome)
                    yield index, outcome

        async def ordered() -> AsyncGenerator[Outcome, None]:
            async with aclosing(pairs()) as numbered:
                async for _, outcome in numbered:
                    yield outcome

        return pairs() if as_completed else ordered()

    async def submit(
        self, prompt: str | Sequence[str] | Sequence[Mapping[str, Any]], **parameters: Any
    ) -> AsyncJob:
        """Call an asynchronous endpoint, as ``Endpoint.submit`` does, in a thread.

        Raises:
            EndpointError: as for ``Endpoint.submit``.
        """
        from inf2kit.client.async_jobs import AsyncJob
        from inf2kit.client.submission import submit

        return AsyncJob(await anyio.to_thread.run_sync(submit, self._target, prompt, parameters))

    def openai(self, *, lifetime_s: int = 900) -> dict[str, Any]:
        """Return the arguments of an asynchronous OpenAI client, as ``Endpoint.openai`` does.

            client = openai.AsyncOpenAI(**llama.openai())

        Args:
            lifetime_s: Seconds that a token is valid, from its signature; at most 12 hours.

        Raises:
            EndpointError: as for ``Endpoint.openai``.
        """
        tokens = self._target.bearer_tokens(lifetime_s)
        return {"base_url": self._target.openai_url, "api_key": tokens.make_async}

    async def stream_events(self, body: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Yield the decoded server-sent events of a streamed call, as ``Endpoint.stream_events`` does.

        Raises:
            EndpointError: as for ``stream``.
        """
        _, stream = await self._calls.open_stream(raw_call(body, stream=True))
        try:
            reader = EventReader(self.name, stream.request_id)
            async for part in stream:
                for event in reader.feed(part):
                    yield event
            for event in reader.end():
                yield event
        finally:
            await stream.close()
