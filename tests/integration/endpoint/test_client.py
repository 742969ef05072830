"""Both kinds of the client against a local endpoint."""

from __future__ import annotations

import asyncio

from inf2kit import AsyncEndpoint, Endpoint, TextResult
from inf2kit.rehearsal.local.state import EndpointState


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
