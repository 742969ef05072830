"""What a request gets when its time is over."""

from __future__ import annotations

import time

from tests.helpers.scheduling import Outcome, Sums, scheduler, steps_until
from tests.helpers.servers import PATIENCE_S


def test_the_deadline_gives_what_there_is() -> None:
    outcome, subject = Outcome(), scheduler()
    request = outcome.request([1], ignore_eos=True, max_new_tokens=50)
    subject.submit([request])
    for _ in range(5):
        subject.step()
    request.deadline = time.monotonic()
    subject.step()
    assert outcome.end is not None
    assert outcome.end.finish_reason == "time_limit"
    assert outcome.end.text == "".join(outcome.pieces)
    assert outcome.end.generated_tokens < 50


def test_a_stream_that_has_begun_goes_on_until_its_own_deadline() -> None:
    outcome, subject = Outcome(), scheduler()
    request = outcome.request([1], ignore_eos=True, max_new_tokens=50)
    request.stream_deadline = time.monotonic() + PATIENCE_S
    subject.submit([request])
    subject.step()
    request.deadline = time.monotonic()
    for _ in range(5):
        subject.step()
    assert outcome.end is None
    assert len(outcome.pieces) > 4
    subject.end_all()
    subject.step()
    assert outcome.end is not None
    assert outcome.end.finish_reason == "time_limit"


def test_a_stream_without_a_token_by_the_deadline_gets_an_error() -> None:
    subject, outcome, waiting = scheduler(), Outcome(), Outcome()
    for other in (outcome, Outcome(), Outcome()):
        subject.submit([other.request([1], ignore_eos=True, max_new_tokens=60)])
    late = waiting.request([1], deadline=time.monotonic() - 1)
    late.stream_deadline = time.monotonic() + PATIENCE_S
    subject.submit([late])
    subject.step()
    assert waiting.error is not None


def test_a_request_that_never_got_a_row_gets_an_error() -> None:
    subject, outcomes = scheduler(), [Outcome() for _ in range(4)]
    for outcome in outcomes[:3]:
        subject.submit([outcome.request([1], ignore_eos=True, max_new_tokens=60)])
    subject.submit([outcomes[3].request([1], deadline=time.monotonic() - 1)])
    steps_until(subject, lambda: outcomes[3].error)
    assert outcomes[3].error is not None
    assert (outcomes[3].error.status, outcomes[3].error.code) == (429, "queue_timeout")


def test_a_call_of_several_prompts_keeps_what_it_has_at_the_deadline() -> None:
    subject, outcomes = scheduler(backend=Sums(batch_size=1)), [Outcome() for _ in range(3)]
    requests = [outcome.request([1], ignore_eos=True, max_new_tokens=50) for outcome in outcomes]
    requests[0].group = requests[1].group = requests[2].group
    subject.submit(requests)
    for _ in range(5):
        subject.step()
    for request in requests:
        request.deadline = time.monotonic()
    steps_until(subject, lambda: all(outcome.end for outcome in outcomes))
    ends = [outcome.end for outcome in outcomes if outcome.end]
    assert [end.finish_reason for end in ends] == ["time_limit"] * 3
    assert ends[0].generated_tokens > 1
    assert [(end.text, end.generated_tokens) for end in ends[1:]] == [("", 0)] * 2


def test_a_deadline_that_comes_while_the_prompt_is_encoded() -> None:
    backend = Sums()
    subject, running, late = scheduler(backend=backend), Outcome(), Outcome()
    subject.submit([running.request([1], max_new_tokens=60, ignore_eos=True)])
    subject.step()
    request = late.request([1] * 40, max_new_tokens=2)
    subject.submit([request])
    subject.step()
    assert backend.busy == 2
    request.deadline = time.monotonic()
    subject.step()
    assert late.error is not None
    assert late.error.code == "queue_timeout"
    assert backend.busy == 1, "its row is free again"
