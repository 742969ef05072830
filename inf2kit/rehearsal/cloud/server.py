"""The process that is the rehearsal cloud: one port, for every service.

Run as ``python -m inf2kit.rehearsal.cloud.server FOLDER``; ``commands.up`` does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.sax.saxutils import escape

from inf2kit import aws
from inf2kit.rehearsal.cloud.access import Access, issued
from inf2kit.rehearsal.cloud.autoscaling import Scaling
from inf2kit.rehearsal.cloud.clock import Clock
from inf2kit.rehearsal.cloud.cloudwatch.alarms import Alarms
from inf2kit.rehearsal.cloud.cloudwatch.logs import Logs
from inf2kit.rehearsal.cloud.cloudwatch.metrics import Metrics, show
from inf2kit.rehearsal.cloud.errors import AwsError
from inf2kit.rehearsal.cloud.s3 import objects, policies
from inf2kit.rehearsal.cloud.sagemaker.async_inference import Asynchronous
from inf2kit.rehearsal.cloud.sagemaker.endpoint_metrics import Observed
from inf2kit.rehearsal.cloud.sagemaker.fleet import Place
from inf2kit.rehearsal.cloud.sagemaker.model_data import Artefacts
from inf2kit.rehearsal.cloud.sagemaker.operations import OPERATIONS, Hosting
from inf2kit.rehearsal.cloud.settings import ACCOUNT, CloudSettings, write_state
from inf2kit.rehearsal.local.asgi_server import LoopbackServer
from inf2kit.rehearsal.runtime.server import SageMakerRuntime
from inf2kit.serving.asgi import DisconnectedError, Receive, Scope, Send, answer, body_parts, request_headers

#: Calls to the control plane at a time; a stack that waits for its endpoint makes more of them.
_WORKERS = 32
_LOOK_S = 1.0
_ASYNC = re.compile(r"/endpoints/([^/]+)/async-invocations")
_RUNTIME = re.compile(r"/endpoints/[^/]+/(invocations|invocations-response-stream|async-invocations)")


class Cloud:
    """Everything that the port answers, as an ASGI application.

    Args:
        settings: Of this cloud.
    """

    def __init__(self, settings: CloudSettings) -> None:
        self._settings = settings
        self.metrics = Metrics()
        clock = Clock(settings.minute_s)
        self._scaling = Scaling(ACCOUNT, settings.region, clock, self.metrics, lambda: self.hosting, self.say)
        self._alarms = Alarms(ACCOUNT, settings.region, self.metrics, clock, self._scaling.step)
        place = Place(
            settings.folder / "instances", settings.run_dir, Artefacts(settings.folder / "models"), self.say
        )
        self.hosting = Hosting(
            ACCOUNT,
            settings.region,
            place,
            clock,
            alarms_on=self._alarms.on,
            scaled=self._scaling.registered,
        )
        self._logs = Logs(ACCOUNT, settings.region, place.folder, self.metrics)
        self._observed = Observed(self.metrics, self.hosting.endpoints)
        self._front = SageMakerRuntime(self.hosting.target, observe=self._observed.called)
        self._asynchronous = Asynchronous(
            self.hosting.endpoints.get, observe=self._observed.processed, notify=self._notify, say=self.say
        )
        self._moto = _moto()
        self._ended = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            # Whoever leaves before he has said what he wants is owed no answer.
            with contextlib.suppress(DisconnectedError):
                await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = request_headers(scope)
        runtime = "/sagemaker/aws4_request" in headers.get("authorization", "")
        if runtime and _RUNTIME.fullmatch(scope["path"]):
            route = _ASYNC.fullmatch(scope["path"])
            if route:
                await self._asynchronous.invoke(unquote(route[1]), scope, receive, send)
            else:
                await self._front(scope, receive, send)
            return
        target = headers.get("x-amz-target", "")
        operation = target.removeprefix("SageMaker.")
        if operation != target and operation in OPERATIONS:
            await self._host(operation, headers, receive, send)
            return
        await self._moto(scope, receive, send)

    def look(self) -> None:
        """Follow alarms and scaling until the end."""
        while not self._ended.wait(_LOOK_S):
            try:
                self._observed.count(self._asynchronous.backlog())
                self._logs.look(list(self.hosting.endpoints))
                self._alarms.look()
                self._scaling.look()
            except Exception as error:
                self.say(f"metrics, logs, alarms or scaling failed: {type(error).__name__}: {error}")

    def close(self) -> None:
        """Stop everything."""
        self._ended.set()
        self.hosting.close()

    def say(self, line: str) -> None:
        """One line in the cloud's log."""
        sys.stdout.write(f"{time.strftime('%H:%M:%S')} {line}\n")
        sys.stdout.flush()

    async def _host(self, operation: str, headers: dict[str, str], receive: Receive, send: Send) -> None:
        body = b"".join([part async for part in body_parts(receive)])
        said = {"content-type": "application/x-amz-json-1.1"}
        try:
            self._check_region(headers)
            result = await asyncio.to_thread(self.hosting.answer, operation, json.loads(body or b"{}"))
        except AwsError as error:
            wrong = {"__type": error.code, "message": error.message}
            await answer(send, 400, json.dumps(wrong).encode(), said)
            return
        await answer(send, 200, json.dumps(result, default=_as_json).encode(), said)

    def _check_region(self, headers: dict[str, str]) -> None:
        scope = headers.get("authorization", "").partition("Credential=")[2].split(",")[0].split("/")
        region = scope[2] if len(scope) > 2 else self._settings.region
        if region != self._settings.region:
            raise AwsError(
                "ValidationException",
                f"This rehearsal has endpoints in {self._settings.region} only, not in {region}; start it "
                f"with --region {region}, or set AWS_REGION={self._settings.region}.",
            )

    def _notify(self, topic: str, message: str) -> None:
        from moto.sns.models import sns_backends

        # A topic that is gone keeps nobody from having an answer.
        with contextlib.suppress(Exception):
            sns_backends[ACCOUNT][self._settings.region].publish(message, arn=topic)


