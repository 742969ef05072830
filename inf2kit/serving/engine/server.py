"""The engine process: the model on the main thread, the Unix socket on another.

Run as ``python -m inf2kit.serving.engine.server MODEL_DIR``; the supervisor does.
"""

from __future__ import annotations

import asyncio
import errno
import faulthandler
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NoReturn

from inf2kit.errors import ModelDirectoryError, RequestError, unavailable
from inf2kit.serving.engine.backend import DeviceBusyError
from inf2kit.serving.engine.build import load
from inf2kit.serving.engine.heartbeat import ENGINE, Heartbeat
from inf2kit.serving.engine.input_processor import Intake
from inf2kit.serving.engine.integrity import check_files
from inf2kit.serving.engine.metrics import EngineMetrics
from inf2kit.serving.engine.processes import BUSY, REASON_FILE, TERMINAL, end_with_parent, say
from inf2kit.serving.engine.protocol import MAX_LINE, Event, encode, error_event
from inf2kit.serving.engine.scheduler import Scheduler
from inf2kit.serving.engine.sequence import Job
from inf2kit.serving.engine.settings import Settings

Events = asyncio.Queue[Event]


class EngineServer:
    """Takes calls from the socket to the scheduler, and events back.

    Args:
        settings: Of the endpoint.
        heartbeat: Beats as soon as the model answers.
    """

    def __init__(self, settings: Settings, heartbeat: Heartbeat) -> None:
        self._settings = settings
        self._heartbeat = heartbeat
        self._loop = asyncio.new_event_loop()
        self._state = "loading"
        self._watchers: set[Events] = set()
        self._metrics = EngineMetrics(settings.shapes.batch_size)
        self._intake: Intake
        self._scheduler: Scheduler | None = None
        # One thread: a tokenizer is not made for several, and a text of 6 MB must not stall the socket.
        self._tokenizing = ThreadPoolExecutor(1)
        self._outbox: list[tuple[Events, Event]] = []
        # The jobs of each call, by its arrival, which names it.
        self._calls: dict[float | None, list[Job]] = {}

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
        self._intake, self._scheduler = load(settings, self._metrics, self._send_outbox, self._heartbeat)
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
            opened.set_exception(OSError(reason))  # a full disk may have room again
            return
        opened.set_result(None)
        self._loop.run_forever()

    def _set_state(self, state: str) -> None:
        self._state = state
        for watcher in self._watchers:
            watcher.put_nowait(self._status())

    def _status(self) -> Event:
        longest = self._intake.longest_token if self._state == "ready" else 0
        return {"event": "status", "state": self._state, "longest_token": longest}

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = json.loads(await reader.readline())
            if request["op"] == "status":
                await self._tell_status(reader, writer)
            elif request["op"] == "metrics":
                writer.write(encode({"event": "metrics", "text": self._metrics.text()}))
                writer.write(encode({"event": "done"}))
                await writer.drain()
            elif request["op"] == "end":
                if self._scheduler is not None:
                    self._scheduler.end_all()
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
        states.put_nowait(self._status())
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
        left, arrival = 0, call.get("arrival")
        try:
            scheduler = self._scheduler
            if scheduler is None:
                raise unavailable("the model is loading; try again in a moment")
            accepted, jobs = await self._loop.run_in_executor(
                self._tokenizing, self._intake.read, call, partial(self._tell, events)
            )
            left = len(jobs)
            events.put_nowait(accepted)
            # The gateway asks again when a worker was lost: such a call takes its own place.
            earlier = self._calls.pop(arrival, [])
            scheduler.submit(jobs, instead_of=earlier)
            if arrival is not None:
                self._calls[arrival] = jobs
        except RequestError as error:
            events.put_nowait(error_event(error))
        except Exception:
            traceback.print_exc()
            events.put_nowait(
                error_event(RequestError(500, "internal_error", "the engine could not read this call"))
            )

        def last(event: Event) -> bool:
            nonlocal left
            left -= event["event"] == "end"
            return bool(left == 0 or event["event"] == "error")

        try:
            await _pump(events, reader, writer, last=last)
            writer.write(encode({"event": "done"}))
            await writer.drain()
        finally:
            if arrival is not None and self._calls.get(arrival) is jobs:
                del self._calls[arrival]
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
    # The supervisor asks for it before it ends an engine that is stuck: every thread's stack, to the log.
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    settings = Settings.read(model_dir)
    try:
        server = EngineServer(settings, Heartbeat.inherited(ENGINE))
        server.listen()
        server.load()
    except ModelDirectoryError as error:
        _give_up(settings, str(error))
    except DeviceBusyError as error:
        _give_up(settings, str(error), BUSY)
    except Exception as error:
        if _is_missing(error, settings.model_dir):
            _give_up(settings, f"the package in {model_dir} is damaged ({error}); make the package again")
        # Whatever else it is (no memory, a full disk, a device that is being reset) may be over in a moment.
        traceback.print_exc()
        _give_up(settings, f"{type(error).__name__}: {error}".partition("\n")[0], 1)
    try:
        server.serve()
    except Exception:
        traceback.print_exc()
        os._exit(1)  # not by returning: Python would wait for the tokenizing thread first


def _is_missing(error: Exception, model_dir: Path) -> bool:
    """Whether a file of the package is not there, or is something else: trying again will not help."""
    if not isinstance(error, OSError) or not isinstance(error.filename, str):
        return False
    lacking = error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
    return lacking and Path(error.filename).is_relative_to(model_dir)


def _give_up(settings: Settings, reason: str, status: int = TERMINAL) -> NoReturn:
    # The supervisor puts it into the log, once; where it cannot be written, standard error has it.
    try:
        (settings.run_dir / REASON_FILE).write_text(reason, encoding="utf-8")
    except OSError:
        sys.stderr.write(f"inf2kit engine: {reason}\n")
    os._exit(status)


if __name__ == "__main__":
    main(sys.argv[1])
