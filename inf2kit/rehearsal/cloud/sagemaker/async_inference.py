"""InvokeEndpointAsync: requests and responses in S3."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from inf2kit.rehearsal import validation
from inf2kit.rehearsal.cloud.iam import ExecutionRole
from inf2kit.rehearsal.cloud.s3 import objects
from inf2kit.rehearsal.cloud.sagemaker.endpoint import Endpoint
from inf2kit.rehearsal.runtime.containers import Outcome, Target
from inf2kit.rehearsal.runtime.messages import new_request_id
from inf2kit.serving.asgi import Receive, Scope, Send, answer, body_parts, request_headers

#: SageMaker's defaults and limits: seconds of an invocation and in the queue, bytes of an inline body, and
#: concurrent invocations of an instance.
_TIMEOUT_S, _TTL_S, _MAX_INLINE, _CONCURRENT = 900, 21_600, 128_000, 4
_IDLE_S = 0.05
_HEADER = "x-amzn-sagemaker-"
#: The metrics of failures; a call counts in at most one of them.
FAULTS = ("ExpiredRequests", "RequestDownloadFailures", "InvocationFailures", "ResponseUploadFailures")


@dataclass(frozen=True)
class Backlog:
    """The queued and running calls of an endpoint.

    Attributes:
        calls: Their number.
        oldest_s: Seconds since the oldest was received; 0 without a call.
    """

    calls: int
    oldest_s: float


@dataclass
class _Call:
    """One accepted request."""

    inference_id: str
    content_type: str
    accept: str
    attributes: str
    input_uri: str
    body: bytes
    output_uri: str
    failure_uri: str
    timeout_s: float
    expires_at: float
    received_at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class _Result:
    """The result of one call.

    Attributes:
        content: The response's body.
        content_type: The response's content type.
        status: The container's status; 0 if it was not called or did not answer.
        model_s: Seconds that the container took.
        message: Why the call failed; empty if it did not.
        fault: One of ``FAULTS``; empty if the call did not fail.
    """

    content: bytes = b""
    content_type: str = ""
    status: int = 0
    model_s: float = 0.0
    message: str = ""
    fault: str = ""


class AsyncInference:
    """The queues of all asynchronous endpoints, processed on the event loop.

    Args:
        find_endpoint: Returns the endpoint of a name, or None.
        record: Called for each call that was taken from a queue, with the endpoint, the container, the
            container's outcome, the seconds in the queue, and one of ``FAULTS`` or an empty string.
        notify: Called with a topic's ARN and a message.
        log: Writes a line to the cloud's log.
    """

    def __init__(
        self,
        find_endpoint: Callable[[str], Endpoint | None],
        *,
        record: Callable[[str, Target, Outcome, float, str], None],
        notify: Callable[[str, str], None],
        log: Callable[[str], None],
    ) -> None:
        self._find_endpoint, self._record, self._notify, self._log = find_endpoint, record, notify, log
        self._queues: dict[str, deque[_Call]] = {}
        self._running: dict[str, list[_Call]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._client = httpx.AsyncClient(
            timeout=None,  # noqa: S113 - each call has a time-out of its own
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
            trust_env=False,
        )

    def backlog(self) -> dict[str, Backlog]:
        """Count the queued and running calls of each endpoint."""
        now = time.monotonic()
        backlog = {}
        for name, queue in self._queues.items():
            calls = [*self._running.get(name, ()), *queue]
            backlog[name] = Backlog(len(calls), max((now - call.received_at for call in calls), default=0.0))
        return backlog

    async def invoke(self, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Queue one request, or refuse it."""
        headers = request_headers(scope)
        endpoint = self._find_endpoint(name)
        body = b"".join([part async for part in body_parts(receive)])
        message = _check(name, endpoint, headers, body)
        if message or endpoint is None:
            refusal = {
                "content-type": "application/json",
                "x-amzn-errortype": "ValidationError",
                **new_request_id(),
            }
            await answer(send, 400, json.dumps({"Message": message}).encode(), refusal)
            return
        call = _parse(endpoint, headers, body)
        if name not in self._queues:
            self._queues[name] = deque()
            self._start_task(self._work(name))
        self._queues[name].append(call)
        locations = {
            "content-type": "application/json",
            f"{_HEADER}outputlocation": call.output_uri,
            f"{_HEADER}failurelocation": call.failure_uri,
            **new_request_id(),
        }
        await answer(send, 202, json.dumps({"InferenceId": call.inference_id}).encode(), locations)

    def _start_task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, name: str) -> None:
        """Give the calls of an endpoint's queue to its containers until the endpoint is deleted."""
        queue = self._queues[name]
        running = self._running.setdefault(name, [])
        while True:
            endpoint = self._find_endpoint(name)
            if endpoint is None:
                # Calls of a deleted endpoint are dropped.
                del self._queues[name]
                return
            client_config = endpoint.config.get("AsyncInferenceConfig", {}).get("ClientConfig", {})
            per_instance = int(client_config.get("MaxConcurrentInvocationsPerInstance", _CONCURRENT))
            has_room = len(running) < per_instance * sum(fleet.size for fleet in endpoint.fleets)
            target = endpoint.pick() if endpoint.takes_calls and has_room else None
            if not queue or target is None:
                await asyncio.sleep(_IDLE_S)
                continue
            call = queue.popleft()
            running.append(call)
            target.in_flight += 1
            self._start_task(self._process(endpoint, target, call))

    async def _process(self, endpoint: Endpoint, target: Target, call: _Call) -> None:
        """Process one call and write its response or its failure to S3."""
        waited_s = time.monotonic() - call.received_at
        role = next((fleet.role for fleet in endpoint.fleets if fleet.variant == target.variant), None)
        try:
            result = await self._invoke_container(target, call, role)
        finally:
            target.in_flight -= 1
            self._running[endpoint.name].remove(call)
        is_written = await self._write(endpoint, role, call, result)
        outcome = Outcome(result.status, result.model_s, 0.0)
        fault = result.fault if is_written else "ResponseUploadFailures"
        self._record(endpoint.name, target, outcome, waited_s, fault)

    async def _invoke_container(self, target: Target, call: _Call, role: ExecutionRole | None) -> _Result:
        body: bytes | None = call.body
        if call.input_uri:
            may_read = role is not None and role.may_read(call.input_uri)
            body = await asyncio.to_thread(objects.read, call.input_uri) if may_read else None
        if time.monotonic() > call.expires_at:
            message = "the request waited longer than RequestTTLSeconds"
            return _Result(message=message, fault="ExpiredRequests")
        if body is None:
            message = f"Unable to read the request from {call.input_uri}"
            return _Result(message=message, fault="RequestDownloadFailures")
        began = time.perf_counter()
        status, content, content_type = 0, b"", ""
        try:
            response = await asyncio.wait_for(self._post(target, call, body), call.timeout_s)
            status, content = response.status_code, response.content
            content_type = response.headers.get("content-type", "application/octet-stream")
            message = ""
            if status != 200:
                side = "client" if status < 500 else "server"
                message = f'Received {side} error ({status}) from model with message "{response.text}".'
        except asyncio.TimeoutError:
            message = f"the container did not answer within {call.timeout_s:g} s (InvocationTimeoutSeconds)"
        except httpx.HTTPError as error:
            message = f"the container did not answer ({type(error).__name__})"
        return _Result(
            content,
            content_type,
            status,
            time.perf_counter() - began,
            message,
            "InvocationFailures" if message else "",
        )

    async def _post(self, target: Target, call: _Call, body: bytes) -> httpx.Response:
        headers = {"content-type": call.content_type, "accept": call.accept}
        if call.attributes:
            headers[f"{_HEADER}custom-attributes"] = call.attributes
        return await self._client.post(f"{target.gateway_url}/invocations", content=body, headers=headers)

    async def _write(
        self, endpoint: Endpoint, role: ExecutionRole | None, call: _Call, result: _Result
    ) -> bool:
        """Write a response or a failure to S3 and send the notification; False if it cannot be written."""
        uri = call.failure_uri if result.message else call.output_uri
        output = endpoint.config["AsyncInferenceConfig"]["OutputConfig"]
        if role is None or not role.may_write(uri, output.get("KmsKeyId", "")):
            name = role.role_arn if role else "of the endpoint"
            self._log(f"{endpoint.name}: the role {name} may not write {uri}; the call has no response")
            return False
        content, content_type = result.content, result.content_type
        if result.message:
            content, content_type = result.message.encode(), "text/plain"
        try:
            await asyncio.to_thread(objects.write, uri, content, content_type)
        except KeyError:
            # The output bucket was deleted.
            return False
        topics = output.get("NotificationConfig", {})
        topic = topics.get("ErrorTopic" if result.message else "SuccessTopic")
        if topic:
            self._notify(topic, _notification(call, result.message))
        return True


