"""GET /metrics at the container's port, after real calls."""

from __future__ import annotations

import urllib.request

import pytest
from botocore.exceptions import ClientError

from inf2kit.rehearsal.local.state import EndpointState
from inf2kit.serving.engine.metrics import parse_samples
from tests.helpers.local_endpoint import EndpointCaller
from tests.helpers.servers import PATIENCE_S


def scrape(endpoint: EndpointState) -> dict[str, float]:
    with urllib.request.urlopen(endpoint.gateway_url + "/metrics", timeout=PATIENCE_S) as response:  # noqa: S310
        assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
        return parse_samples(response.read().decode())


def test_calls_tokens_times_and_refusals_are_counted(served: EndpointState, caller: EndpointCaller) -> None:
    before = scrape(served)
    caller.generate("My favorite place on earth is", max_new_tokens=5, ignore_eos=True)
    caller.stream("My favorite place on earth is", max_new_tokens=7, ignore_eos=True)
    with pytest.raises(ClientError):
        caller.generate("x", top_p=7)
    now = scrape(served)

    def grown(name: str) -> float:
        return now[name] - before.get(name, 0.0)

    assert grown("inf2kit_calls_total") == 3
    assert grown("inf2kit_rejected_calls_total") == 1
    assert grown("inf2kit_generated_tokens_total") == 12
    assert grown("inf2kit_prompt_tokens_total") == 12
    assert grown("inf2kit_finished_texts_total") == 2
    assert grown("inf2kit_time_to_first_token_seconds_count") == 2
    assert grown("inf2kit_step_seconds_count") == 10
    assert now["inf2kit_rows"] == 8
    assert now["inf2kit_rows_busy"] == now["inf2kit_queue_length"] == now["inf2kit_texts_inside"] == 0
    assert now["inf2kit_engine_ready"] == 1
    assert now["inf2kit_engine_restarts"] == 0
