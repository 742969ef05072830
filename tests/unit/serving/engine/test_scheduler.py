"""Rows, queue, failures: above a tiny deterministic backend."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from inf2kit.errors import RequestError
from inf2kit.serving.engine.backend.base import PrefillChunk, StepOutput
from inf2kit.serving.engine.request import RequestGroup
from inf2kit.serving.engine.scheduler import Scheduler
from tests.helpers.scheduling import (
    EOS,
    VOCABULARY,
    Caller,
    Letters,
    Outcome,
    Sums,
    alone,
    scheduler,
    steps_until,
)


def test_a_full_queue_is_refused_whole() -> None:
    subject, outcomes = scheduler(queue_size=1), [Outcome() for _ in range(6)]
    for outcome in outcomes[:3]:
        subject.submit([outcome.request([1])])
    two = RequestGroup()
    with pytest.raises(RequestError) as refused:
        subject.submit([outcome.request([1], group=two) for outcome in outcomes[3:5]])
    assert (refused.value.status, refused.value.code) == (429, "queue_full")
    assert refused.value.retry_after_s
    subject.submit([outcomes[5].request([1])])


def test_a_list_takes_half_of_the_capacity_and_the_others_their_turns() -> None:
    """Three rows and a queue of five: one call of eight texts, then four calls of one."""
    subject, listed, alone = scheduler(queue_size=5), RequestGroup(), [Outcome() for _ in range(4)]
    texts = [Outcome() for _ in range(8)]
    subject.submit(
        [outcome.request([1], group=listed, max_new_tokens=3, ignore_eos=True) for outcome in texts]
    )
    for outcome in alone:
        subject.submit([outcome.request([2], max_new_tokens=3, ignore_eos=True)])
    with pytest.raises(RequestError, match="this endpoint holds 8"):
        subject.submit([Outcome().request([2])])
    steps_until(subject, lambda: all(outcome.end for outcome in alone))
    assert sum(outcome.end is not None for outcome in texts) < 8, "the others did not wait for the whole list"
    steps_until(subject, lambda: all(outcome.end for outcome in texts))
    assert subject.unfinished == 0
    for outcome in [Outcome() for _ in range(8)]:
        subject.submit([outcome.request([1])])  # all of the capacity is free again


def test_a_cancelled_request_in_the_queue_makes_room_at_once() -> None:
    subject, outcomes = scheduler(queue_size=1), [Outcome() for _ in range(5)]
    requests = [outcome.request([1], ignore_eos=True, max_new_tokens=50) for outcome in outcomes]
    for request in requests[:4]:
        subject.submit([request])
    requests[3].cancelled = True
    subject.wake()
    subject.submit(requests[4:])


def test_the_queue_is_in_order_of_arrival_at_the_endpoint() -> None:
    backend = Sums(batch_size=1)
    subject, first, second = scheduler(backend=backend), Outcome(), Outcome()
    late, early = first.request([1], max_new_tokens=3), second.request([2], max_new_tokens=3)
    early.arrival = late.arrival - 1
    subject.submit([late])
    subject.submit([early])
    steps_until(subject, lambda: second.end or first.end)
    assert second.end
    assert not first.end


def test_one_rows_failure_is_its_own() -> None:
    subject, bad, good = scheduler(), Outcome(), Outcome()
    request = bad.request([1], max_new_tokens=5)
    request.on_token = lambda *_: 1 / 0  # type: ignore[assignment, return-value]
    subject.submit([request])
    subject.submit([good.request([2], max_new_tokens=5, ignore_eos=True)])
    steps_until(subject, lambda: good.end)
    assert bad.error is not None
    assert bad.error.status == 500


def test_one_rows_parameters_that_cannot_be_computed_are_its_own() -> None:
    subject, bad, good = scheduler(), Outcome(), Outcome()
    subject.submit([good.request([2], max_new_tokens=9, ignore_eos=True, do_sample=True, seed=4)])
    impossible = bad.request([1], max_new_tokens=5, do_sample=True, top_k="all")
    subject.submit([impossible])
    steps_until(subject, lambda: good.end)
    assert bad.error is not None
    assert bad.error.status == 500
    assert good.end is not None
    expected = Caller(0, [2], {"max_new_tokens": 9, "ignore_eos": True, "do_sample": True, "seed": 4}, None)
    assert good.end.text == alone(expected, 64)


def test_a_row_without_a_token_to_choose_gets_a_sentence_and_the_others_go_on() -> None:
    subject, bad, good = scheduler(), Outcome(), Outcome()
    subject.submit([good.request([2], max_new_tokens=9, ignore_eos=True)])
    banned = tuple(range(VOCABULARY))
    subject.submit([bad.request([1], max_new_tokens=5, min_new_tokens=2, stop_token_ids=banned)])
    steps_until(subject, lambda: good.end)
    assert bad.error is not None
    assert (bad.error.status, bad.error.code) == (422, "invalid_parameter")
    assert "leave no token" in str(bad.error)
    assert good.end is not None
    assert good.end.text == alone(Caller(0, [2], {"max_new_tokens": 9, "ignore_eos": True}, None), 64)


def test_a_request_that_cannot_be_given_a_row_gets_an_error_and_the_row_is_free_again() -> None:
    class Failing(Letters):
        def decode(self, ids: Sequence[int]) -> str:
            if 9 in ids:
                raise ValueError("no such id")
            return super().decode(ids)

    backend, bad, good = Sums(batch_size=1), Outcome(), Outcome()
    subject = Scheduler(backend, Failing(), frozenset([EOS]), queue_size=4)
    subject.submit([bad.request([9], max_new_tokens=2)])
    subject.submit([good.request([1], max_new_tokens=2, logit_bias=((9, -100.0),))])
    steps_until(subject, lambda: good.end)
    assert bad.error is not None
    assert bad.error.status == 500
    assert subject.unfinished == 0


def test_after_a_failure_every_caller_gets_its_error_and_later_ones_too() -> None:
    class Failing(Sums):
        def _decode(self, rows: Sequence[int], ids: Sequence[int], positions: Sequence[int]) -> StepOutput:
            del rows, ids, positions
            raise RuntimeError("the device is gone")

    subject, outcomes = scheduler(backend=Failing(batch_size=1)), [Outcome() for _ in range(3)]
    for outcome in outcomes:
        subject.submit([outcome.request([1], ignore_eos=True, max_new_tokens=5)])
    with pytest.raises(RuntimeError, match="the device is gone"):
        subject.run()
    error = RequestError(500, "internal_error", "gone")
    subject.fail_all(error)
    assert [outcome.error for outcome in outcomes] == [error] * 3
    with pytest.raises(RequestError, match="gone"):
        subject.submit([Outcome().request([1])])


def test_a_first_token_is_sent_before_the_decode_step_after_it() -> None:
    events: list[str] = []

    class Watched(Sums):
        def _decode(self, rows: Sequence[int], ids: Sequence[int], positions: Sequence[int]) -> StepOutput:
            events.append("decode")
            return super()._decode(rows, ids, positions)

    subject = Scheduler(
        Watched(), Letters(), frozenset(), queue_size=0, after_step=lambda: events.append("sent")
    )
    subject.submit([Outcome().request([1], max_new_tokens=3)])
    subject.step()
    assert events == ["sent", "decode", "sent"]


def test_long_prompts_do_not_stall_running_rows() -> None:
    """Between two decode steps there is one chunk, whatever else has arrived."""
    calls: list[str] = []

    class Watched(Sums):
        def _prefill(self, chunks: Sequence[PrefillChunk], starts: Sequence[int]) -> StepOutput:
            calls.append("prefill")
            return super()._prefill(chunks, starts)

        def _decode(self, rows: Sequence[int], ids: Sequence[int], positions: Sequence[int]) -> StepOutput:
            calls.append("decode")
            return super()._decode(rows, ids, positions)

    running, late = Outcome(), [Outcome() for _ in range(2)]
    subject = scheduler(backend=Watched())
    subject.submit([running.request([1], max_new_tokens=40, ignore_eos=True)])
    subject.step()
    calls.clear()
    subject.submit([outcome.request([1] * 20, max_new_tokens=2) for outcome in late])
    steps_until(subject, lambda: all(outcome.end for outcome in late))
    assert calls[:14] == ["prefill", "decode"] * 7
    assert "prefillprefill" not in "".join(calls)


@pytest.mark.parametrize("prompt", [1, 5, 30, 63])
@pytest.mark.parametrize("max_prefill_tokens", [3, None])
def test_a_full_row_goes_on_with_its_first_and_most_recent_tokens(
    prompt: int, max_prefill_tokens: int | None
) -> None:
    backend, outcome = Sums(), Outcome()
    backend.max_prefill_tokens = max_prefill_tokens
    subject = scheduler(backend=backend)
    ids = [(7 * index) % 50 for index in range(prompt)]
    subject.submit(
        [outcome.request(ids, max_new_tokens=200, ignore_eos=True, overflow="sinks", details="tokens")]
    )
    held: list[int] = []

    def windows() -> bool:
        held.append(max(map(len, backend.held.values()), default=0))
        return outcome.end is not None

    steps_until(subject, windows)
    assert outcome.end is not None
    assert outcome.end.generated_tokens == 200
    assert max(held) == 64, "a row is used to its static length and never beyond"
    assert "went on with the first and the most recent" in outcome.end.warnings[0]
    everything = [*ids, *(token.id for token in outcome.end.tokens)]
    row = backend.held[0]
    assert row[:4] == everything[:4], "the first tokens stay"
    assert row[4:] == everything[:-1][-len(row) + 4 :], "after them come the most recent ones"
