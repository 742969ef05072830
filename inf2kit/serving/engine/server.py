"""The engine process: the model on the main thread, the Unix socket on another.

The supervisor starts it as ``python -m inf2kit.serving.engine.server MODEL_DIR``.
"""

from __future__ import annotations

import asyncio
import errno
import faulthandler
import gc
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from inf2kit.errors import ModelDirectoryError, RequestError, unavailable
from inf2kit.serving.engine.backend import DeviceBusyError
from inf2kit.serving.engine.events import (
    DoneEvent,
    EndEvent,
    ErrorEvent,
    Event,
    MetricsEvent,
    StatusEvent,
    encode_event,
)
from inf2kit.serving.engine.integrity import check_files
from inf2kit.serving.engine.metrics import EngineMetrics
from inf2kit.serving.engine.protocol import MAX_LINE, EngineCall, decode_call
from inf2kit.serving.engine.request import Request
from inf2kit.serving.log import log
from inf2kit.serving.settings import Settings
from inf2kit.serving.supervision.heartbeat import ENGINE, Heartbeat
from inf2kit.serving.supervision.processes import end_with_parent
from inf2kit.serving.supervision.run_state import CANNOT_LOAD, DEVICE_BUSY, write_reason

if TYPE_CHECKING:
    from inf2kit.serving.engine.build import Engine
    from inf2kit.serving.engine.scheduler import Scheduler

#: Seconds between two questions whether the socket's thread makes progress.
_ASK_S = 1.0
#: The events of one connection; None where its caller has closed it.
Events = asyncio.Queue[Event | None]


