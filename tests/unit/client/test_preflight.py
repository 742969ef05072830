"""A call that cannot end within SageMaker's 60 s is refused before it is sent, by the published tables."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from inf2kit import (
    AsyncEndpoint,
    CallTooLongError,
    Endpoint,
    EndpointError,
    EndpointRequestError,
    TextResult,
)
from inf2kit.catalog.calibration import Calibration
from inf2kit.catalog.speeds import Speed, find_speed, measured_presets, published_speeds
from inf2kit.client.preflight import WHOLE_LIMIT_S, too_long
from inf2kit.client.published import PublishedEndpoint
from inf2kit.client.target import Target
from inf2kit.presets import preset_names
from tests.helpers.fault_server import TEXT, FaultServer, fault_server

BUDGET = "llama2-7b-budget"
#: End-to-end seconds of the published tables, for 256 new tokens and 256, 512 and 768 input tokens.
PUBLISHED = {
    "llama2-7b-budget": (15.9, 31.7, 47.3),
    "llama2-7b-latency": (2.3, 4.4, 6.2),
    "llama2-7b-throughput": (2.7, 5.3, 7.7),
    "llama2-13b-latency": (3.5, 6.9, 10.2),
    "llama2-13b-throughput": (4.1, 7.8, 11.1),
}


@pytest.mark.parametrize("preset", PUBLISHED)
def test_the_published_times_are_computed_and_never_much_too_low(preset: str) -> None:
    speed = published_speeds()[preset]
    for new_tokens, seconds in zip((256, 512, 768), PUBLISHED[preset], strict=True):
        assert 0.95 * seconds <= speed.call_s(256, new_tokens) <= 1.25 * seconds
    assert speed.call_s(256, 768) == pytest.approx(PUBLISHED[preset][2])


def test_each_published_preset_is_one_that_ships() -> None:
    assert set(published_speeds()) == set(PUBLISHED) <= set(preset_names())


@pytest.mark.parametrize("preset", PUBLISHED)
@pytest.mark.parametrize("input_tokens", [0, 256, 600, 1500])
def test_the_length_that_is_offered_fits_and_one_more_does_not(preset: str, input_tokens: int) -> None:
    speed, prompt = published_speeds()[preset], "x" * (4 * input_tokens)

    def check(new_tokens: int) -> CallTooLongError | None:
        return too_long("e", speed, 1, [prompt], {"max_new_tokens": new_tokens}, 100)

    error = check(100_000)
    assert error is not None
    assert error.expected_s > WHOLE_LIMIT_S
    assert check(error.max_new_tokens) is None
    assert check(error.max_new_tokens + 1) is not None


def calibration(preset: str) -> Calibration:
    return Calibration(
        preset=preset,
        batch_size=4,
        sequence_length=2048,
        engines=1,
        on_device_sampling=False,
        prefill_tokens=(128, 256, 512),
        prefill_s=(0.1, 0.2, 0.6),
        step_s=0.02,
        row_step_s=0.001,
        stall_s=0.0,
        new_tokens=100.0,
        new_tokens_deviation=5.0,
        round_trip_s=0.01,
        measured=dt.date(2026, 1, 1),
        machine="ml.inf2.xlarge",
    )


def test_the_users_own_calibrations_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INF2KIT_HOME", str(tmp_path))
    assert measured_presets() == sorted(PUBLISHED)
    calibration("mine").save()
    file = calibration(BUDGET).save()
    assert measured_presets() == sorted([*PUBLISHED, "mine"])
    speed = find_speed(BUDGET)
    assert speed
    assert speed.call_s(256, 101) == pytest.approx(0.01 + 0.2 + 100 * 0.024), "with all four rows busy"
    error = too_long("e", speed, 1, ["x"], {"max_new_tokens": 3000}, 100)
    assert f"by your own {file}" in str(error)
    assert find_speed("llama2-7b-latency") == published_speeds()["llama2-7b-latency"]
    # A second calibration counts at once.
    dataclasses.replace(calibration(BUDGET), step_s=1.0).save()
    again = find_speed(BUDGET)
    assert again
    assert again.step_s == pytest.approx(1.004)


@pytest.mark.parametrize(
    ("input_tokens", "seconds"), [(0, 0.1), (128, 0.1), (192, 0.15), (256, 0.2), (384, 0.4), (768, 1.0)]
)
def test_encoding_is_linear_between_lengths_and_beyond(input_tokens: int, seconds: float) -> None:
    speed = Speed((128, 256, 512), (0.1, 0.2, 0.6), 0.02, "somebody")
    assert speed.first_token_s(input_tokens) == pytest.approx(seconds)
    assert Speed((128,), (0.1,), 0.02, "somebody").first_token_s(input_tokens) == 0.1


@pytest.mark.parametrize("content", ["not toml", "x = 1", 'preset = "x"', b"\xff"])
def test_a_calibration_that_cannot_be_read_is_a_sentence(
    isolated: Path, server: FaultServer, content: str | bytes
) -> None:
    """And it concerns the calls of its own preset only."""
    file = calibration(BUDGET).save()
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    client = endpoint(Endpoint, server)
    with pytest.raises(EndpointError, match=r"is no calibration .* or delete it"):
        client.generate("x", max_new_tokens=5)
    assert server.requests["e"] == 0
    other = Endpoint("other", endpoint_url=server.url)
    assert other.generate("x", max_new_tokens=5).text == TEXT


def test_texts_that_do_not_fit_the_rows_take_turns() -> None:
    speed = published_speeds()[BUDGET]
    assert too_long("e", speed, 1, ["x"] * 2, {"max_new_tokens": 400}, 100) is None
    assert too_long("e", speed, 1, ["x"] * 3, {"max_new_tokens": 400}, 100)
    assert too_long("e", speed, 1, ["x"], {"max_new_tokens": 400, "n": 3}, 100)
    assert too_long("e", speed, 4, ["x"] * 3, {"max_new_tokens": 400}, 100) is None
    nothing_fits = too_long("e", speed, 1, ["x"] * 300, {"max_new_tokens": 4}, 100)
    assert nothing_fits
    assert "fewer prompts a call" in str(nothing_fits)


@pytest.fixture
def server(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    with fault_server() as server:
        yield server


def endpoint(kind: type[Any], server: FaultServer, **published: Any) -> Any:
    """A client of the budget preset as its stack publishes it, at the server's address."""
    session = boto3.session.Session("a", "b", region_name="us-east-1")
    target = Target.by_name("e", server.url, None, None, session, None)
    target.is_local = False  # it counts as one on AWS
    target.published = PublishedEndpoint(endpoint_name="e", preset=BUDGET, batch_size=1, **published)
    client = kind.__new__(kind)
    client._use(target)
    return client


