"""From what a user asks for to a run: which endpoint, how it is called, and what can be read of it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass

from inf2kit.bench.load.openai_sender import OpenAISender
from inf2kit.bench.load.run import Plan, Progress, Run, new_report
from inf2kit.bench.load.senders import AsyncSender, BotoSender, JobSender, Sender
from inf2kit.bench.load.server import ServerMetrics
from inf2kit.bench.machine import describe_processor
from inf2kit.client.async_endpoint import AsyncEndpoint
from inf2kit.client.endpoint import Endpoint
from inf2kit.client.local import local_endpoint_url, local_gateway_url

#: How calls are sent, by the name of the transport.
TRANSPORTS = {
    "async": "inf2kit.AsyncEndpoint (httpcore)",
    "boto3": "inf2kit.Endpoint (boto3) in threads",
    "openai": "SageMaker's OpenAI route (httpx), as chats",
    "jobs": "asynchronous jobs, found by looking into S3 every 0.5 s and more seldom later",
}
#: Seconds to wait for a job.
_JOB_S = 3600.0


@dataclass(frozen=True)
class Address:
    """Which endpoint is called.

    Attributes:
        endpoint: Its name.
        endpoint_url: The address to call.
        region_name: The AWS region.
        profile_name: A profile of the AWS configuration.
    """

    endpoint: str
    endpoint_url: str | None = None
    region_name: str | None = None
    profile_name: str | None = None

    def open(self) -> Endpoint:
        """Return the endpoint.

        Raises:
            EndpointError: there cannot be such an endpoint, or AWS cannot be called.
        """
        return Endpoint(
            self.endpoint,
            endpoint_url=self.endpoint_url,
            region_name=self.region_name,
            profile_name=self.profile_name,
        )

    def open_async(self) -> AsyncEndpoint:
        """Return the endpoint for asyncio.

        Raises:
            EndpointError: as ``open`` does.
        """
        return AsyncEndpoint(
            self.endpoint,
            endpoint_url=self.endpoint_url,
            region_name=self.region_name,
            profile_name=self.profile_name,
        )


async def open_run(
    address: Address,
    transport: str,
    plan: Plan,
    *,
    timeout_s: float | None,
    metrics_url: str | None,
    on_progress: Callable[[Progress], None],
) -> Run:
    """Connect to an endpoint, and return a run that has not begun.

    Args:
        address: Which endpoint.
        transport: A key of ``TRANSPORTS``.
        plan: What is measured.
        timeout_s: Seconds that a call may take; None for the client's own limits.
        metrics_url: The address of the container's ``/metrics``; None for a local endpoint's own.
        on_progress: Called twice a second.

    Raises:
        EndpointError: there cannot be such an endpoint, or AWS cannot be called.
    """
    endpoint = address.open()
    sender: Sender
    if transport == "boto3":
        sender = BotoSender(endpoint.with_options(timeout=timeout_s, max_retries=0), streamed=plan.streamed)
    else:
        caller = address.open_async().with_options(timeout=timeout_s, max_retries=0)
        if transport == "jobs":
            sender = JobSender(caller, timeout_s or _JOB_S)
        elif transport == "openai":
            sender = OpenAISender(caller, streamed=plan.streamed, timeout_s=timeout_s)
        else:
            sender = AsyncSender(caller, streamed=plan.streamed)
    name = endpoint.name
    is_here = endpoint.is_local and address.endpoint_url in (None, local_endpoint_url(name))
    gateway_url = local_gateway_url(name) if is_here else None
    server = ServerMetrics(metrics_url or (gateway_url and f"{gateway_url}/metrics"))
    where = repr(endpoint).strip("<>").removeprefix("Endpoint ")
    report = new_report(name, where, describe_processor(), TRANSPORTS[transport], plan)
    if endpoint.is_local:
        report = dataclasses.replace(report, notices=("on this machine: no Neuron device was used",))
    count_tokens = functools.partial(_count_tokens, endpoint.with_options(idempotent=True), transport)
    return Run(endpoint, sender, count_tokens, plan, server, report, on_progress)


def _count_tokens(endpoint: Endpoint, transport: str, text: str) -> int:
    """Return the server's own count of a prompt's tokens, sent as the transport sends it."""
    if transport == "openai":
        return endpoint.chat([{"role": "user", "content": text}], max_tokens=1).input_tokens
    if transport == "jobs":
        result = endpoint.submit(text, max_new_tokens=1).result(timeout=_JOB_S)
    else:
        result = endpoint.generate(text, allow_long=True, max_new_tokens=1)
    return result[0].input_tokens if isinstance(result, list) else result.input_tokens
