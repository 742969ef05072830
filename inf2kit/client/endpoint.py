"""The client of one endpoint, on this machine or on AWS."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

from inf2kit.client.answers import EventReader
from inf2kit.client.base import EndpointBase, Long
from inf2kit.client.batch import Outcome, Prompt, Queue, build_call, check_batch, run_in_threads
from inf2kit.client.calls import Calls
from inf2kit.client.options import CallOptions
from inf2kit.client.progress import Counter, Progress
from inf2kit.client.requests import chat_call, raw_call, text_call
from inf2kit.client.results import TextResult
from inf2kit.client.retry import BackOff, RetryBudget
from inf2kit.client.target import Target
from inf2kit.client.text_stream import TextStream
from inf2kit.errors import EndpointError

if TYPE_CHECKING:
    from inf2kit.client.jobs import Job


class Endpoint(EndpointBase):
    """An endpoint by name.

    A local endpoint with that name is called if it is running, unless AWS is asked for: by a region, profile,
    session or client, or by AWS_PROFILE or AWS_ENDPOINT_URL in the environment. Otherwise AWS is called, with
    the region that every command takes (``inf2kit.aws``). ``repr`` shows where calls go. Threads may share an
    endpoint.

    A call that was refused before anything was generated is repeated, twice at most: ``with_options`` changes
    that. A call that timed out or broke off is not, as that would be a second generation.

    Args:
        name: The EndpointName.
        endpoint_url: The address to call; without it, the address is looked up.
        region_name: The AWS region, instead of the configured one.
        profile_name: A profile of the AWS configuration, such as that of another account.
        session: A ``boto3.session.Session`` with credentials and region of its own.
        client: A ``sagemaker-runtime`` client of one's own, which is used as it is: with its own timeouts,
            and with its own repetitions, which may be further generations.

    Raises:
        EndpointError: no endpoint can have this name, no region is configured for AWS, the profile does not
            exist, or arguments contradict each other.
    """

    _calls: Calls

    def __init__(
        self,
        name: str,
        *,
        endpoint_url: str | None = None,
        region_name: str | None = None,
        profile_name: str | None = None,
        session: Any = None,
        client: Any = None,
    ) -> None:
        self._use(Target.by_name(name, endpoint_url, region_name, profile_name, session, client))

    def _use(self, target: Target) -> None:
        self._target = target
        self._calls = Calls(target.name, target.transport, CallOptions(), RetryBudget())

    @classmethod
    def from_preset(
        cls,
        preset: str,
        *,
        region_name: str | None = None,
        profile_name: str | None = None,
        session: Any = None,
        client: Any = None,
    ) -> Endpoint:
        """Return the endpoint that serves a preset: a local one, or the one that ``cdk deploy`` created.

        Args:
            preset: The preset's name, such as ``llama2-7b-throughput``, or the path of its file; for a stack
                with a stage, ``llama2-7b-throughput-dev``.
            region_name: The AWS region, instead of the configured one.
            profile_name: A profile of the AWS configuration, such as that of another account.
            session: A ``boto3.session.Session`` with credentials and region of its own.
            client: A ``sagemaker-runtime`` client that makes the calls. The endpoint is still looked up, with
                ``session`` or ``profile_name``, one of which must then be given.

        Raises:
            EndpointError: there is none, AWS cannot be called, or arguments contradict each other.
        """
        endpoint = cls.__new__(cls)
        endpoint._use(Target.by_preset(preset, region_name, profile_name, session, client))
        return endpoint

    @overload
    def generate(
        self, prompt: str, *, allow_long: bool = False, long: Long = "refuse", **parameters: Any
    ) -> TextResult: ...

    @overload
    def generate(
        self, prompt: Sequence[str], *, allow_long: bool = False, long: Long = "refuse", **parameters: Any
    ) -> list[TextResult]: ...

    def generate(
        self,
        prompt: str | Sequence[str],
        *,
        allow_long: bool = False,
        long: Long = "refuse",
        **parameters: Any,
    ) -> TextResult | list[TextResult]:
        """Continue one text, or several in one call, which one engine decodes as one batch.

        ``generate_many`` uses the rows of all engines and instances.

        Args:
            prompt: A text, or a list of texts.
            allow_long: Send a call that is expected to take too long for a whole answer.
            long: ``stream`` streams the answer of such a call, and returns the same result.
            **parameters: ``max_new_tokens``, ``temperature``, ``top_k``, ``top_p``, ``seed``, ``stop`` and
                the others of ``inf2kit.serving.wire.Parameters``.

        Returns:
            A result, or a list of results in the order of the prompts; a list for one text, too, with ``n``
            above 1. The ``n`` answers to one text come together.

        Raises:
            CallTooLongError: the answer is expected to come too late; nothing was sent.
            EndpointError: of the kind that says what happened; ``inf2kit.errors`` has the tree.
        """
        too_long = None if allow_long else self._target.check_length(prompt, parameters)
        if too_long is not None:
            if long == "stream" and isinstance(prompt, str):
                return self.stream(prompt, **parameters).read()
            raise too_long
        results = self._calls.whole(text_call(prompt, parameters))
        return results[0] if isinstance(prompt, str) and len(results) == 1 else results

    def stream(self, prompt: str, **parameters: Any) -> TextStream:
        """Continue one text, piece by piece; joined, the pieces are the text of ``generate``.

            with llama.stream("Once upon a time") as stream:
                for text in stream:
                    print(text, end="")

        Args:
            prompt: A text.
            **parameters: The same as for ``generate``.

        Raises:
            EndpointRequestError: the request cannot be sent. All other errors come with the first piece, or
                in the middle, when the endpoint breaks off.
        """
        self._target.check_kind()
        return self._calls.stream(text_call(prompt, parameters, stream=True))

    @overload
    def chat(
        self, messages: Sequence[Mapping[str, Any]], *, stream: Literal[False] = False, **parameters: Any
    ) -> TextResult: ...

    @overload
    def chat(
        self, messages: Sequence[Mapping[str, Any]], *, stream: Literal[True], **parameters: Any
    ) -> TextStream: ...

    def chat(
        self, messages: Sequence[Mapping[str, Any]], *, stream: bool = False, **parameters: Any
    ) -> TextResult | TextStream:
        """Answer a conversation, by the model's own chat template.

            llama.chat([{"role": "user", "content": "Hi"}]).text

        Args:
            messages: The turns, each with ``role`` and ``content``.
            stream: Return the answer piece by piece.
            **parameters: The same as for ``generate``, or OpenAI's, such as ``max_tokens``.

        Raises:
            EndpointError: as for ``generate`` and ``stream``.
        """
        call = chat_call(messages, parameters, stream=stream)
        if not stream and (too_long := self._target.check_length(messages, parameters)):
            raise too_long
        return self._calls.stream(call) if stream else self._calls.whole(call)[0]

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
    ) -> Iterator[Outcome]: ...

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
    ) -> Iterator[tuple[int, Outcome]]: ...

    def generate_many(
        self,
        prompts: Iterable[Prompt],
        *,
        concurrency: int | None = None,
        as_completed: bool = False,
        progress: bool | Callable[[Progress], None] = False,
        until: Callable[[], bool] | None = None,
        **parameters: Any,
    ) -> Iterator[Outcome] | Iterator[tuple[int, Outcome]]:
        """Continue many texts, several at a time, each in a call of its own.

            for result in llama.generate_many(prompts, max_new_tokens=64):
                print(result if isinstance(result, EndpointError) else result.text)

        A prompt that failed has its ``EndpointError`` in place of a result, so the others are not lost. When
        the endpoint is full or throttled, all callers wait together.

        Args:
            prompts: Texts, the messages of chats, or requests with ``inputs`` or ``messages`` and parameters
                of their own. They are taken as they are needed.
            concurrency: Number of calls at the same time. The default is the rows of all instances of an
                endpoint found by its preset, else 8.
            as_completed: Yield each result as it comes, with the index of its prompt, rather than in order.
            progress: True prints a line to the standard error; a function is called after each prompt.
            until: Asked before each call, in any thread. Once it was true, no further call begins, and the
                outcomes of those that run are the last.
            **parameters: The same as for ``generate``.

        Yields:
            A ``TextResult`` or an ``EndpointError`` for each prompt, in their order; with ``as_completed``
            pairs of index and that.

        Raises:
            EndpointRequestError: an argument is wrong.
        """
        count = self._target.concurrency if concurrency is None else concurrency
        counter = Counter(check_batch(prompts, count, parameters), progress)
        self._target.keep_connections(count)
        back_off = BackOff()

        def call_one(prompt: Prompt) -> Outcome:
            if too_long := self._target.check_length(prompt, parameters):
                return too_long
            try:
                return self._calls.whole(build_call(prompt, parameters), back_off)[0]
            except EndpointError as error:
                return error

        def run() -> Iterator[tuple[int, Outcome]]:
            queued = Queue(prompts, count, in_order=not as_completed, until=until)
            for index, outcome in run_in_threads(call_one, queued, count):
                counter.add(outcome)
                yield index, outcome

        return run() if as_completed else (outcome for _, outcome in run())

    def submit(self, prompt: str | Sequence[str] | Sequence[Mapping[str, Any]], **parameters: Any) -> Job:
        """Call an asynchronous endpoint, which answers into S3 within an hour. The call is sent once.

            job = llama.submit("Once upon a time", max_new_tokens=2000)
            print(job.result(timeout=600).text)

        Args:
            prompt: A text, a list of texts, or the messages of a chat. A request of more than 128,000 bytes
                goes through S3, where the stack of the endpoint allows it.
            **parameters: The same as for ``generate``.

        Raises:
            EndpointError: the endpoint is not asynchronous, refused the call, or cannot be reached.
        """
        from inf2kit.client.submission import submit

        return submit(self._target, prompt, parameters)

    def openai(self, *, lifetime_s: int = 900) -> dict[str, Any]:
        """Return the arguments of an OpenAI client: its address, and tokens that renew themselves.

            client = openai.OpenAI(**llama.openai())

        A new token is signed for each request, with the endpoint's own credentials and without the network.
        For a client that takes no function for ``api_key``, call it: ``llama.openai()["api_key"]()``.
        The route was never called on AWS yet; docs/client.md says what is known of it.

        Args:
            lifetime_s: Seconds that a token is valid, from its signature; at most 12 hours. It ends earlier
                with temporary credentials.

        Raises:
            EndpointError: the endpoint is asynchronous, or was made with ``client=``, whose credentials are
                not known. The tokens raise it too, where there are no credentials.
        """
        tokens = self._target.bearer_tokens(lifetime_s)
        return {"base_url": self._target.openai_url, "api_key": tokens.make}

    def stream_events(self, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the decoded server-sent events of a streamed call as they come.

        Args:
            body: A whole request, in the schema of Text Generation Inference or of OpenAI, with ``stream``
                true.

        Raises:
            EndpointError: as for ``stream``.
        """
        _, stream = self._calls.open_stream(raw_call(body, stream=True))
        try:
            reader = EventReader(self.name, stream.request_id)
            for part in stream:
                yield from reader.feed(part)
            yield from reader.end()
        finally:
            # Ends the generation of a caller that stops early; without it, garbage collection would.
            stream.close()
