"""What is repeated, when, and how often; without sending or sleeping."""

from __future__ import annotations

from typing import Any

import pytest

from inf2kit.client.options import CallOptions, Retry
from inf2kit.client.retry import FIRST_WAIT_S, LONGEST_WAIT_S, Attempts, BackOff, RetryBudget
from inf2kit.errors import (
    CallTooLongError,
    EndpointAccessError,
    EndpointBusyError,
    EndpointConnectionError,
    EndpointError,
    EndpointInterruptedError,
    EndpointRequestError,
    EndpointServerError,
    EndpointTimeoutError,
    JobError,
)

KINDS = [
    EndpointAccessError,
    EndpointBusyError,
    EndpointConnectionError,
    EndpointInterruptedError,
    EndpointRequestError,
    EndpointServerError,
    EndpointTimeoutError,
    JobError,
]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def attempts(clock: Clock | None = None, back_off: BackOff | None = None, **options: Any) -> Attempts:
    return Attempts(CallOptions(**options), RetryBudget(), back_off, clock or Clock())


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_generated_nothing_is_repeated(kind: type[EndpointError]) -> None:
    call = attempts()
    call.start(stream=False)
    if kind in (EndpointBusyError, EndpointConnectionError):
        assert 0 < call.wait_after(kind("x")) <= FIRST_WAIT_S
    else:
        with pytest.raises(kind):
            call.wait_after(kind("x"))


@pytest.mark.parametrize("kind", KINDS)
def test_an_idempotent_call_is_repeated_after_a_lost_answer_too(kind: type[EndpointError]) -> None:
    safe = (EndpointBusyError, EndpointConnectionError, EndpointTimeoutError, EndpointInterruptedError)
    call = attempts(idempotent=True)
    call.start(stream=False)
    if kind in safe:
        assert call.wait_after(kind("x")) > 0
    else:
        with pytest.raises(kind):
            call.wait_after(kind("x"))


def test_waits_double_with_jitter_up_to_the_longest_one() -> None:
    waits = []
    call = attempts(max_retries=20)
    for _ in range(20):
        call.start(stream=False)
        waits.append(call.wait_after(EndpointBusyError("x")))
    for number, wait_s in enumerate(waits):
        full = min(FIRST_WAIT_S * 2**number, LONGEST_WAIT_S)
        assert full / 2 <= wait_s <= full
    assert len(set(waits)) == len(waits), "no two waits are equal"
    assert call.waited_s == pytest.approx(sum(waits))


def test_the_endpoint_is_never_called_earlier_than_it_asks_for() -> None:
    call = attempts()
    call.start(stream=False)
    assert 7 <= call.wait_after(EndpointBusyError("x", retry_after_s=7)) <= 9
    call.start(stream=False)
    with pytest.raises(EndpointBusyError):
        call.wait_after(EndpointBusyError("x", retry_after_s=3600))


def test_the_last_error_says_how_often_the_call_was_sent() -> None:
    seen: list[Retry] = []
    call = attempts(max_retries=2, on_retry=seen.append)
    error = EndpointBusyError("x")
    for _ in range(2):
        call.start(stream=False)
        call.wait_after(error)
    call.start(stream=False)
    with pytest.raises(EndpointBusyError) as last:
        call.wait_after(error)
    assert last.value.attempts == 3
    assert [retry.attempt for retry in seen] == [1, 2]
    assert all(retry.error is error and retry.wait_s > 0 for retry in seen)


def test_no_attempt_begins_that_cannot_end_before_the_deadline() -> None:
    clock = Clock()
    call = attempts(clock, deadline=10)
    assert call.start(stream=False) == 10
    clock.now += 4
    call.wait_after(EndpointBusyError("x"))
    assert call.start(stream=False) == 6
    with pytest.raises(EndpointBusyError):
        call.wait_after(EndpointBusyError("x", retry_after_s=7))


def test_an_endpoint_that_is_down_is_not_called_more_often_than_its_budget_allows() -> None:
    budget = RetryBudget(capacity=3)
    repeated = 0
    for _ in range(10):
        call = Attempts(CallOptions(max_retries=2), budget)
        call.start(stream=False)
        try:
            call.wait_after(EndpointConnectionError("x"))
            repeated += 1
        except EndpointConnectionError:
            continue
    assert repeated == 3
    budget.give_back(repeated=True)
    assert budget.take()


def test_those_who_share_a_back_off_hold_together() -> None:
    clock = Clock()
    back_off = BackOff(clock)
    first, second = attempts(clock, back_off), attempts(clock, back_off)
    first.start(stream=False)
    wait_s = first.wait_after(EndpointBusyError("x", retry_after_s=5))
    assert wait_s * 0.999 <= second.hold_s() <= 1.25 * wait_s
    assert len({second.hold_s() for _ in range(9)}) > 1, "they do not come back at the same moment"
    late = attempts(clock, back_off, deadline=3)
    with pytest.raises(EndpointBusyError, match="deadline"):
        late.hold_s()
    assert late.number == 0, "not sent where no time is left for it"
    clock.now += wait_s + 0.01
    assert second.hold_s() == 0
    second.start(stream=False)
    second.wait_after(EndpointConnectionError("x"))
    assert first.hold_s() == 0, "a lost connection is one caller's"


@pytest.mark.parametrize("option", [{"timeout": 0}, {"timeout": -1}, {"deadline": 0}, {"max_retries": -1}])
def test_wrong_options_are_a_sentence(option: dict[str, Any]) -> None:
    with pytest.raises(EndpointError, match=next(iter(option))):
        CallOptions(**option)


def test_a_call_that_is_too_long_is_one_that_is_wrong() -> None:
    error = CallTooLongError("x", expected_s=61.0, max_new_tokens=900)
    assert isinstance(error, EndpointRequestError)
    assert (error.attempts, error.max_new_tokens) == (0, 900)
