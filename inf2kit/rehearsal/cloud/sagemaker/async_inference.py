"""InvokeEndpointAsync: requests and answers by S3."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from inf2kit.rehearsal.cloud.iam import Execution
from inf2kit.rehearsal.cloud.s3 import objects
from inf2kit.rehearsal.cloud.sagemaker.endpoint import Endpoint
from inf2kit.rehearsal.runtime.server import Outcome, Target
from inf2kit.serving.asgi import Receive, Scope, Send, answer, body_parts, request_headers

#: SageMaker's defaults and limits: seconds of an invocation and of waiting, bytes of an inline body.
_TIMEOUT_S, _WAITING_S, _MAX_INLINE = 900, 21_600, 128_000
_CONCURRENT = 4
_IDLE_S = 0.05
_HEADER = "x-amzn-sagemaker-"
#: The metrics of what may go wrong with one call.
FAULTS = ("ExpiredRequests", "RequestDownloadFailures", "InvocationFailures", "ResponseUploadFailures")


@dataclass
class _Waiting:
    """One request in the queue."""

    inference_id: str
    content_type: str
    accept: str
    attributes: str
    location: str
    body: bytes
    output: str
    failure: str
    timeout_s: float
    until: float
    since: float = field(default_factory=time.monotonic)


class Asynchronous:
    """The queues of all asynchronous endpoints, worked off on the event loop.

    Args:
        endpoint_of: The endpoint of a name, or None.
        observe: Told of every call that was taken from a queue: the endpoint, the container, what became of
            it, the seconds that it waited, and which of ``FAULTS`` it had, or nothing.
        notify: Told a topic's ARN and a message.
        say: Tells the cloud's log.
    """

    def __init__(
        self,
        endpoint_of: Callable[[str], Endpoint | None],
        *,
        observe: Callable[[str, Target, Outcome, float, str], None],
        notify: Callable[[str, str], None],
        say: Callable[[str], None],
    ) -> None:
        self._endpoint_of, self._observe, self._notify, self._say = endpoint_of, observe, notify, say
        self._queues: dict[str, deque[_Waiting]] = {}
        self._running: dict[str, list[_Waiting]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._containers = httpx.AsyncClient(
            timeout=None,  # noqa: S113 - each call has its own
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
            trust_env=False,
        )

    def backlog(self) -> dict[str, tuple[int, float]]:
        """Calls that wait or run, and the seconds since the oldest came, by endpoint."""
        now = time.monotonic()
        found = {}
        for name, queue in self._queues.items():
            calls = [*self._running.get(name, ()), *queue]
            found[name] = (len(calls), max((now - each.since for each in calls), default=0.0))
        return found

    async def invoke(self, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one request, or refuse it."""
        headers = request_headers(scope)
        endpoint = self._endpoint_of(name)
        body = b"".join([part async for part in body_parts(receive)])
        fault = _fault(name, endpoint, headers, body)
        if fault or endpoint is None:
            said = {"content-type": "application/json", "x-amzn-errortype": "ValidationError"}
            await answer(send, 400, json.dumps({"Message": fault}).encode(), said)
            return
        output = endpoint.config["AsyncInferenceConfig"]["OutputConfig"]
        name_of = str(uuid.uuid4())
        where = str(output["S3OutputPath"]).rstrip("/")
        failures = str(output.get("S3FailurePath") or where).rstrip("/")
        waiting = _Waiting(
            inference_id=headers.get(f"{_HEADER}inference-id", str(uuid.uuid4())),
            content_type=headers.get(f"{_HEADER}content-type", "application/json"),
            accept=headers.get(f"{_HEADER}accept", "*/*"),
            attributes=headers.get(f"{_HEADER}custom-attributes", ""),
            location=headers.get(f"{_HEADER}inputlocation", ""),
            body=body,
            output=f"{where}/{name_of}.out",
            failure=f"{failures}/{name_of}-error.out",
            timeout_s=float(headers.get(f"{_HEADER}invocationtimeoutseconds", _TIMEOUT_S)),
            until=time.monotonic() + float(headers.get(f"{_HEADER}requestttlseconds", _WAITING_S)),
        )
        if name not in self._queues:
            self._queues[name] = deque()
            self._keep(self._work(name))
        self._queues[name].append(waiting)
        said = {
            "content-type": "application/json",
            f"{_HEADER}outputlocation": waiting.output,
            f"{_HEADER}failurelocation": waiting.failure,
        }
        await answer(send, 202, json.dumps({"InferenceId": waiting.inference_id}).encode(), said)

    def _keep(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, name: str) -> None:
        queue = self._queues[name]
        while True:
            endpoint = self._endpoint_of(name)
            if endpoint is None:
                # Deleted: nobody will take what still waits.
                del self._queues[name]
                return
            settings = endpoint.config.get("AsyncInferenceConfig", {}).get("ClientConfig", {})
            each = int(settings.get("MaxConcurrentInvocationsPerInstance", _CONCURRENT))
            room = each * sum(fleet.size for fleet in endpoint.fleets) - len(
                self._running.setdefault(name, [])
            )
            target = endpoint.pick() if endpoint.called and room > 0 else None
            if not queue or target is None:
                await asyncio.sleep(_IDLE_S)
                continue
            waiting = queue.popleft()
            self._running[name].append(waiting)
            target.in_flight += 1
            self._keep(self._serve(name, endpoint, target, waiting))

    async def _serve(self, name: str, endpoint: Endpoint, target: Target, waiting: _Waiting) -> None:
        waited_s = time.monotonic() - waiting.since
        began, status, fault, content, kind, metric = time.perf_counter(), 0, "", b"", "", ""
        model_s = 0.0
        try:
            body: bytes | None = waiting.body
            execution = _execution(endpoint, target)
            if waiting.location:
                may_read = execution is not None and execution.reads(waiting.location)
                body = await asyncio.to_thread(objects.read, waiting.location) if may_read else None
            if time.monotonic() > waiting.until:
                fault, metric = "the request waited longer than RequestTTLSeconds", "ExpiredRequests"
            elif body is None:
                fault, metric = (
                    f"Unable to read the request from {waiting.location}",
                    "RequestDownloadFailures",
                )
            else:
                metric, began = "InvocationFailures", time.perf_counter()
                response = await asyncio.wait_for(self._post(target, waiting, body), waiting.timeout_s)
                status, content = response.status_code, response.content
                kind = response.headers.get("content-type", "application/octet-stream")
                if status != 200:
                    side = "client" if status < 500 else "server"
                    fault = f'Received {side} error ({status}) from model with message "{response.text}".'
                else:
                    metric = ""
        except asyncio.TimeoutError:
            fault = f"the container did not answer within {waiting.timeout_s:g} s (InvocationTimeoutSeconds)"
        except httpx.HTTPError as error:
            fault = f"the container did not answer ({type(error).__name__})"
        finally:
            model_s = time.perf_counter() - began
            target.in_flight -= 1
            self._running[name].remove(waiting)
        if not await self._write(endpoint, execution, waiting, fault, content, kind):
            metric = "ResponseUploadFailures"
        self._observe(name, target, Outcome(status, model_s, 0.0), waited_s, metric)

    async def _write(
        self,
        endpoint: Endpoint,
        execution: Execution | None,
        waiting: _Waiting,
        fault: str,
        content: bytes,
        kind: str,
    ) -> bool:
        """Put the answer or the failure where its caller looks; false where that cannot be done."""
        where = waiting.failure if fault else waiting.output
        key = endpoint.config["AsyncInferenceConfig"]["OutputConfig"].get("KmsKeyId", "")
        if execution is None or not execution.writes(where, key):
            role = execution.role_arn if execution else "of the endpoint"
            self._say(f"{endpoint.name}: the role {role} may not write {where}; its caller waits for nothing")
            return False
        try:
            await asyncio.to_thread(
                objects.write, where, fault.encode() if fault else content, "text/plain" if fault else kind
            )
        except KeyError:
            # The bucket of the answers is gone, and nobody can be told.
            return False
        topics = endpoint.config["AsyncInferenceConfig"]["OutputConfig"].get("NotificationConfig", {})
        topic = topics.get("ErrorTopic" if fault else "SuccessTopic")
        if topic:
            self._notify(topic, _message(waiting, fault))
        return True

    async def _post(self, target: Target, waiting: _Waiting, body: bytes) -> httpx.Response:
        headers = {"content-type": waiting.content_type, "accept": waiting.accept}
        if waiting.attributes:
            headers["x-amzn-sagemaker-custom-attributes"] = waiting.attributes
        return await self._containers.post(f"{target.gateway_url}/invocations", content=body, headers=headers)


