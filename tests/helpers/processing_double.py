"""A double of what a compilation job's caller asks of SageMaker Processing and CloudWatch Logs.

It is neither: moto's jobs are over as soon as they are created. Here a job runs for some looks at it, its log
grows with each, and then a function does the job's work.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from inf2kit.compile.job_progress import LOG_GROUP

_LOG_BEGAN_MS = 1_700_000_000_000


@dataclass
class ProcessingDouble:
    """One job.

    Attributes:
        work: Called with the job's request once it has run; returns its ExitMessage.
        looks: How often it is ``InProgress`` when looked at.
        lines_per_look: Lines that its log grows by for each look.
        seconds_per_line: Seconds between the timestamps of two lines.
        request: The job's request, as it was sent.
        returned: Lines of the log that each call for them has returned.
    """

    work: Callable[[dict[str, Any]], str]
    looks: int = 0
    lines_per_look: int = 0
    seconds_per_line: int = 30
    request: dict[str, Any] = field(default_factory=dict)
    returned: list[int] = field(default_factory=list)
    _lines: int = 0
    _message: str = ""

    def answer(self, operation: str, values: dict[str, Any]) -> dict[str, Any]:
        """Answer a call."""
        if operation == "CreateProcessingJob":
            self.request = values
            return {
                "ProcessingJobArn": f"arn:aws:sagemaker:us-east-1:123456789012:processing-job/{values}"[:200]
            }
        if operation == "DescribeProcessingJob":
            return self._describe(values["ProcessingJobName"])
        assert operation == "FilterLogEvents", operation
        assert values["logGroupName"] == LOG_GROUP
        times = [
            (number, _LOG_BEGAN_MS + 1000 * self.seconds_per_line * number) for number in range(self._lines)
        ]
        events = [
            {"eventId": str(number), "timestamp": time, "message": f"line {number}\n"}
            for number, time in times
            if time >= values.get("startTime", 0)
        ]
        self.returned.append(len(events))
        return {"events": events}

    def _describe(self, name: str) -> dict[str, Any]:
        self._lines += self.lines_per_look
        common = {"ProcessingJobName": name, "ProcessingJobArn": "arn", "CreationTime": 1_700_000_000}
        if self.looks > 0:
            self.looks -= 1
            return {**common, "ProcessingJobStatus": "InProgress"}
        self._message = self._message or self.work(self.request)
        return {**common, "ProcessingJobStatus": "Completed", "ExitMessage": self._message}

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Serve until the end of the block, and give the address."""
        double = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                operation = self.headers["X-Amz-Target"].rpartition(".")[2]
                content = json.dumps(double.answer(operation, body)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-amz-json-1.1")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
