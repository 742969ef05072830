"""Asynchronous calls: SageMaker answers them into S3 within an hour, and no call tells their status."""

from __future__ import annotations

import base64
import binascii
import json
import re
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from inf2kit import aws
from inf2kit.client.account import Account
from inf2kit.client.answers import Reply, read_reply
from inf2kit.client.failures import Refusal
from inf2kit.client.results import TextResult
from inf2kit.errors import EndpointAccessError, JobError

#: SageMaker's defaults: seconds that a call may wait, and that its generation may take.
TTL_S, INVOCATION_TIMEOUT_S = 21_600, 900
#: Seconds between two looks at S3: the first, and the longest.
_FIRST_LOOK_S, _LONGEST_LOOK_S = 0.5, 10.0
#: How SageMaker writes a container's error into the failure.
_CONTAINER_ERROR = re.compile(
    r'Received (?:client|server) error \((\d+)\) from \S+ with message "(.*)"', re.S
)

#: ``pending``: it waits or runs, which SageMaker does not tell apart. ``expired``: no answer can come now.
JobStatus = Literal["pending", "done", "failed", "expired"]


@dataclass(frozen=True)
class Ticket:
    """What must be known of a job to find its answer.

    Attributes:
        endpoint: The EndpointName.
        output: The ``s3://`` address of its answer.
        failure: The ``s3://`` address of its failure.
        inference_id: SageMaker's id of the call.
        submitted_at: Seconds since 1970.
        longest_s: Seconds after which there can be no answer any more.
        chat: Whether the answer has OpenAI's schema.
        single: Whether the result is one, and no list.
    """

    endpoint: str
    output: str
    failure: str
    inference_id: str
    submitted_at: float
    longest_s: float
    chat: bool
    single: bool

    def to_id(self) -> str:
        """Return the job's id: all of this, in letters, digits, ``-`` and ``_``."""
        content = json.dumps(asdict(self), separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(content).decode().rstrip("=")

    @classmethod
    def from_id(cls, job_id: str) -> Ticket:
        """Read an id.

        Raises:
            JobError: it is not one.
        """
        try:
            content = base64.urlsafe_b64decode(job_id + "=" * (-len(job_id) % 4))
            return cls(**json.loads(content))
        except (ValueError, TypeError, AttributeError, binascii.Error):
            raise JobError("this is not the id of a job; give one that job.id had") from None


class Job:
    """An asynchronous call, as ``Endpoint.submit`` returns it.

        job = llama.submit("Once upon a time", max_new_tokens=2000)
        print(job.id)  # keeps for another process: Job.from_id(...)
        print(job.result(timeout=600).text)

    Args:
        ticket: What must be known of it.
        s3: boto3's client of S3.
    """

    def __init__(self, ticket: Ticket, s3: Any) -> None:
        self._ticket, self._s3 = ticket, s3

    @classmethod
    def from_id(
        cls,
        job_id: str,
        *,
        region_name: str | None = None,
        profile_name: str | None = None,
        session: Any = None,
    ) -> Job:
        """Return the job with an id, also of another process.

        Args:
            job_id: What ``job.id`` was.
            region_name: The AWS region, instead of the configured one.
            profile_name: A profile of the AWS configuration.
            session: A ``boto3.session.Session`` with credentials and region of its own.

        Raises:
            JobError: this is not the id of a job.
            EndpointError: AWS cannot be called.
        """
        ticket = Ticket.from_id(job_id)
        return cls(ticket, Account(region_name, profile_name, session).service_client("s3"))

    def __repr__(self) -> str:
        """Return the endpoint and SageMaker's id of the call."""
        return f"<Job {self._ticket.inference_id} of {self._ticket.endpoint!r}>"

    @property
    def id(self) -> str:
        """Its id, which is all that ``Job.from_id`` needs."""
        return self._ticket.to_id()

    def status(self) -> JobStatus:
        """Look whether the answer or the failure is in S3, and else at the job's age.

        Raises:
            EndpointAccessError: the credentials do not allow that.
        """
        if self._exists(self._ticket.output):
            return "done"
        if self._exists(self._ticket.failure):
            return "failed"
        return _by_age(self._ticket)

    def result(self, timeout: float = 600) -> TextResult | list[TextResult]:
        """Wait for the answer, and return it: what ``generate`` returns for the same prompt.

        Args:
            timeout: Seconds to wait at most. The job goes on after that, and can be asked again.

        Raises:
            JobError: it failed, can have no answer any more, or is not done in time (``code`` is
                ``pending``).
            EndpointAccessError: the credentials do not allow to read it.
        """
        for wait_s in waits(timeout):
            if (answer := self.look()) is not None:
                return answer
            time.sleep(wait_s)
        raise self.not_yet(timeout)

    def look(self) -> TextResult | list[TextResult] | None:
        """Return the answer if it is there, and None while the job is pending.

        Raises:
            JobError: it failed, or can have no answer any more.
            EndpointAccessError: the credentials do not allow to read it.
        """
        status = self.status()
        if status == "done":
            return self._read()
        if status == "failed":
            raise self._failure()
        if status == "expired":
            raise JobError(
                f"{self!r} is older than {self._ticket.longest_s:.0f} s and has neither an answer nor a "
                "failure: SageMaker dropped it, or its answer was deleted; submit it again",
                code="expired",
                request_id=self._ticket.inference_id,
            )
        return None

    def not_yet(self, timeout: float) -> JobError:
        """Make the error of a job that is not done in time."""
        return JobError(
            f"{self!r} is not done after {timeout:g} s; it goes on, so ask again later: "
            f"Job.from_id({self.id!r})",
            code="pending",
            request_id=self._ticket.inference_id,
        )

    @staticmethod
    def statuses(jobs: Sequence[Job]) -> list[JobStatus]:
        """Return the status of each job, by listing the folders of their answers and failures once.

        Args:
            jobs: Jobs, of one account.

        Raises:
            EndpointAccessError: the credentials do not allow to list a folder.
        """
        return _statuses(jobs)

    def cancel(self) -> None:
        """Refuse: SageMaker cannot cancel an asynchronous call.

        Raises:
            JobError: always; it says what happens instead.
        """
        raise JobError(
            f"{self!r} cannot be cancelled: SageMaker has no call for that. It is answered into "
            f"{self._ticket.output}, or dropped when it has waited too long; nothing has to be read"
        )

    def _exists(self, uri: str) -> bool:
        from botocore.exceptions import ClientError

        bucket, key = _split(uri)
        with _translate_errors(f"looking for {uri}"):
            try:
                self._s3.head_object(Bucket=bucket, Key=key)
            except ClientError as error:
                if error.response["Error"]["Code"] in ("404", "NoSuchKey"):
                    return False
                raise
        return True

    def _get(self, uri: str) -> bytes:
        bucket, key = _split(uri)
        with _translate_errors(f"reading {uri}"):
            content: bytes = self._s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        return content

    def _read(self) -> TextResult | list[TextResult]:
        ticket = self._ticket
        reply = Reply(self._get(ticket.output), None, ticket.inference_id)
        results = [
            replace(result, request_id=ticket.inference_id)
            for result in read_reply(ticket.endpoint, reply, chat=ticket.chat)
        ]
        return results[0] if ticket.single and len(results) == 1 else results

    def _failure(self) -> JobError:
        text = self._get(self._ticket.failure).decode("utf-8", "replace")
        match = _CONTAINER_ERROR.search(text)
        status, code, sentence = None, None, text
        if match:
            refusal = Refusal(424, "ModelError", text, int(match[1]), match[2], self._ticket.inference_id)
            error = refusal.to_error(self._ticket.endpoint)
            status, code, sentence = error.status, error.code, str(error)
        return JobError(
            f"{self!r} failed: {sentence[:500]}",
            status=status,
            code=code,
            request_id=self._ticket.inference_id,
        )


def waits(timeout: float) -> Iterator[float]:
    """Yield the seconds to wait after each look at S3, until a timeout; the last look is at its end."""
    ends_at, wait_s = time.monotonic() + timeout, _FIRST_LOOK_S
    while (left_s := ends_at - time.monotonic()) > 0:
        yield min(wait_s, left_s)
        wait_s = min(wait_s * 1.5, _LONGEST_LOOK_S)
    yield 0.0


def _statuses(jobs: Sequence[Job]) -> list[JobStatus]:
    folders: dict[tuple[str, str], set[str]] = defaultdict(set)
    for job in jobs:
        for uri in (job._ticket.output, job._ticket.failure):
            bucket, key = _split(uri)
            folders[bucket, key.rpartition("/")[0] + "/"].add(key)
    existing: set[str] = set()
    for (bucket, folder), keys in folders.items():
        with _translate_errors(f"listing s3://{bucket}/{folder}"):
            existing |= _list(jobs[0]._s3, bucket, folder, keys)
    return [
        "done"
        if job._ticket.output in existing
        else "failed"
        if job._ticket.failure in existing
        else _by_age(job._ticket)
        for job in jobs
    ]


def _list(s3: Any, bucket: str, folder: str, keys: set[str]) -> set[str]:
    """Return those of a folder's keys that exist, as addresses."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=folder, Delimiter="/")
    return {
        f"s3://{bucket}/{item['Key']}"
        for page in pages
        for item in page.get("Contents", ())
        if item["Key"] in keys
    }


def _by_age(ticket: Ticket) -> JobStatus:
    return "expired" if time.time() - ticket.submitted_at > ticket.longest_s else "pending"


def _split(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


@contextmanager
def _translate_errors(doing: str) -> Iterator[None]:
    with aws.translate_errors(EndpointAccessError, doing):
        yield
