"""The client against a local endpoint: both of its kinds, and the snippets of the docs as they stand."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

import inf2kit
from inf2kit import AsyncEndpoint, Endpoint, TextResult
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


def test_asyncio_and_chats_say_the_same(victim: EndpointState) -> None:
    messages = [{"role": "user", "content": "Hi"}]

    async def call_all() -> list[TextResult]:
        async with AsyncEndpoint(victim.name) as endpoint:
            whole, chat = await asyncio.gather(
                endpoint.generate("My favorite place on earth is", max_new_tokens=8),
                endpoint.chat(messages, max_new_tokens=8),
            )
            async with endpoint.stream("My favorite place on earth is", max_new_tokens=8) as stream:
                streamed = await stream.read()
            async with endpoint.chat(messages, stream=True, max_new_tokens=8) as stream:
                return [whole, streamed, chat, await stream.read()]

    endpoint = Endpoint(victim.name)
    expected = [
        endpoint.generate("My favorite place on earth is", max_new_tokens=8),
        endpoint.stream("My favorite place on earth is", max_new_tokens=8).read(),
        endpoint.chat(messages, max_new_tokens=8),
        endpoint.chat(messages, stream=True, max_new_tokens=8).read(),
    ]
    results = asyncio.run(call_all())
    for result, other in zip(results, expected, strict=True):
        assert (result.text, result.finish_reason) == (other.text, other.finish_reason)
        assert (result.input_tokens, result.generated_tokens) == (other.input_tokens, other.generated_tokens)
        assert result.generated_tokens == 8
    assert results[0].text == results[1].text
    assert results[2].text == results[3].text
