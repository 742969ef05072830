"""Asynchronous calls for asyncio. The few requests of a job go to S3 by boto3, in a thread."""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio
import anyio.to_thread

from inf2kit.client.jobs import Job, JobStatus, waits
from inf2kit.client.results import TextResult


class AsyncJob:
    """An asynchronous call, as ``AsyncEndpoint.submit`` returns it: ``Job``, awaitable.

    Args:
        job: The job.
    """

    def __init__(self, job: Job) -> None:
        self._job = job

    @classmethod
    async def from_id(cls, job_id: str, **options: Any) -> AsyncJob:
        """Return the job with an id, as ``Job.from_id`` does.

        Raises:
            EndpointError: as for ``Job.from_id``.
        """
        return cls(await anyio.to_thread.run_sync(partial(Job.from_id, job_id, **options)))

    def __repr__(self) -> str:
        """Return the endpoint and SageMaker's id of the call."""
        return repr(self._job)

    @property
    def id(self) -> str:
        """Its id, which is all that ``from_id`` needs."""
        return self._job.id

    async def status(self) -> JobStatus:
        """Look for the answer or the failure, as ``Job.status`` does.

        Raises:
            EndpointAccessError: the credentials do not allow that.
        """
        return await anyio.to_thread.run_sync(self._job.status)

    async def result(self, timeout: float = 600) -> TextResult | list[TextResult]:
        """Wait for the answer, as ``Job.result`` does.

        Raises:
            JobError, EndpointAccessError: as for ``Job.result``.
        """
        for wait_s in waits(timeout):
            if (answer := await anyio.to_thread.run_sync(self._job.look)) is not None:
                return answer
            await anyio.sleep(wait_s)
        raise self._job.not_yet(timeout)

    def cancel(self) -> None:
        """Refuse, as ``Job.cancel`` does.

        Raises:
            JobError: always.
        """
        self._job.cancel()
