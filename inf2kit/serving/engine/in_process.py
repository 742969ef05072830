"""The engine in the caller's own process: without sockets and supervisor, with the same scheduler."""

from __future__ import annotations

import atexit
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import Future

from inf2kit.errors import RequestError
from inf2kit.serving.engine.build import Engine, build_engine
from inf2kit.serving.engine.events import EndEvent, ErrorEvent, GenerationEvent
from inf2kit.serving.engine.metrics import EngineMetrics
from inf2kit.serving.settings import Settings


class InProcessEngine:
    """A loaded model that several threads may call at once.

    Loads and decodes on a thread of its own, since a backend must be used by one thread only. The process
    holds the device until it ends.

    Raises:
        ModelDirectoryError: the model cannot be loaded.
        DeviceBusyError: another process holds the device.
    """

    def __init__(self, settings: Settings) -> None:
        loading: Future[Engine] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(settings, loading), daemon=True, name="engine"
        )
        self._thread.start()
        self._engine = loading.result()
        # Python aborts if it ends while a thread computes in torch.
        atexit.register(self.close)
        # The input processor must not be used by several threads at once.
        self._processing = threading.Lock()

    def close(self) -> None:
        """Stop generating. Calls that wait, and later ones, get an error."""
        self._engine.scheduler.stop()
        self._thread.join()
        closed = RequestError(503, "unavailable", "the model was closed; load it again")
        self._engine.scheduler.fail_all(closed)

    def call(self, body: object) -> Iterator[GenerationEvent]:
        """The events of one call, as the engine's socket gives them. Closing the iterator cancels the call.

        Args:
            body: JSON value of a request's body.

        Raises:
            RequestError: the call is refused, or cannot continue.
        """
        events: queue.SimpleQueue[GenerationEvent] = queue.SimpleQueue()
        with self._processing:
            accepted, requests = self._engine.input_processor.process(body, events.put)
        self._engine.scheduler.submit(requests)
        try:
            yield accepted
            unfinished = len(requests)
            while unfinished:
                event = events.get()
                if isinstance(event, ErrorEvent):
                    raise event.error()
                unfinished -= isinstance(event, EndEvent)
                yield event
        finally:
            for request in requests:
                request.cancelled = True
            self._engine.scheduler.wake()

    def _run(self, settings: Settings, loading: Future[Engine]) -> None:
        try:
            engine = build_engine(settings, EngineMetrics(settings.shapes.batch_size))
        except BaseException as error:
            loading.set_exception(error)
            return
        loading.set_result(engine)
        try:
            engine.scheduler.run()
        except Exception as error:
            failure = RequestError(
                500,
                "internal_error",
                f"the model cannot continue ({type(error).__name__}: {error}); load it again",
            )
            engine.scheduler.fail_all(failure)
