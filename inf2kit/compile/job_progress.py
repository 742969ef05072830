"""Following a compilation job from outside: its states, the tail of its log, and what it has made."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from inf2kit import aws
from inf2kit.errors import CompileError

Progress = Callable[[str], None]

LOG_GROUP = "/aws/sagemaker/ProcessingJobs"
#: Begins the last line of a job's log that has made a package; its place follows.
PLACE = "inf2kit package: "
_ENDED = ("Completed", "Failed", "Stopped")
_TAIL = 15
#: Lines may come late: this much of the log is looked at again each time.
_AGAIN_MS = 60_000


def follow(name: str, progress: Progress, region: str, poll_s: float = 15.0) -> str:
    """Tell a job's states and the tail of its log until it ends.

    Leaving, by Ctrl-C, leaves the job running.

    Args:
        name: The job's name.
        progress: Told each state and line.
        region: Where it runs.
        poll_s: Seconds between two looks.

    Returns:
        The place of the package that it has made.

    Raises:
        CompileError: the job has failed, or cannot be looked at.
    """
    sagemaker = aws.client("sagemaker", region)
    lines = _log(name, region, progress)
    status, place = "", ""
    while True:
        with aws.translate_errors(CompileError, f"looking at the job {name}, which goes on,"):
            job = sagemaker.describe_processing_job(ProcessingJobName=name)
            for line in next(lines):
                progress(line)
                place = line.removeprefix(PLACE) if line.startswith(PLACE) else place
        if job["ProcessingJobStatus"] != status:
            status = job["ProcessingJobStatus"]
            progress(f"the job is {status}")
        if status in _ENDED:
            break
        time.sleep(poll_s)
    message = str(job.get("ExitMessage") or "").strip()
    if status == "Completed" and (message or place):
        return message or place
    if status == "Completed":
        raise CompileError(
            f"the job {name} is Completed, and did not say where its package is; look for the newest one "
            "with inf2kit package --list"
        )
    reason = message or str(job.get("FailureReason") or "").strip() or "it gave no reason"
    raise CompileError(f"the job {name} is {status}: {reason}; its log is the stream {name}/ in {LOG_GROUP}")


def _log(name: str, region: str, progress: Progress) -> Iterator[list[str]]:
    """New lines of the job's log, at most the last few of them, each time."""
    from botocore.exceptions import ClientError

    logs = aws.client("logs", region)
    seen: set[str] = set()
    newest = 0
    readable = True
    while True:
        events: list[dict[str, Any]] = []
        try:
            pages = logs.get_paginator("filter_log_events").paginate(
                logGroupName=LOG_GROUP,
                logStreamNamePrefix=f"{name}/",
                startTime=max(newest - _AGAIN_MS, 0),
            )
            for page in pages if readable else ():
                events += [event for event in page["events"] if event["eventId"] not in seen]
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code == "AccessDeniedException":
                progress(f"your credentials do not allow logs:FilterLogEvents on {LOG_GROUP}: states only")
                readable = False
            # There is no log before the container has started.
            elif code != "ResourceNotFoundException":
                raise
        seen |= {event["eventId"] for event in events}
        newest = max((event["timestamp"] for event in events), default=newest)
        yield [event["message"].rstrip() for event in events][-_TAIL:]