class EngineServer:
    """Passes calls from the socket to the scheduler, and their events back.

    Args:
        settings: The endpoint's settings.
        heartbeat: Begins when the model has answered.
    """

    def __init__(self, settings: Settings, heartbeat: Heartbeat) -> None:
        self._settings = settings
        self._loop = asyncio.new_event_loop()
        self._heartbeat = _ServerHeartbeat(heartbeat.fd, self._loop)
        self._engine: Engine | None = None
        self._watchers: set[Events] = set()
        self._metrics = EngineMetrics(settings.shapes.batch_size)
        # One thread: a tokenizer must not be used by several, and a text of 25 MB must not stall the socket.
        self._input_thread = ThreadPoolExecutor(1)
        self._outbox: list[tuple[Events, Event]] = []
        # The requests of each call, by the call's arrival, which identifies it.
        self._requests: dict[float, list[Request]] = {}

    def listen(self) -> None:
        """Open the socket on a thread of its own, so that callers are answered while the model loads."""
        opened: Future[None] = Future()
        threading.Thread(target=self._listen, args=(opened,), daemon=True, name="socket").start()
        opened.result()

    def load(self) -> Scheduler:
        """Check the files and load the model, on the thread that will run the scheduler.

        Returns:
            The scheduler to run.

        Raises:
            ModelDirectoryError: the model cannot be loaded.
            DeviceBusyError: another process holds the device.
        """
        settings = self._settings
        check_files(settings.model_dir, settings.run_dir)
        # Imported late: torch and transformers take seconds, in which callers are answered already.
        from inf2kit.serving.engine.build import build_engine

        engine = build_engine(settings, self._metrics, self._send_outbox, self._heartbeat)
        if not gc.isenabled():  # ``main`` has switched it off
            gc.collect()
            gc.freeze()
            gc.enable()
        self._loop.call_soon_threadsafe(self._set_ready, engine)
        name = f"engine {settings.engine}" if settings.engines > 1 else "engine"
        log(name, f"ready: {settings.backend}, {settings.shapes}")
        return engine.scheduler

    def _listen(self, opened: Future[None]) -> None:
        asyncio.set_event_loop(self._loop)
        path = self._settings.socket_path(self._settings.engine)
        try:
            path.unlink(missing_ok=True)
            self._loop.run_until_complete(asyncio.start_unix_server(self._answer, str(path), limit=MAX_LINE))
        except OSError as error:
            reason = f"the socket {path} cannot be opened ({error}); set INF2KIT_RUN_DIR to a short path"
            opened.set_exception(OSError(reason))  # no ModelDirectoryError: a full disk may have room again
            return
        opened.set_result(None)
        self._loop.run_forever()

    def _set_ready(self, engine: Engine) -> None:
        self._engine = engine
        for watcher in self._watchers:
            watcher.put_nowait(self._status())

    def _status(self) -> StatusEvent:
        if self._engine is None:
            return StatusEvent("loading", 0)
        return StatusEvent("ready", self._engine.input_processor.longest_token)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection."""
        try:
            call = decode_call(await reader.readline())
            if call.op == "generate":
                await self._generate(call, reader, writer)
            elif call.op == "status":
                await self._send_status(reader, writer)
            else:
                if call.op == "metrics":
                    writer.write(encode_event(MetricsEvent(self._metrics.text())))
                elif self._engine is not None:
                    self._engine.scheduler.end_all()
                await _send(writer, DoneEvent())
        except (OSError, ValueError):
            pass  # the caller went away, in the middle of a line or of an answer
        finally:
            writer.close()

    async def _send_status(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        states: Events = asyncio.Queue()
        states.put_nowait(self._status())
        self._watchers.add(states)
        try:
            await _send_all(states, reader, writer, is_last=lambda _: False)
        finally:
            self._watchers.discard(states)

    async def _generate(
        self, call: EngineCall, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        events: Events = asyncio.Queue()
        requests: list[Request] = []
        try:
            engine = self._engine
            if engine is None:
                raise unavailable("the model is loading; try again in a moment")
            read = partial(
                engine.input_processor.process, call.body, partial(self._emit, events), arrival=call.arrival
            )
            accepted, requests = await self._loop.run_in_executor(self._input_thread, read)
            events.put_nowait(accepted)
            self._submit(engine.scheduler, requests, call.arrival)
        except RequestError as error:
            events.put_nowait(ErrorEvent.from_error(error))
        except Exception:
            traceback.print_exc()
            failure = RequestError(500, "internal_error", "the engine could not read this call")
            events.put_nowait(ErrorEvent.from_error(failure))
        unfinished = len(requests)

        def is_last(event: Event) -> bool:
            nonlocal unfinished
            unfinished -= isinstance(event, EndEvent)
            return unfinished == 0 or isinstance(event, ErrorEvent)

        try:
            await _send_all(events, reader, writer, is_last=is_last)
            await _send(writer, DoneEvent())
        finally:
            if call.arrival is not None and self._requests.get(call.arrival) is requests:
                del self._requests[call.arrival]
            for request in requests:
                request.cancelled = True
            if self._engine is not None:
                self._engine.scheduler.wake()

    def _submit(self, scheduler: Scheduler, requests: list[Request], arrival: float | None) -> None:
        if arrival is None:
            scheduler.submit(requests)
            return
        # After the loss of a worker the gateway makes the same call again; it replaces the worker's.
        scheduler.submit(requests, replaces=self._requests.pop(arrival, ()))
        self._requests[arrival] = requests

    # Events cross the threads once a step, not once a token: a wake-up of the loop makes both threads wait.

    def _emit(self, events: Events, event: Event) -> None:
        self._outbox.append((events, event))

    def _send_outbox(self) -> None:
        if self._outbox:
            self._loop.call_soon_threadsafe(_deliver, self._outbox)
            self._outbox = []


class _ServerHeartbeat(Heartbeat):
    """Beats only while the socket's thread makes progress too: else no call would come in or be answered.

    Args:
        fd: File descriptor of the memory of a heartbeat.
        loop: The event loop of the socket's thread.
    """

    def __init__(self, fd: int, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(fd)
        self._loop = loop
        self._asked_at = 0.0
        self._is_answered = True

    def beat(self) -> None:
        """Beat, unless the other thread owes an answer. It is asked at times, as each question wakes it."""
        if not self._is_answered:
            return
        super().beat()
        now = time.monotonic()
        if now > self._asked_at + _ASK_S:
            self._asked_at, self._is_answered = now, False
            self._loop.call_soon_threadsafe(self._answer)

    def _answer(self) -> None:
        self._is_answered = True


def _deliver(outbox: list[tuple[Events, Event]]) -> None:
    for events, event in outbox:
        events.put_nowait(event)


async def _send(writer: asyncio.StreamWriter, event: Event) -> None:
    writer.write(encode_event(event))
    await writer.drain()


async def _send_all(
    events: Events,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    *,
    is_last: Callable[[Event], bool],
) -> None:
    """Send events as they come, up to the last one.

    Raises:
        OSError: the caller closed the connection.
    """
    # One queue for both: to wait for an event and for the caller with two tasks costs a stream's token twice
    # the time, which the engine's thread waits for.
    closed = asyncio.ensure_future(reader.read(1))
    closed.add_done_callback(lambda _: events.put_nowait(None))
    try:
        while True:
            event = await events.get()
            if event is None:
                raise ConnectionResetError("the caller closed the connection")
            await _send(writer, event)
            if is_last(event):
                return
    finally:
        closed.cancel()


def main(model_dir: str) -> None:
    """Serve the model in ``model_dir``."""
    end_with_parent()
    # What is imported and loaded stays: 500,000 objects that Python would search for garbage again and again
    # until then, and once ready, where ``load`` sets them apart, for 0.2 s in the middle of answers.
    gc.disable()
    # Before the supervisor ends a stuck engine, it asks for the stacks of all threads in the log.
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    try:
        settings = Settings.read(model_dir)
    except ModelDirectoryError as error:
        # The supervisor reads the settings first, and logs the reason.
        sys.stderr.write(f"inf2kit engine: {error}\n")
        sys.exit(CANNOT_LOAD)
    try:
        server = EngineServer(settings, Heartbeat.inherited(ENGINE))
        server.listen()
        scheduler = server.load()
    except ModelDirectoryError as error:
        _give_up(settings, str(error))
    except DeviceBusyError as error:
        _give_up(settings, str(error), DEVICE_BUSY)
    except Exception as error:
        if _is_missing_file(error, settings.model_dir):
            _give_up(settings, f"the package in {model_dir} is damaged ({error}); make the package again")
        # Anything else (no memory, a full disk, a device that is being reset) may be over in a moment.
        traceback.print_exc()
        _give_up(settings, f"{type(error).__name__}: {error}".partition("\n")[0], 1)
    try:
        scheduler.run()
    except Exception:
        traceback.print_exc()
        os._exit(1)  # a return would wait for the input thread


def _is_missing_file(error: Exception, model_dir: Path) -> bool:
    """Whether a file of the package is missing or no file, so that trying again does not help."""
    if not isinstance(error, OSError) or not isinstance(error.filename, str):
        return False
    is_missing = error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
    return is_missing and Path(error.filename).is_relative_to(model_dir)


def _give_up(settings: Settings, reason: str, status: int = CANNOT_LOAD) -> NoReturn:
    # The supervisor logs the reason, once. If it cannot be written there, it goes to standard error.
    try:
        write_reason(settings.engine_dir(settings.engine), reason)
    except OSError:
        sys.stderr.write(f"inf2kit engine: {reason}\n")
    os._exit(status)


if __name__ == "__main__":
    main(sys.argv[1])