def _moto() -> Any:
    """Every other service."""
    import logging

    from a2wsgi import WSGIMiddleware
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    whole = DomainDispatcherApplication(create_backend_app)

    def known(environ: Any, start_response: Any) -> Any:
        """Say in the service's own way what moto cannot do; it raises, and its client would try again."""
        try:
            return whole(environ, start_response)
        except NotImplementedError as error:
            kind, content = _not_implemented(environ, str(error))
            start_response("400 Bad Request", [("content-type", kind)])
            return [content]

    return WSGIMiddleware(known, workers=_WORKERS)


def _not_implemented(environ: Any, message: str) -> tuple[str, bytes]:
    said = f"{message.rstrip('.')} in this rehearsal."
    if "HTTP_X_AMZ_TARGET" in environ:
        return "application/x-amz-json-1.1", json.dumps(
            {"__type": "UnsupportedOperationException", "message": said}
        ).encode()
    error = f"<Error><Code>UnsupportedOperation</Code><Message>{escape(said)}</Message></Error>"
    return "text/xml", f"<ErrorResponse>{error}</ErrorResponse>".encode()


def _as_json(value: Any) -> Any:
    return value.timestamp()


async def _serve(settings: CloudSettings, cloud: Cloud) -> None:
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    server = LoopbackServer(Access(cloud, settings.access_key, issued), settings.port)
    serving = asyncio.create_task(server.serve())
    threading.Thread(target=cloud.look, daemon=True, name="look").start()
    ended = asyncio.create_task(ending.wait())
    while not server.started and not serving.done():
        await asyncio.sleep(0.02)
    write_state(settings, "ready")
    await asyncio.wait({ended, serving}, return_when=asyncio.FIRST_COMPLETED)
    # Calls that wait for an endpoint must not keep the process.
    await asyncio.to_thread(cloud.close)
    server.should_exit = server.force_exit = True
    await serving


def main(folder: str) -> None:
    """Be the cloud whose settings ``commands.up`` has written."""
    settings = CloudSettings.read(Path(folder))
    assert settings is not None, folder  # noqa: S101
    scratch = settings.folder / "objects"
    for part in (scratch, settings.folder / "models", settings.folder / "instances"):
        part.mkdir(parents=True, exist_ok=True)
    # Where moto keeps what is uploaded: beside the cloud's state, and not in a /tmp that is memory.
    tempfile.tempdir = str(scratch)
    install(settings)
    cloud = Cloud(settings)
    show(settings.region, cloud.metrics)
    cloud.say(f"the rehearsal cloud listens on {settings.url}, in {settings.region}")
    asyncio.run(_serve(settings, cloud))
    shutil.rmtree(scratch, ignore_errors=True)


def install(settings: CloudSettings) -> None:
    """Extend moto."""
    from inf2kit.rehearsal.cloud.cloudformation import operations

    objects.install()
    policies.install()
    operations.install(_client_of(settings), settings.undone)


def _client_of(settings: CloudSettings) -> Callable[[str, str], Any]:
    def client(service: str, region: str) -> Any:
        return aws.client(
            service,
            session=aws.local_session(settings.access_key, region),
            endpoint_url=settings.url,
            retries={"total_max_attempts": 1},
            read_timeout=600,
        )

    return client


if __name__ == "__main__":
    main(sys.argv[1])
