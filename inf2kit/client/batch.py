"""Many prompts at once: which is sent next, and which result is returned next. It knows no transport."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any

from inf2kit.client.requests import Call, chat_call, text_call
from inf2kit.client.results import TextResult
from inf2kit.errors import EndpointError, EndpointRequestError

#: A text, the messages of a chat, or a request with ``inputs`` or ``messages`` and parameters of its own.
Prompt = str | Sequence[Mapping[str, Any]] | Mapping[str, Any]
#: What became of a prompt: a failure is a value, so that the others are not lost.
Outcome = TextResult | EndpointError
#: The names of the length of an answer.
LENGTHS = ("max_new_tokens", "max_completion_tokens", "max_tokens")
#: Keys of a request that are no parameters: how a batch is answered is its caller's choice.
_NO_PARAMETERS = ("id", "inputs", "messages", "model", "parameters", "stream", "stream_options")
#: Results that wait for an earlier one, as a multiple of the callers.
_AHEAD = 4


class Queue:
    """Gives out prompts and puts their outcomes in order.

    Args:
        prompts: The prompts; they are taken one by one, as they are needed.
        concurrency: Number of callers.
        in_order: Whether outcomes are returned in the order of the prompts.
        until: Asked before each call; none begins once it was true. None never is.
    """

    def __init__(
        self,
        prompts: Iterable[Prompt],
        concurrency: int,
        *,
        in_order: bool,
        until: Callable[[], bool] | None = None,
    ) -> None:
        self._prompts = iter(enumerate(prompts))
        self._until, self._is_over = until, False
        self._in_order = in_order
        self._room = concurrency * (_AHEAD if in_order else 2)
        self._outcomes: dict[int, Outcome] = {}
        self._next = 0
        self.pending = 0

    def take(self) -> tuple[int, Prompt] | None:
        """Return the next prompt and its index; None if there is none, or no room for its outcome."""
        if self._is_over or self.pending + len(self._outcomes) >= self._room:
            return None
        item = next(self._prompts, None)
        if item is not None:
            self.pending += 1
        return item

    def begin(self) -> tuple[int, Prompt] | None:
        """Return the next prompt and its index, where its call begins at once; None if there is none."""
        item = self.take()
        if item is not None and not self.may_call():
            self.pending -= 1
            return None
        return item

    def may_call(self) -> bool:
        """Whether the next call may begin."""
        self._is_over = self._is_over or (self._until is not None and self._until())
        return not self._is_over

    def finish(self, index: int, outcome: Outcome | None) -> Iterator[tuple[int, Outcome]]:
        """Take the outcome of a prompt, None if it was not sent, and yield those to be returned now."""
        self.pending -= 1
        if outcome is None:
            return
        if not self._in_order:
            yield index, outcome
            return
        self._outcomes[index] = outcome
        while self._next in self._outcomes:
            yield self._next, self._outcomes.pop(self._next)
            self._next += 1


def check_batch(prompts: Iterable[Prompt], concurrency: int, parameters: Mapping[str, Any]) -> int | None:
    """Check the arguments of a batch, and return the number of prompts if it is known.

    Raises:
        EndpointRequestError: one of them is wrong.
    """
    if isinstance(prompts, str):
        raise EndpointRequestError("the prompts are one text; give a list of texts")
    if concurrency < 1:
        raise EndpointRequestError(f"concurrency is {concurrency!r}; it must be 1 or more")
    if parameters.get("n") not in (None, 1):
        raise EndpointRequestError("n must be 1 for many prompts; give a prompt several times")
    return len(prompts) if isinstance(prompts, Sized) else None


def build_call(prompt: Prompt, parameters: Mapping[str, Any]) -> Call:
    """Build the call of one prompt.

    Raises:
        EndpointRequestError: it is none of these, or cannot be JSON.
    """
    if isinstance(prompt, Mapping):
        return _own_call(prompt, parameters)
    return text_call(prompt, parameters) if isinstance(prompt, str) else chat_call(prompt, parameters)


def _own_call(request: Mapping[str, Any], parameters: Mapping[str, Any]) -> Call:
    """Build the call of a request whose own parameters count before those of the batch."""
    own = request.get("parameters") or {}
    if not isinstance(own, Mapping) or ("inputs" in request) == ("messages" in request):
        raise EndpointRequestError(
            f"a request has {', '.join(map(str, request)) or 'no keys'}; give inputs or messages, and "
            "parameters"
        )
    own = {**own, **{key: value for key, value in request.items() if key not in _NO_PARAMETERS}}
    if own.get("n") not in (None, 1):
        raise EndpointRequestError("n must be 1 for many prompts; give a prompt several times")
    if any(own.get(name) is not None for name in LENGTHS):
        parameters = {name: value for name, value in parameters.items() if name not in LENGTHS}
    parameters = {**parameters, **own}
    if "messages" in request:
        return chat_call(request["messages"], parameters)
    if not isinstance(request["inputs"], str):
        raise EndpointRequestError("inputs must be one text; give each text as a request of its own")
    return text_call(request["inputs"], parameters)


def run_in_threads(
    call: Callable[[Prompt], Outcome], queued: Queue, concurrency: int
) -> Iterator[tuple[int, Outcome]]:
    """Call with every prompt, and yield indices and outcomes.

    If the caller stops early, no further call begins; those that run are answered, and dropped. They keep no
    process from ending.

    Args:
        call: Makes one call, in any thread.
        queued: The prompts.
        concurrency: Number of threads.
    """
    waiting: queue.SimpleQueue[tuple[int, Prompt] | None] = queue.SimpleQueue()
    finished: queue.SimpleQueue[tuple[int, Outcome | None] | Exception] = queue.SimpleQueue()
    turn = threading.Lock()
    has_left = False

    def work() -> None:
        while True:
            try:
                with turn:  # so that calls begin in the order of their prompts
                    item = waiting.get()
                    if item is None or has_left:
                        return
                    may_call = queued.may_call()
                index, prompt = item
                finished.put((index, call(prompt) if may_call else None))
            except Exception as error:  # of the caller's own prompts or callbacks
                finished.put(error)

    threads = 0
    try:
        while True:
            while (item := queued.take()) is not None:
                waiting.put(item)
                if threads < concurrency:
                    threading.Thread(target=work, name="inf2kit-batch", daemon=True).start()
                    threads += 1
            if not queued.pending:
                return
            answer = finished.get()
            if isinstance(answer, Exception):
                raise answer
            yield from queued.finish(*answer)
    finally:
        has_left = True
        for _ in range(threads):
            waiting.put(None)
