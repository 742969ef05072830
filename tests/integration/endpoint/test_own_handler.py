"""A user's own handler changes whole answers; streams do not pass through it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from inf2kit.rehearsal.local.state import EndpointState
from tests.helpers import packages
from tests.helpers.local_endpoint import EndpointCaller


@pytest.fixture(scope="module")
def endpoint(
    start: Callable[..., EndpointState], simulated_preset: str, tmp_path_factory: pytest.TempPathFactory
) -> EndpointCaller:
    """An endpoint whose handler answers in upper case."""
    handler = packages.write_handler(tmp_path_factory.mktemp("handler") / "upper_case.py")
    return EndpointCaller(start(simulated_preset, name="own-handler", handler=handler))


def test_the_handler_changes_texts_and_a_stream_bypasses_it(endpoint: EndpointCaller) -> None:
    (generation,) = endpoint.generate("One two three", max_new_tokens=8)
    events = endpoint.stream("One two three", max_new_tokens=8)
    streamed = "".join(event["token"]["text"] for event in events)
    assert streamed != streamed.upper(), "the handler has something to change"
    assert generation["generated_text"] == streamed.upper()
    first, second = endpoint.generate(["One two three", "a"], max_new_tokens=8)
    assert first == generation
    assert second["generated_text"] == second["generated_text"].upper()


def test_an_error_keeps_its_status(endpoint: EndpointCaller) -> None:
    with pytest.raises(endpoint.client.exceptions.ModelError) as refused:
        endpoint.generate("One two three", max_new_tokens=-1)
    assert refused.value.response["OriginalStatusCode"] == 422
