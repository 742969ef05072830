"""The server process of the rehearsal cloud: all services on one port.

``lifecycle.up`` runs it as ``python -m inf2kit.rehearsal.cloud.server FOLDER``.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
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

from inf2kit import aws
from inf2kit.errors import CloudError
from inf2kit.rehearsal.cloud import iam, moto_app, quotas
from inf2kit.rehearsal.cloud.access import Access, find_issued_secret, is_issued, takes_bearer_token
from inf2kit.rehearsal.cloud.autoscaling import AutoScaling
from inf2kit.rehearsal.cloud.clock import Clock
from inf2kit.rehearsal.cloud.cloudwatch import metrics as cloudwatch
from inf2kit.rehearsal.cloud.cloudwatch.alarms import Alarms
from inf2kit.rehearsal.cloud.cloudwatch.logs import ContainerLogs
from inf2kit.rehearsal.cloud.cloudwatch.metrics import Metrics
from inf2kit.rehearsal.cloud.errors import AwsError
from inf2kit.rehearsal.cloud.s3 import objects, policies
from inf2kit.rehearsal.cloud.sagemaker.async_inference import AsyncInference
from inf2kit.rehearsal.cloud.sagemaker.endpoint_metrics import EndpointMetrics
from inf2kit.rehearsal.cloud.sagemaker.launcher import FleetContext
from inf2kit.rehearsal.cloud.sagemaker.model_data import ModelDataCache
from inf2kit.rehearsal.cloud.sagemaker.operations import SageMaker
from inf2kit.rehearsal.cloud.settings import ACCOUNT, SECRET, CloudSettings, write_state
from inf2kit.rehearsal.local.asgi_server import LoopbackServer
from inf2kit.rehearsal.runtime.bearer import Secret, TokenCheck
from inf2kit.rehearsal.runtime.server import SageMakerRuntime
from inf2kit.serving.asgi import DisconnectedError, Receive, Scope, Send, answer, body_parts, request_headers

_POLL_S = 1.0
_JSON = {"content-type": "application/x-amz-json-1.1"}
_ASYNC = re.compile(r"/endpoints/([^/]+)/async-invocations")
_RUNTIME = re.compile(r"/endpoints/[^/]+/(invocations|invocations-response-stream|async-invocations)")


class Cloud:
    """All services, as an ASGI application.

    Args:
        settings: The cloud's settings.
    """

    def __init__(self, settings: CloudSettings) -> None:
        self._settings = settings
        self.metrics = Metrics()
        clock = Clock(settings.minute_s)
        self._scaling = AutoScaling(
            ACCOUNT, settings.region, clock, self.metrics, lambda: self._sagemaker, self.log
        )
        self._alarms = Alarms(ACCOUNT, settings.region, self.metrics, clock, self._scaling.run_step_policy)
        context = FleetContext(
            settings.folder / "instances",
            settings.run_dir,
            ModelDataCache(settings.folder / "models"),
            self.log,
        )
        self._quotas = quotas.Quotas(ACCOUNT, settings.region, settings.quotas)
        self._sagemaker = SageMaker(
            ACCOUNT,
            settings.region,
            context,
            clock,
            in_alarm=self._alarms.in_alarm,
            list_alarms=self._alarms.names,
            list_targets=self._scaling.list_targets,
            check_quota=self._quotas.check,
            on_stopped=lambda name: self._container_logs.collect([name]),
        )
        endpoints = self._sagemaker.endpoints
        self._container_logs = ContainerLogs(ACCOUNT, settings.region, context.folder, self.metrics)
        self._endpoint_metrics = EndpointMetrics(self.metrics, endpoints)
        self._runtime = SageMakerRuntime(
            self._sagemaker.target,
            account=ACCOUNT,
            tokens=TokenCheck(settings.region, self._find_secret, 'run: eval "$(inf2kit cloud env)"'),
            observe=self._endpoint_metrics.record_call,
        )
        self._async_inference = AsyncInference(
            endpoints.get,
            record=self._endpoint_metrics.record_async_call,
            notify=self._notify,
            log=self.log,
        )
        self._moto = moto_app.build_app(self.log)
        self._closed = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            # A client that disconnects before the end of its request gets no response.
            with contextlib.suppress(DisconnectedError):
                await self._route(scope, receive, send)

    def _find_secret(self, access_key: str) -> Secret | None:
        if access_key == self._settings.access_key:
            return Secret(SECRET)
        return find_issued_secret(access_key)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        if takes_bearer_token(scope):
            await self._runtime(scope, receive, send)
            return
        headers = request_headers(scope)
        is_runtime = "/sagemaker/aws4_request" in headers.get("authorization", "")
        if is_runtime and _RUNTIME.fullmatch(scope["path"]):
            async_route = _ASYNC.fullmatch(scope["path"])
            if async_route:
                await self._async_inference.invoke(unquote(async_route[1]), scope, receive, send)
            else:
                await self._runtime(scope, receive, send)
            return
        service, _, operation = headers.get("x-amz-target", "").partition(".")
        if service == "SageMaker" and self._sagemaker.handles(operation):
            await self._call(self._sagemaker.call, operation, headers, receive, send)
            return
        if service == quotas.TARGET:
            await self._call(self._quotas.call, operation, headers, receive, send)
            return
        await self._moto(scope, receive, send)

    def poll(self) -> None:
        """Collect metrics and logs, and evaluate alarms and scaling, until the cloud is closed."""
        while not self._closed.wait(_POLL_S):
            try:
                self._endpoint_metrics.record_state(self._async_inference.backlog())
                self._container_logs.collect(list(self._sagemaker.endpoints))
                self._alarms.evaluate()
                self._scaling.evaluate()
            except Exception as error:
                self.log(f"metrics, logs, alarms or scaling failed: {type(error).__name__}: {error}")

    def close(self) -> None:
        """Stop all endpoints and the polling."""
        self._closed.set()
        self._sagemaker.close()

    def log(self, line: str) -> None:
        """Write a line to the cloud's log."""
        sys.stdout.write(f"{time.strftime('%H:%M:%S')} {line}\n")
        sys.stdout.flush()

    async def _call(
        self,
        service: Callable[[str, dict[str, Any]], dict[str, Any]],
        operation: str,
        headers: dict[str, str],
        receive: Receive,
        send: Send,
    ) -> None:
        body = b"".join([part async for part in body_parts(receive)])
        try:
            self._check_region(headers)
            request = json.loads(body or b"{}")
            response = await asyncio.to_thread(service, operation, request)
        except AwsError as error:
            refusal = {"__type": error.code, "message": error.message}
            await answer(send, 400, json.dumps(refusal).encode(), _JSON)
            return
        await answer(send, 200, json.dumps(response, default=dt.datetime.timestamp).encode(), _JSON)

    def _check_region(self, headers: dict[str, str]) -> None:
        credential = headers.get("authorization", "").partition("Credential=")[2].split(",")[0].split("/")
        region = credential[2] if len(credential) > 2 else self._settings.region
        if region != self._settings.region:
            raise AwsError(
                "ValidationException",
                f"This rehearsal has endpoints in {self._settings.region} only, not in {region}; start it "
                f"with --region {region}, or set AWS_REGION={self._settings.region}.",
            )

    def _notify(self, topic: str, message: str) -> None:
        from moto.sns.models import sns_backends

        # A deleted topic must not prevent the response.
        with contextlib.suppress(Exception):
            sns_backends[ACCOUNT][self._settings.region].publish(message, arn=topic)


