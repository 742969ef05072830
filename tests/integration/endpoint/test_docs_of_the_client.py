"""The snippets of docs/client.md and of the README run as they stand, against a local endpoint."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import inf2kit
from inf2kit.rehearsal.local.state import EndpointState
from tests.helpers.local_endpoint import EndpointCaller

ROOT = Path(inf2kit.__file__).parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("page", "blocks"), [("docs/client.md", 8), ("README.md", 2)])
def test_every_snippet_runs(
    victim: EndpointState, capsys: pytest.CaptureFixture[str], page: str, blocks: int
) -> None:
    snippets = BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))
    assert len(snippets) >= blocks
    values: dict[str, Any] = {"client": EndpointCaller(victim).client}
    for snippet in snippets:
        code = snippet.replace("smollm2-135m-local", victim.name)
        code = code.replace('Endpoint.from_preset("llama2-7b-throughput")', f'Endpoint("{victim.name}")')
        exec(compile(code.replace("llama2-7b-throughput", victim.name), page, "exec"), values)  # noqa: S102
    assert capsys.readouterr().out.strip()
