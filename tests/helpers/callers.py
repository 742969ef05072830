"""Callers that never stop, and what they saw."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tests.helpers.rehearsing import generate


@dataclass
class Seen:
    """What callers saw."""

    served: int = 0
    texts: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)


@contextmanager
def calling(
    runtime: Any, endpoint: str, *, threads: int = 2, pause_s: float = 0.05, **parameters: Any
) -> Iterator[Seen]:
    """Call an endpoint all the time, with the same prompt."""
    seen, ended, lock = Seen(), threading.Event(), threading.Lock()

    def call_on() -> None:
        while not ended.is_set():
            try:
                (answer,) = generate(runtime, endpoint, **parameters)
                with lock:
                    seen.served += 1
                    seen.texts.add(answer["generated_text"])
            except (ClientError, BotoCoreError) as error:
                with lock:
                    seen.errors.append(f"{time.strftime('%H:%M:%S')} {error}")
            ended.wait(pause_s)

    workers = [threading.Thread(target=call_on) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield seen
    finally:
        ended.set()
        for worker in workers:
            worker.join()