@pytest.mark.parametrize("kind", [Endpoint, AsyncEndpoint])
def test_nothing_is_sent_unless_it_is_allowed_or_streamed(server: FaultServer, kind: type[Any]) -> None:
    async def call_all() -> None:
        client = endpoint(kind, server)

        async def call(**options: Any) -> Any:
            result = client.generate("x", max_new_tokens=2000, **options)
            return await result if kind is AsyncEndpoint else result

        with pytest.raises(CallTooLongError, match=r"expected to take 123 s .* by the tables that Hugging"):
            await call()
        assert server.requests["e"] == 0
        assert (await call(allow_long=True)).text == TEXT
        result = await call(long="stream")
        assert (result.text, server.requests["e"]) == (TEXT, 2)
        assert result.timings.first_text_s is not None

    asyncio.run(call_all())


@pytest.mark.parametrize("parameters", [[1], "x", 7])
def test_parameters_of_a_wrong_kind_fail_alone(server: FaultServer, parameters: object) -> None:
    request: Any = {"inputs": "x", "parameters": parameters}
    outcomes = list(endpoint(Endpoint, server).generate_many([request, "y"], max_new_tokens=5))
    assert [type(outcome) for outcome in outcomes] == [EndpointRequestError, TextResult]


def test_a_long_prompt_of_many_and_a_long_chat_fail_alone(server: FaultServer) -> None:
    client = endpoint(Endpoint, server)
    outcomes = list(client.generate_many(["x", "y"], max_new_tokens=2000))
    assert [type(outcome) for outcome in outcomes] == [CallTooLongError] * 2
    messages = [{"role": "user", "content": "Hi"}]
    with pytest.raises(CallTooLongError):
        client.chat(messages, max_tokens=2000)
    assert server.requests["e"] == 0


def test_an_endpoint_on_this_machine_is_never_refused(server: FaultServer) -> None:
    """Another model may stand in, as a rehearsal has it."""
    session = boto3.session.Session("a", "b", region_name="us-east-1")
    name = "llama2-7b-budget"
    result = Endpoint(name, endpoint_url=server.url, session=session).generate("x", max_new_tokens=2000)
    assert (result.text, json.dumps(server.requests[name])) == (TEXT, "1")