def _execution(endpoint: Endpoint, target: Target) -> Execution | None:
    """In whose name the objects of a container's calls are read and written."""
    return next((fleet.execution for fleet in endpoint.fleets if fleet.variant == target.variant), None)


def _fault(name: str, endpoint: Endpoint | None, headers: Mapping[str, str], body: bytes) -> str:
    if endpoint is None:
        return f"Endpoint {name} not found."
    if "AsyncInferenceConfig" not in endpoint.config:
        return (
            f"Endpoint {name} is not an asynchronous one; InvokeEndpointAsync needs an AsyncInferenceConfig."
        )
    if bool(body) == bool(headers.get(f"{_HEADER}inputlocation")):
        return "Give either InputLocation or a Body."
    if len(body) > _MAX_INLINE:
        return f"The body is larger than {_MAX_INLINE:,} bytes; put it into S3 and give its InputLocation."
    return ""


def _message(waiting: _Waiting, fault: str) -> str:
    return json.dumps(
        {
            "inferenceId": waiting.inference_id,
            "invocationStatus": "Failed" if fault else "Completed",
            "requestParameters": {"inputLocation": waiting.location},
            "responseParameters": {} if fault else {"outputLocation": waiting.output},
            **({"failureReason": fault} if fault else {}),
        }
    )