async def _serve(settings: CloudSettings, cloud: Cloud) -> None:
    signalled = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled.set)
    server = LoopbackServer(Access(cloud, settings.access_key, is_issued), settings.port)
    serving = asyncio.create_task(server.serve())
    threading.Thread(target=cloud.poll, daemon=True, name="poll").start()
    ending = asyncio.create_task(signalled.wait())
    while not server.started and not serving.done():
        await asyncio.sleep(0.02)
    write_state(settings, "ready")
    await asyncio.wait({ending, serving}, return_when=asyncio.FIRST_COMPLETED)
    # Closing the endpoints ends the calls that wait for them.
    await asyncio.to_thread(cloud.close)
    server.should_exit = server.force_exit = True
    await serving


def main(folder: str) -> None:
    """Run the cloud of a folder until SIGTERM.

    Raises:
        CloudError: the folder has no settings.
    """
    settings = CloudSettings.read(Path(folder))
    if settings is None:
        raise CloudError(f"{folder} has no settings of a cloud; start one with 'inf2kit cloud up'")
    scratch = settings.folder / "objects"
    for subfolder in (scratch, settings.folder / "models", settings.folder / "instances"):
        subfolder.mkdir(parents=True, exist_ok=True)
    # moto writes uploads to temporary files; /tmp may be in memory.
    tempfile.tempdir = str(scratch)
    install(settings)
    cloud = Cloud(settings)
    cloudwatch.publish(settings.region, cloud.metrics)
    cloud.log(f"the rehearsal cloud listens on {settings.url}, in {settings.region}")
    asyncio.run(_serve(settings, cloud))
    shutil.rmtree(scratch, ignore_errors=True)


def install(settings: CloudSettings) -> None:
    """Patch moto with this package's extensions."""
    from inf2kit.rehearsal.cloud.cloudformation import operations

    objects.install()
    policies.install()
    iam.install()
    operations.install(_client_factory(settings), settings.undone)


def _client_factory(settings: CloudSettings) -> Callable[[str, str], Any]:
    clients: dict[tuple[str, str], Any] = {}
    lock = threading.Lock()

    def client(service: str, region: str) -> Any:
        # Clients are thread-safe and creating them is not. It also takes a quarter of a second of processor
        # time, in which boto3 reads the service's model.
        with lock:
            if (service, region) not in clients:
                clients[service, region] = aws.client(
                    service,
                    session=aws.local_session(settings.access_key, region),
                    endpoint_url=settings.url,
                    retries={"total_max_attempts": 1},
                    read_timeout=600,
                )
            return clients[service, region]

    return client


if __name__ == "__main__":
    main(sys.argv[1])
