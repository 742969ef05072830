"""``inf2kit batch``: every line of a file through an endpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

import inf2kit
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
    them. Run the same command again after an interruption, and it goes on where it stopped.
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
    try:
        outcomes = client.generate_many(
            [requests[index] for index in unanswered],
            concurrency=concurrency,
            as_completed=True,
            progress=not quiet,
            **parameters,
        )
        for position, outcome in outcomes:
            index = unanswered[position]
            if isinstance(outcome, inf2kit.EndpointError):
                failed += 1
                click.echo(f"line {index + 1}: {outcome}", err=True)
            answers.add(index, _line(outcome, requests[index]))
    except KeyboardInterrupt:
        click.echo(f"\nstopped; run the same command again to go on with {answers_file}", err=True)
        raise
    finally:
        answers.close()
    if failed:
        click.echo(
            f"{failed} of {len(unanswered)} failed; their lines in {answers_file} have 'error'", err=True
        )
    return 1 if failed else 0


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
