"""Call an endpoint continuously in the background, and record the outcomes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tests.helpers.cloud import generate


@dataclass
class CallLog:
    """The outcomes of all calls."""

    served: int = 0
    texts: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)


@contextmanager
def call_in_background(
    runtime: Any, endpoint: str, *, threads: int = 2, pause_s: float = 0.05, **parameters: Any
) -> Iterator[CallLog]:
    """Call an endpoint with the same prompt until the block ends."""
    log, ended, lock = CallLog(), threading.Event(), threading.Lock()

    def call_repeatedly() -> None:
        while not ended.is_set():
            try:
                (answer,) = generate(runtime, endpoint, **parameters)
                with lock:
                    log.served += 1
                    log.texts.add(answer["generated_text"])
            except (ClientError, BotoCoreError) as error:
                with lock:
                    log.errors.append(f"{time.strftime('%H:%M:%S')} {error}")
            ended.wait(pause_s)

    workers = [threading.Thread(target=call_repeatedly) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield log
    finally:
        ended.set()
        for worker in workers:
            worker.join()
