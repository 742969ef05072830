"""The engine process: the model on the main thread, the Unix socket on another.

Run as ``python -m engine.server MODEL_DIR``; the supervisor does.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import NoReturn

from engine.backend import DeviceBusyError
from engine.intake import Intake
from engine.integrity import check_files
from engine.lifetime import BUSY, READY_FILE, REASON_FILE, TERMINAL, end_with_parent, say
from engine.loading import load
from engine.metrics import EngineMetrics
from engine.protocol import MAX_LINE, Event, encode, error_event
from engine.scheduler import Scheduler
from engine.settings import Settings
from engine.slots import Job
from inf2kit.errors import ModelDirectoryError, RequestError, unavailable

Events = asyncio.Queue[Event]


class EngineServer:
    """Takes calls from the socket to the scheduler, and events back."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loop = asyncio.new_event_loop()
        self._state = "loading"
        self._watchers: set[Events] = set()
        self._metrics = EngineMetrics(settings.shapes.batch_size)
        self._intake: Intake
        self._scheduler: Scheduler | None = None
        # One thread: a tokenizer is not made for several, and a text of 6 MB must not stall the socket.
        self._tokenizing = ThreadPoolExecutor(1)
        self._outbox: list[tuple[Events, Event]] = []

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
        check_files(settings.model_dir, settings.run_dir)
        self._intake, self._scheduler = load(settings, self._metrics, self._send_outbox)
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
            elif request["op"] == "metrics":
                writer.write(encode({"event": "metrics", "text": self._metrics.text()}))
                writer.write(encode({"event": "done"}))
                await writer.drain()
            else:
                await self._generate(request, reader, writer)
        except (OSError, ValueError):
            pass  # the caller went away, in the middle of a line or of an answer
        finally:
            writer.close()

    async def _tell_status(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        states: Events = asyncio.Queue()
        states.put_nowait({"event": "status", "state": self._state})
        self._watchers.add(states)
        try:
            await _pump(states, reader, writer, last=lambda _: False)
        finally:
            self._watchers.discard(states)

    async def _generate(
        self, call: Event, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        events: Events = asyncio.Queue()
        jobs: list[Job] = []
        left = 0
        try:
            scheduler = self._scheduler
            if scheduler is None:
                raise unavailable("the model is loading; try again in a moment")
            accepted, jobs = await self._loop.run_in_executor(
                self._tokenizing, self._intake.read, call, partial(self._tell, events)
            )
            left = len(jobs)
            events.put_nowait(accepted)
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

    # Once a step and not once a token: every wake-up of the loop makes the two threads wait for each other.

    def _tell(self, events: Events, event: Event) -> None:
        self._outbox.append((events, event))

    def _send_outbox(self) -> None:
        if self._outbox:
            self._loop.call_soon_threadsafe(_deliver, self._outbox)
            self._outbox = []


def _deliver(outbox: list[tuple[Events, Event]]) -> None:
    for events, event in outbox:
        events.put_nowait(event)


async def _pump(
    events: Events,
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
    except DeviceBusyError as error:
        _give_up(settings, str(error), BUSY)
    except (ValueError, KeyError, OSError) as error:
        # A file that is there and not whole. Its name is in the error, or it is one of few.
        what = f"{type(error).__name__}: {error}".partition("\n")[0]
        _give_up(settings, f"a file of {model_dir} is damaged ({what}); make the package again")
    server.serve()


def _give_up(settings: Settings, reason: str, status: int = TERMINAL) -> NoReturn:
    # The supervisor puts it into the log, once.
    (settings.run_dir / REASON_FILE).write_text(reason, encoding="utf-8")
    os._exit(status)


if __name__ == "__main__":
    main(sys.argv[1])
