"""Follow a compilation job from outside: its states, the tail of its log, and the package it published."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from inf2kit import aws
from inf2kit.errors import CompileError

Progress = Callable[[str], None]

LOG_GROUP = "/aws/sagemaker/ProcessingJobs"
#: Begins the last line of a successful job's log; the package's place follows.
PACKAGE_LINE = "inf2kit package: "
_FINAL_STATES = ("Completed", "Failed", "Stopped")
#: At most so many lines of the log are shown for each poll.
_TAIL_LINES = 15
#: Log events may arrive late, so each poll reads this much of the log again.
_OVERLAP_MS = 60_000


def follow(name: str, progress: Progress, region: str, poll_s: float = 15.0) -> str:
    """Report a job's states and the tail of its log until it ends.

    Ctrl-C ends the following and leaves the job running.

    Args:
        name: The job's name.
        progress: Called with each state and each line.
        region: The job's region.
        poll_s: Seconds between two polls.

    Returns:
        The place of the package that the job has published.

    Raises:
        CompileError: the job has failed, or AWS refuses a call.
    """
    sagemaker = aws.client("sagemaker", region)
    tail = _poll_log(name, region, progress)
    status, place = "", ""
    while True:
        with aws.translate_errors(CompileError, f"looking at the job {name}, which continues,"):
            job = sagemaker.describe_processing_job(ProcessingJobName=name)
            for line in next(tail):
                progress(line)
                place = line.removeprefix(PACKAGE_LINE) if line.startswith(PACKAGE_LINE) else place
        if job["ProcessingJobStatus"] != status:
            status = job["ProcessingJobStatus"]
            progress(f"the job is {status}")
        if status in _FINAL_STATES:
            break
        time.sleep(poll_s)
    message = str(job.get("ExitMessage") or "").strip()
    if status == "Completed" and (message or place):
        return message or place
    if status == "Completed":
        raise CompileError(
            f"the job {name} is Completed, and did not say where its package is; look for the newest one "
            "with inf2kit packages list"
        )
    reason = message or str(job.get("FailureReason") or "").strip() or "it gave no reason"
    raise CompileError(f"the job {name} is {status}: {reason}; its log is the stream {name}/ in {LOG_GROUP}")


def _poll_log(name: str, region: str, progress: Progress) -> Iterator[list[str]]:
    """Yield, at each poll, the last of the lines that are new in the job's log."""
    from botocore.exceptions import ClientError

    logs = aws.client("logs", region)
    seen: set[str] = set()
    newest_ms = 0
    readable = True
    while True:
        events: list[dict[str, Any]] = []
        try:
            pages = logs.get_paginator("filter_log_events").paginate(
                logGroupName=LOG_GROUP,
                logStreamNamePrefix=f"{name}/",
                startTime=max(newest_ms - _OVERLAP_MS, 0),
            )
            for page in pages if readable else ():
                events += [event for event in page["events"] if event["eventId"] not in seen]
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code == "AccessDeniedException":
                progress(f"your credentials do not allow logs:FilterLogEvents on {LOG_GROUP}: states only")
                readable = False
            # The log group does not exist before the first container of the account has started.
            elif code != "ResourceNotFoundException":
                raise
        seen |= {event["eventId"] for event in events}
        newest_ms = max((event["timestamp"] for event in events), default=newest_ms)
        yield [event["message"].rstrip() for event in events][-_TAIL_LINES:]
