"""The engine inside a caller's own process: no sockets, no supervisor, the same rows and the same texts."""

from __future__ import annotations

import atexit
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import Future

from inf2kit.errors import RequestError
from inf2kit.serving.engine.build import load
from inf2kit.serving.engine.metrics import EngineMetrics
from inf2kit.serving.engine.protocol import Event, raised
from inf2kit.serving.engine.settings import Settings


class InProcess:
    """A loaded model that several threads may call at once.

    Loads and decodes on a thread of its own, as a backend wants one thread for everything; it ends with the
    process, and with it a device is given back.

    Raises:
        ModelDirectoryError: the model cannot be loaded.
        DeviceBusyError: another process holds the device.
    """

    def __init__(self, settings: Settings) -> None:
        loaded: Future[None] = Future()
        self._failure: RequestError | None = None
        self._thread = threading.Thread(target=self._run, args=(settings, loaded), daemon=True, name="engine")
        self._thread.start()
        loaded.result()
        # A thread that is inside torch while Python ends takes the whole process down with an abort.
        atexit.register(self.close)
        # A tokenizer is not made for several threads.
        self._reading = threading.Lock()

    def close(self) -> None:
        """Stop generating; the device is given back when the process ends."""
        self._scheduler.stop()
        self._thread.join()

    def call(self, body: object, *, stream: bool = False) -> Iterator[Event]:
        """The events of one call, as the engine's socket gives them; leaving the loop early gives it up.

        Raises:
            RequestError: the call is refused, or cannot go on.
        """
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        with self._reading:
            accepted, jobs = self._intake.read({"body": body, "stream": stream}, events.put)
        self._scheduler.submit(jobs)
        if self._failure:
            raise self._failure
        try:
            yield accepted
            left = len(jobs)
            while left:
                event = events.get()
                if event["event"] == "error":
                    raise raised(event)
                left -= event["event"] == "end"
                yield event
        finally:
            for job in jobs:
                job.cancelled = True
            self._scheduler.wake()

    def _run(self, settings: Settings, loaded: Future[None]) -> None:
        try:
            self._intake, self._scheduler = load(settings, EngineMetrics(settings.shapes.batch_size))
        except BaseException as error:
            loaded.set_exception(error)
            return
        loaded.set_result(None)
        try:
            self._scheduler.run()
        except Exception as error:
            self._failure = RequestError(
                500,
                "internal_error",
                f"the model cannot go on ({type(error).__name__}: {error}); load it again",
            )
            self._scheduler.fail_all(self._failure)
