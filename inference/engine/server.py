"""The engine process: the model on the main thread, the Unix socket on another.

Run as ``python -m engine.server MODEL_DIR``; the supervisor does.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, NoReturn

from engine import backend as backends
from engine.lifetime import READY_FILE, REASON_FILE, TERMINAL, end_with_parent, say
from engine.protocol import MAX_LINE, Event, encode, error_event
from engine.scheduler import Scheduler
from engine.settings import Settings
from engine.slots import Call, Job
from inf2kit.errors import ModelDirectoryError, RequestError, unavailable
from inf2kit.wire import GenerateRequest, Generation, Token, parse_request


class EngineServer:
    """Takes calls from the socket to the scheduler, and events back."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loop = asyncio.new_event_loop()
        self._state = "loading"
        self._watchers: set[asyncio.Queue[Event]] = set()
        self._backend: backends.Backend
        self._tokenizer: Any = None
        self._longest_token = 1
        self._scheduler: Scheduler | None = None
        self._notices: list[str] = []
        # One thread: a tokenizer is not made for several, and a text of 6 MB must not stall the socket.
        self._tokenizing = ThreadPoolExecutor(1)

    def listen(self) -> None:
        """Open the socket, on a thread of its own, so that callers are told that the model is loading."""
        opened: Future[None] = Future()
        threading.Thread(target=self._listen, args=(opened,), daemon=True, name="socket").start()
        opened.result()

    def load(self) -> None:
        """Load, and prove that the model answers, on the thread that will serve it.

        Raises:
            ModelDirectoryError: the model cannot be loaded.
        """
        settings = self._settings
        self._backend = backend = backends.create(settings)
        backend.load()
        self._tokenizer = _load_tokenizer(settings)
        self._longest_token = max(map(len, self._tokenizer.get_vocab()))
        # Settles what a first call changes in a tokenizer, before there are several threads.
        self._tokenizer("a")
        eos_ids = _eos_ids(settings, self._tokenizer)
        _warm_up(backend)
        self._notices = [notice for notice in (backend.notice, settings.notice) if notice]
        self._scheduler = Scheduler(
            backend, _PlainDecoder(self._tokenizer), eos_ids, queue_size=settings.queue_size
        )
        (settings.run_dir / READY_FILE).touch()
        self._loop.call_soon_threadsafe(self._set_state, "ready")
        say("engine", f"ready: {settings.backend}, {settings.shapes}")

    def serve(self) -> None:
        """Serve for ever on this thread."""
        assert self._scheduler is not None  # noqa: S101
        self._scheduler.run()

    def _listen(self, opened: Future[None]) -> None:
        asyncio.set_event_loop(self._loop)
        path = self._settings.socket_path
        try:
            path.unlink(missing_ok=True)
            self._loop.run_until_complete(
                asyncio.start_unix_server(self._connected, str(path), limit=MAX_LINE)
            )
        except OSError as error:
            reason = f"the socket {path} cannot be opened ({error}); set INF2KIT_RUN_DIR to a short path"
            opened.set_exception(ModelDirectoryError(reason))
            return
        opened.set_result(None)
        self._loop.run_forever()

    def _set_state(self, state: str) -> None:
        self._state = state
        for watcher in self._watchers:
            watcher.put_nowait({"event": "status", "state": state})

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = json.loads(await reader.readline())
            if request["op"] == "status":
                await self._tell_status(reader, writer)
            else:
                await self._generate(request, reader, writer)
        except (OSError, ValueError):
            pass  # the caller went away, in the middle of a line or of an answer
        finally:
            writer.close()

    async def _tell_status(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        states: asyncio.Queue[Event] = asyncio.Queue()
        states.put_nowait({"event": "status", "state": self._state})
        self._watchers.add(states)
        try:
            await _pump(states, reader, writer, last=lambda _: False)
        finally:
            self._watchers.discard(states)

    async def _generate(
        self, call: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        events: asyncio.Queue[Event] = asyncio.Queue()
        jobs: list[Job] = []
        left = 0
        try:
            scheduler = self._scheduler
            if scheduler is None:
                raise unavailable("the model is loading; try again in a moment")
            request = parse_request(call["body"], max_prompts=self._settings.max_prompts)
            self._backend.check(request.parameters)
            jobs = await self._jobs(request, call, events)
            left = len(jobs)
            events.put_nowait(
                {
                    "event": "accepted",
                    "form": request.form,
                    "details": request.parameters.details,
                    "include_usage": request.include_usage,
                    "model": self._settings.model_name,
                    "warnings": [*self._notices, *request.warnings],
                }
            )
            scheduler.submit(jobs)
        except RequestError as error:
            events.put_nowait(error_event(error))

        def last(event: Event) -> bool:
            nonlocal left
            left -= event["event"] == "end"
            return bool(left == 0 or event["event"] == "error")

        try:
            await _pump(events, reader, writer, last=last)
            writer.write(encode({"event": "done"}))
            await writer.drain()
        finally:
            for job in jobs:
                job.cancelled = True
            if self._scheduler is not None:
                self._scheduler.wake()

    async def _jobs(
        self, request: GenerateRequest, call: dict[str, Any], events: asyncio.Queue[Event]
    ) -> list[Job]:
        arrival = float(call.get("arrival") or time.monotonic())
        prompts = [(text, text) for text in request.prompts] if request.prompts else [("", None)]
        jobs = []
        shared = Call()
        for index, (text, prompt) in enumerate(prompts):
            ids = await self._loop.run_in_executor(self._tokenizing, self._encode, prompt, request)
            parameters = request.parameters
            allowed = self._settings.shapes.new_tokens_within(len(ids), parameters.max_new_tokens)
            warnings: tuple[str, ...] = ()
            if parameters.max_new_tokens is not None and allowed < parameters.max_new_tokens:
                warnings = (
                    f"max_new_tokens was lowered to {allowed}: the prompt has {len(ids)} tokens and "
                    f"sequence_length is {self._settings.shapes.sequence_length}",
                )
            jobs.append(
                Job(
                    prompt_ids=ids,
                    parameters=parameters,
                    max_new_tokens=allowed,
                    deadline=arrival + self._settings.deadline_s,
                    arrival=arrival,
                    prompt_text=text if parameters.return_full_text else "",
                    warnings=warnings,
                    with_logprobs=bool(call.get("stream")) or parameters.details,
                    call=shared,
                    **self._callbacks(index, events, with_tokens=bool(call.get("stream"))),
                )
            )
        return jobs

    def _callbacks(self, prompt: int, events: asyncio.Queue[Event], *, with_tokens: bool) -> dict[str, Any]:
        def put(event: Event) -> None:
            self._loop.call_soon_threadsafe(events.put_nowait, event)

        def on_token(index: int, token: Token) -> None:
            if with_tokens:
                put({"event": "token", "prompt": prompt, "index": index, "token": token.as_json()})

        def on_end(index: int, token: Token | None, generation: Generation) -> None:
            put(
                {
                    "event": "end",
                    "prompt": prompt,
                    "index": index,
                    "token": token.as_json() if token else None,
                    "generation": asdict(generation),
                }
            )

        def on_error(error: RequestError) -> None:
            put(error_event(error))

        return {"on_token": on_token, "on_end": on_end, "on_error": on_error}

    def _encode(self, prompt: str | None, request: GenerateRequest) -> list[int]:
        if prompt is not None:
            self._settings.shapes.check_characters(len(prompt), self._longest_token)
            ids = self._tokenizer(prompt)["input_ids"]
        elif self._tokenizer.chat_template is None:
            raise RequestError(
                422,
                "no_chat_template",
                "this model has no chat template (it is a base model); send 'inputs' instead of 'messages'",
            )
        else:
            messages = [dict(message) for message in request.messages]
            characters = sum(len(message["content"]) for message in messages)
            self._settings.shapes.check_characters(characters, self._longest_token)
            try:
                ids = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True)
            except Exception as error:  # a template may raise what it likes, jinja2's errors among it
                raise RequestError(
                    422, "invalid_messages", f"the model's chat template refuses the messages: {error}"
                ) from None
        if not ids:
            raise RequestError(422, "empty_inputs", "the text has no tokens; send at least one character")
        return list(ids)


class _PlainDecoder:
    """A transformers tokenizer, decoding without clean-up: the text as the model wrote it."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def decode(self, ids: Any) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text


async def _pump(
    events: asyncio.Queue[Event],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    *,
    last: Callable[[Event], bool],
) -> None:
    """Write events as they come, until the last one or until the caller closes the connection."""
    gone = asyncio.ensure_future(reader.read(1))
    try:
        while True:
            coming = asyncio.ensure_future(events.get())
            await asyncio.wait({coming, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                coming.cancel()
                raise ConnectionResetError("the caller closed the connection")
            event = coming.result()
            writer.write(encode(event))
            await writer.drain()
            if last(event):
                return
    finally:
        gone.cancel()


def _load_tokenizer(settings: Settings) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(settings.model_dir, local_files_only=True)
    except Exception as error:
        first_line = str(error).partition("\n")[0]
        raise ModelDirectoryError(
            f"the tokenizer in {settings.model_dir} cannot be loaded ({first_line}); make the package again"
        ) from error


def _eos_ids(settings: Settings, tokenizer: Any) -> frozenset[int]:
    """Every id that ends a text: the tokenizer's and those of the model's own configuration."""
    ids = {tokenizer.eos_token_id}
    for name in ("config.json", "generation_config.json"):
        path = settings.model_dir / name
        if path.exists():
            given = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
            ids.update(given if isinstance(given, list) else [given])
    return frozenset(token_id for token_id in ids if token_id is not None)


def _warm_up(backend: backends.Backend) -> None:
    """A real prefill and a real decode: ready must mean that the next call is answered."""
    backend.prefill(0, [0, 1] if backend.shapes.max_context_length > 1 else [0])
    if backend.shapes.sequence_length > 2:
        backend.decode([0], [0])
    backend.release(0)


def main(model_dir: str) -> None:
    """Serve the model in ``model_dir``."""
    end_with_parent()
    settings = Settings.read(model_dir)
    try:
        server = EngineServer(settings)
        server.listen()
        server.load()
    except ModelDirectoryError as error:
        _give_up(settings, str(error))
    except (ValueError, KeyError, OSError) as error:
        # A file that is there and not whole. Its name is in the error, or it is one of few.
        what = f"{type(error).__name__}: {error}".partition("\n")[0]
        _give_up(settings, f"a file of {model_dir} is damaged ({what}); make the package again")
    server.serve()


def _give_up(settings: Settings, reason: str) -> NoReturn:
    # The supervisor puts it into the log, once.
    (settings.run_dir / REASON_FILE).write_text(reason, encoding="utf-8")
    os._exit(TERMINAL)


if __name__ == "__main__":
    main(sys.argv[1])
