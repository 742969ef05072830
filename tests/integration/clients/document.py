"""Write docs/clients.md from the catalogue, the files that the tests run, and the clients' own source.

``python -m tests.integration.clients.document`` writes it; a test checks that it is as this would write it.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.helpers.cloud import BIN, ROOT
from tests.integration.clients.catalog import CLIENTS, DOCUMENT, FOLDER, Client, Gap

_BEGINNING = """\
# Clients

Clients of other projects, unchanged, each with the code below run against the rehearsal cloud over real sockets by
`make test`: not on AWS. The requests are those of [the wire](wire.md); no client gets special treatment there. This document is
written by `python -m tests.integration.clients.document`, and a test compares it with what the clients did.

On AWS they find credentials and region as boto3 does. In a shell after `eval "$(inf2kit cloud env)"` they call the rehearsal.

A call that timed out may have been generated, and is paid for again when it is repeated. Whatever uses boto3 repeats it twice, after
60 s, which is SageMaker's own limit. The code below turns that off: a test counts one request for each call, also when its answer
breaks off. The SageMaker SDK and the aws command line need `AWS_MAX_ATTEMPTS=1` in their environment for that.

"""
_WORDS = {
    "whole": "whole answers",
    "stream": "streams",
    "awaited": "`await`",
    "awaited_stream": "`await` with a stream",
    "chat": "chats",
    "chat_stream": "streamed chats",
    "chat_awaited": "chats with `await`",
    "chat_awaited_stream": "streamed chats with `await`",
    "text_completion": "text completions",
    "stream_by_boto3": "streams by its boto3",
    "refused": "the endpoint's errors",
}


def site_packages(environment: str) -> Path:
    """The folder of an environment's packages, which ``make setup`` installs."""
    (folder,) = (BIN.parent / f"clients-{environment}").glob("lib/python3*/site-packages")
    return folder


def version(client: Client) -> str:
    """The version of a client, from its environment's lock file."""
    locked = (FOLDER / "environments" / f"{client.environment}.txt").read_text(encoding="utf-8")
    match = re.search(rf"^{re.escape(client.package)}==(\S+)", locked, re.MULTILINE)
    assert match is not None, client.package
    return match[1]


def line_number(client: Client, gap: Gap) -> int:
    """The line of a client's own code that is the reason for a gap, counted from 1."""
    lines = (site_packages(client.environment) / gap.file).read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if gap.line in line)


def calls(client: Client) -> list[str]:
    """The names of the calls in a client's file: public functions, or ``# name`` in a shell's script."""
    text = client.path.read_text(encoding="utf-8")
    if client.path.suffix == ".sh":
        return re.findall(r"^# (\w+)$", text, re.MULTILINE)
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node.name for node in ast.parse(text).body if isinstance(node, functions) and node.name[0] != "_"]


def render() -> str:
    """The whole document."""
    rows = [_row(client) for client in CLIENTS]
    head = ["| client | version | works | does not, or not quite |", "|---|---|---|---|"]
    return _BEGINNING + "\n".join([*head, *rows, ""]) + "".join(_section(client) for client in CLIENTS)


def _row(client: Client) -> str:
    broken = [gap.call for gap in client.gaps]
    works = ", ".join(_WORDS[name] for name in calls(client) if name not in broken)
    anchor = re.sub("[^a-z0-9_ -]", "", client.title.lower()).replace(" ", "-")
    fails = ", ".join(_WORDS[name] for name in broken)
    return f"| [{client.title}](#{anchor}) | {version(client)} | {works} | {fails} |"


def _section(client: Client) -> str:
    code = client.path.read_text(encoding="utf-8").rstrip()
    language = {"py": "python", "sh": "bash"}[client.path.suffix[1:]]
    parts = [f"\n## {client.title}\n", f"To set: {client.settings}\n" if client.settings else ""]
    if client.gaps:
        parts += ["What does not work, and why:\n"]
        parts += [*(f"- {gap.what}{_evidence(client, gap)}" for gap in client.gaps), ""]
    return "\n".join([*filter(None, parts[:2]), *parts[2:], f"```{language}\n{code}\n```", ""])


def _evidence(client: Client, gap: Gap) -> str:
    """Where a client's own code says so."""
    return f" (`{gap.file}`, line {line_number(client, gap)}: `{gap.line}`)" if gap.file else ""


if __name__ == "__main__":
    DOCUMENT.write_text(render(), encoding="utf-8")
    print(f"wrote {DOCUMENT.relative_to(ROOT)}")