def _check(name: str, endpoint: Endpoint | None, headers: Mapping[str, str], body: bytes) -> str:
    """Why a request is refused; empty if it is accepted."""
    if endpoint is None:
        return f"Endpoint {name} not found."
    if "AsyncInferenceConfig" not in endpoint.config:
        return (
            f"Endpoint {name} is not an asynchronous one; InvokeEndpointAsync needs an AsyncInferenceConfig."
        )
    faults = validation.find_header_faults("sagemaker-runtime", "InvokeEndpointAsync", headers)
    if faults:
        return faults
    if not endpoint.takes_calls:
        return f"Endpoint {name} is in status {endpoint.status}, not InService."
    if bool(body) == bool(headers.get(f"{_HEADER}inputlocation")):
        return "Give either InputLocation or a Body."
    if len(body) > _MAX_INLINE:
        return f"The body is larger than {_MAX_INLINE:,} bytes; put it into S3 and give its InputLocation."
    return ""


def _parse(endpoint: Endpoint, headers: Mapping[str, str], body: bytes) -> _Call:
    output = endpoint.config["AsyncInferenceConfig"]["OutputConfig"]
    key = str(uuid.uuid4())
    extension = headers.get(f"{_HEADER}s3outputpathextension", "").strip("/")
    output_path, failure_path = (
        "/".join(filter(None, (str(path).rstrip("/"), extension)))
        for path in (output["S3OutputPath"], output.get("S3FailurePath") or output["S3OutputPath"])
    )
    return _Call(
        inference_id=headers.get(f"{_HEADER}inference-id", str(uuid.uuid4())),
        content_type=headers.get(f"{_HEADER}content-type", "application/json"),
        accept=headers.get(f"{_HEADER}accept", "*/*"),
        attributes=headers.get(f"{_HEADER}custom-attributes", ""),
        input_uri=headers.get(f"{_HEADER}inputlocation", ""),
        body=body,
        output_uri=f"{output_path}/{headers.get(f'{_HEADER}filename') or f'{key}.out'}",
        failure_uri=f"{failure_path}/{key}-error.out",
        timeout_s=float(headers.get(f"{_HEADER}invocationtimeoutseconds", _TIMEOUT_S)),
        expires_at=time.monotonic() + float(headers.get(f"{_HEADER}requestttlseconds", _TTL_S)),
    )


def _notification(call: _Call, failure: str) -> str:
    return json.dumps(
        {
            "inferenceId": call.inference_id,
            "invocationStatus": "Failed" if failure else "Completed",
            "requestParameters": {"inputLocation": call.input_uri},
            "responseParameters": {} if failure else {"outputLocation": call.output_uri},
            **({"failureReason": failure} if failure else {}),
        }
    )
