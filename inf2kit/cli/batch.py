"""``inf2kit batch``: every line of a file through an endpoint."""

from __future__ import annotations

import json
import os
import signal
import threading
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import click

import inf2kit
from inf2kit.cli import INTERRUPTED_STATUS, end_process
from inf2kit.cli.batch_answers import AnswersFile
from inf2kit.cli.calling import address_options, connect, drop_unset, parameter_options


@click.command(short_help="Send each line of a file, and write a line for it.")
@click.argument(
    "requests_file", metavar="IN.jsonl", type=click.Path(path_type=Path, exists=True, dir_okay=False)
)
@click.argument("answers_file", metavar="OUT.jsonl", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--endpoint", required=True, help="The endpoint, which is local or on AWS.")
@click.option("--preset", is_flag=True, help="--endpoint is a preset, whose endpoint is looked up.")
@click.option(
    "--concurrency", type=click.IntRange(1), help="Calls at the same time. Default: its rows, or 8."
)
@click.option("--quiet", is_flag=True, help="Print no progress.")
@parameter_options
@address_options
def batch(
    requests_file: Path,
    answers_file: Path,
    endpoint: str,
    preset: bool,
    concurrency: int | None,
    quiet: bool,
    endpoint_url: str | None,
    region_name: str | None,
    profile_name: str | None,
    **options: Any,
) -> int:
    """Send each line of IN.jsonl to an endpoint, and write a line of OUT.jsonl for it, in the same order.

    A line is a text in JSON, or an object with inputs or messages, and with parameters of its own if it needs
    them. Ctrl-C waits for the answers of the calls in flight, and a second one drops them. Run the same
    command again after an interruption, and it goes on where it stopped.
    """
    parameters = drop_unset(options)
    requests = _read_requests(requests_file, parameters)
    answers = AnswersFile(answers_file, len(requests))
    if preset:
        client = inf2kit.Endpoint.from_preset(endpoint, region_name=region_name, profile_name=profile_name)
    else:
        client = connect(endpoint, endpoint_url, region_name, profile_name)
    unanswered = answers.unanswered
    if answers.answered:
        click.echo(f"{answers.answered} of {len(requests)} lines are in {answers_file} already", err=True)
    failed = 0
    denied: inf2kit.EndpointAccessError | None = None
    with _Interrupts(f"run the same command again to go on with {answers_file}") as interrupts, answers:
        outcomes = client.generate_many(
            [requests[index] for index in unanswered],
            concurrency=concurrency,
            as_completed=True,
            progress=not quiet,
            until=lambda: interrupts.have_come() or denied is not None,
            **parameters,
        )
        for position, outcome in outcomes:
            interrupts.answered += 1
            if isinstance(outcome, inf2kit.EndpointAccessError):
                # All others would fail alike, and nothing was generated: the next run sends them again.
                denied = outcome
                continue
            index = unanswered[position]
            if isinstance(outcome, inf2kit.EndpointError):
                failed += 1
                click.echo(f"line {index + 1}: {outcome}", err=True)
            answers.add(index, _line(outcome, requests[index]))
    if failed:
        click.echo(
            f"{failed} of {len(unanswered)} failed; their lines in {answers_file} have 'error'", err=True
        )
    if answers.answered < len(requests):
        click.echo(
            f"stopped after {answers.answered} of {len(requests)} lines; {interrupts.advice}", err=True
        )
        if denied is not None:
            raise denied
        return INTERRUPTED_STATUS
    return 1 if failed else 0


class _Interrupts:
    """Ctrl-C during a batch: the first lets no further call begin, and the second ends the process at once.

    Args:
        advice: How to go on.

    Attributes:
        answered: Number of calls that have ended, as its user counts them.
    """

    def __init__(self, advice: str) -> None:
        self.advice = advice
        self.answered = 0
        self._begun = 0
        self._came = False
        self._before: Any = None

    def __enter__(self) -> _Interrupts:
        """Begin to handle Ctrl-C, unless it is ignored."""
        is_ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        if threading.current_thread() is threading.main_thread() and not is_ignored:
            self._before = signal.signal(signal.SIGINT, self._stop)
        return self

    def __exit__(self, *_: object) -> None:
        """Handle Ctrl-C as before."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def have_come(self) -> bool:
        """Whether there was a Ctrl-C; it is asked before each call."""
        self._begun += not self._came
        return self._came

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        if self._came:
            _print(f"stopped without them; {self.advice}")
            end_process()
        self._came = True
        running = self._begun - self.answered
        calls = "1 call" if running == 1 else f"{running} calls"
        _print(f"waiting for the answers of {calls} in flight, which are paid for; Ctrl-C again drops them")


def _print(line: str) -> None:
    """Print a line to standard error past its buffer, which the signal may have interrupted."""
    with suppress(OSError):
        os.write(2, f"\n{line}\n".encode())


def _read_requests(source: Path, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """Read and check all lines before the first call, since calls are paid for.

    Raises:
        click.ClickException: a line is no request.
    """
    requests = []
    with source.open(encoding="utf-8") as file:
        try:
            for number, line in enumerate(file, 1):
                if line.strip():
                    requests.append(_parse(line, f"{source}, line {number}", parameters))
        except UnicodeDecodeError as error:
            raise click.ClickException(f"{source} is not UTF-8: {error.reason}; convert it") from None
    if not requests:
        raise click.ClickException(f"{source} has no lines; write one request into each")
    return requests


def _parse(line: str, where: str, parameters: dict[str, Any]) -> dict[str, Any]:
    from inf2kit.client.batch import build_call

    try:
        value = json.loads(line)
    except ValueError as error:
        raise click.ClickException(f"{where} is not JSON: {error}; nothing was sent") from None
    request = {"inputs": value} if isinstance(value, str) else value
    if not isinstance(request, dict):
        raise click.ClickException(
            f'{where} is no request; write a text such as "Once upon a time", or an object with inputs or '
            "messages. Nothing was sent"
        )
    if "prompt" in request:
        request["inputs"] = request.pop("prompt")
    try:
        build_call(request, parameters)
    except inf2kit.EndpointRequestError as error:
        raise click.ClickException(f"{where}: {error}. Nothing was sent") from None
    return request


def _line(outcome: inf2kit.TextResult | inf2kit.EndpointError, request: dict[str, Any]) -> dict[str, Any]:
    line: dict[str, Any] = {"id": request["id"]} if "id" in request else {}
    if isinstance(outcome, inf2kit.EndpointError):
        line |= {"error": str(outcome), "error_type": type(outcome).__name__}
        line |= {name: getattr(outcome, name) for name in ("status", "code")}
    else:
        names = ("text", "finish_reason", "input_tokens", "generated_tokens", "seed", "warnings")
        line |= {name: getattr(outcome, name) for name in names}
    return line | {"request_id": outcome.request_id, "attempts": outcome.attempts}
