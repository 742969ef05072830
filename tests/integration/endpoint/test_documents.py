"""The code blocks of the README and of the pages about calls, as they stand, against local endpoints."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from inf2kit.rehearsal.local.state import EndpointState
from tests.helpers.cloud import BIN, ROOT
from tests.helpers.documents import blocks_to_run, replace_all, run_in_shell
from tests.helpers.local_endpoint import EndpointCaller


@pytest.mark.parametrize("page", ["docs/client.md", "README.md"])
def test_python(victim: EndpointState, capsys: pytest.CaptureFixture[str], page: str) -> None:
    """In one process for each page, since a block goes on where the one before has ended."""
    names = {
        "smollm2-135m-local": victim.name,
        'Endpoint.from_preset("llama2-7b-throughput")': f'Endpoint("{victim.name}")',
        "llama2-7b-throughput": victim.name,
    }
    values: dict[str, Any] = {"client": EndpointCaller(victim).client}
    for block in blocks_to_run(__file__, page, "python"):
        code = replace_all(block.code, names)
        exec(compile("\n" * block.line + code, block.page, "exec"), values)  # noqa: S102
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("page", ["docs/client.md", "README.md"])
def test_console(victim: EndpointState, home: Path, empty_home: Path, tmp_path: Path, page: str) -> None:
    """The README starts an endpoint of its own, with the real model, and stops it again."""
    starts = page == "README.md"
    # The real model is slow where many tests run at once, and the simulated one chats until its row is full.
    names = {"tokens 64": "tokens 4", '"Be brief."': '"Be brief." --max-new-tokens 4'}
    if not starts:
        names["smollm2-135m-local"] = victim.name
    environment = {
        "PATH": f"{BIN}{os.pathsep}{os.defpath}",
        "HOME": str(tmp_path),
        "INF2KIT_HOME": str(empty_home if starts else home),
    }
    (tmp_path / "requests.jsonl").write_text('{"prompt": "The sea is"}\n', encoding="utf-8")
    try:
        for block in blocks_to_run(__file__, page, "console"):
            for command, _ in block.commands:
                cwd = ROOT if starts else tmp_path
                run_in_shell(replace_all(command, names), environment, cwd, stdin="Hi\n")
    finally:
        # A command in the middle that fails leaves the README's endpoint running.
        if starts and (empty_home / "endpoints").exists():
            run_in_shell("inf2kit local down smollm2-135m-local", environment, tmp_path, statuses=(0, 1))
    assert starts or (tmp_path / "answers.jsonl").read_text(encoding="utf-8")


def test_the_wire(victim: EndpointState) -> None:
    """The bodies of docs/wire.md: a request is answered in the form that is shown, errors word by word."""
    request, answer, error, openai_error = (
        json.loads(block.code) for block in blocks_to_run(__file__, "docs/wire.md", "json")
    )
    caller = EndpointCaller(victim)
    (generation,) = caller.invoke({**request, "parameters": {**request["parameters"], "details": True}})
    assert set(answer[0]) == {*generation, "warnings"}
    assert set(answer[0]["details"]) - {"..."} < set(generation["details"])
    messages = [{"role": "user", "content": "Hi"}]
    for shown, body in (
        (error, {"inputs": "Hi", "parameters": {"top_p": 2}}),
        (openai_error, {"messages": messages, "top_p": 2}),
    ):
        with pytest.raises(ClientError) as refused:
            caller.invoke(body)
        returned = json.loads(refused.value.response["OriginalMessage"])
        assert abridged(returned, shown) == shown


def abridged(returned: Any, shown: Any) -> Any:
    """What was returned, with texts cut off where the page cuts them off with three dots."""
    if isinstance(shown, dict):
        assert set(returned) == set(shown)
        return {key: abridged(returned[key], shown[key]) for key in shown}
    if isinstance(shown, str) and shown.endswith("..."):
        return f"{returned[: len(shown) - 3]}..."
    return returned
