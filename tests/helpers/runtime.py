"""SageMaker's runtime API in this process, before a container that is no more than an ASGI function."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import uvicorn

from inf2kit.rehearsal.runtime.containers import CALL_LIMIT_S, Target
from inf2kit.rehearsal.runtime.server import SageMakerRuntime
from tests.helpers.servers import wait_until


@contextmanager
def serve_app(app: Any) -> Iterator[int]:
    """Serve an ASGI application on a free port."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, lifespan="off", log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started, "the server has started")
    try:
        yield int(server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = server.force_exit = True
        thread.join()


@contextmanager
def serve_runtime(container: Callable[..., Any], call_limit_s: float = CALL_LIMIT_S) -> Iterator[int]:
    """Serve the runtime of three endpoints: ``up``, ``creating``, and ``gone``, where nothing listens."""
    nowhere = "http://127.0.0.1:9"
    targets = {"creating": Target(nowhere, "Creating"), "gone": Target(nowhere, "InService")}
    with ExitStack() as stack:
        targets["up"] = Target(f"http://127.0.0.1:{stack.enter_context(serve_app(container))}", "InService")
        runtime = SageMakerRuntime(lambda name, _: targets.get(name), call_limit_s=call_limit_s)
        yield stack.enter_context(serve_app(runtime))
