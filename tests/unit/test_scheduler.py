"""Rows, queue, deadlines: a tiny deterministic backend, no processes, no model."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.backend.contract import Backend, Step
from engine.scheduler import Scheduler
from engine.slots import Job
from inf2kit.errors import RequestError
from inf2kit.shapes import StaticShapes
from inf2kit.wire import Generation, Parameters, Token

VOCABULARY = 50
EOS = 7


class Sums(Backend):
    """Logits that depend on the sum of the row's ids; the contract's assertions are what is tested too."""

    def __init__(self, batch_size: int = 3) -> None:
        super().__init__(StaticShapes.of(batch_size, 64))
        self.sums: dict[int, int] = {}

    def load(self) -> None:
        pass

    def _prefill(self, row: int, ids: Sequence[int]) -> Step:
        self.sums[row] = sum(ids)
        return self._step([row])

    def _decode(self, rows: Sequence[int], ids: Sequence[int], _: Sequence[int]) -> Step:
        for row, token_id in zip(rows, ids, strict=True):
            self.sums[row] += token_id
        return self._step(rows)

    def _step(self, rows: Sequence[int]) -> Step:
        generators = [torch.Generator().manual_seed(self.sums[row]) for row in rows]
        return Step(torch.stack([torch.randn(VOCABULARY, generator=g) * 2 for g in generators]))


class Letters:
    """A letter per id."""

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(chr(65 + token_id) for token_id in ids if token_id != EOS)


class Outcome:
    """What a caller is told."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.end: Generation | None = None
        self.error: RequestError | None = None

    def job(self, ids: Sequence[int], *, deadline: float = 0.0, **parameters: object) -> Job:
        given_parameters = Parameters(**parameters)  # type: ignore[arg-type]
        return Job(
            prompt_ids=ids,
            parameters=given_parameters,
            max_new_tokens=min(given_parameters.max_new_tokens or 99, 64 - len(ids)),
            deadline=deadline or time.monotonic() + 60,
            on_token=lambda _, token: self.pieces.append(token.text),
            on_end=self._ended,
            on_error=lambda error: setattr(self, "error", error),
        )

    def _ended(self, _: int, token: Token | None, generation: Generation) -> None:
        assert self.end is None, "a caller is told the end once"
        self.pieces += [token.text] if token else []
        self.end = generation


def scheduler(queue_size: int = 4, backend: Backend | None = None) -> Scheduler:
    return Scheduler(backend or Sums(), Letters(), frozenset([EOS]), queue_size=queue_size)


def steps_until(subject: Scheduler, condition: Callable[[], object]) -> None:
    for _ in range(1000):
        if condition():
            return
        subject.step()
    raise AssertionError("not within 1000 steps")


def alone(ids: Sequence[int], **parameters: object) -> str:
    outcome, subject = Outcome(), scheduler()
    subject.submit([outcome.job(ids, **parameters)])
    steps_until(subject, lambda: outcome.end)
    assert outcome.end is not None
    return outcome.end.text


REQUESTS = st.fixed_dictionaries(
    {
        "ids": st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=8),
        "max_new_tokens": st.integers(1, 20),
        "seed": st.integers(0, 99),
        "do_sample": st.booleans(),
        "repetition_penalty": st.sampled_from([1.0, 1.3]),
        "min_new_tokens": st.sampled_from([0, 3]),
        "ignore_eos": st.booleans(),
        "stop": st.sampled_from([(), ("A",), ("BC", "D")]),
        "wait": st.integers(0, 4),
        "cancel_after": st.none() | st.integers(0, 5),
    }
)


@settings(max_examples=60, deadline=None)
@given(st.lists(REQUESTS, min_size=1, max_size=12))
def test_every_text_equals_its_alone_run_and_every_row_is_freed(requests: list[dict[str, object]]) -> None:
    backend = Sums()
    subject = scheduler(queue_size=20, backend=backend)
    running: list[tuple[Outcome, Job, dict[str, object]]] = []
    for request in requests:
        given_request = dict(request)
        for _ in range(int(str(given_request.pop("wait")))):
            subject.step()
        cancel_after = given_request.pop("cancel_after")
        ids = given_request.pop("ids")
        outcome = Outcome()
        job = outcome.job(ids, **given_request)  # type: ignore[arg-type]
        subject.submit([job])
        for _ in range(int(str(cancel_after)) if cancel_after is not None else 0):
            subject.step()
        job.cancelled = cancel_after is not None
        running.append((outcome, job, {"ids": ids, **given_request}))
    steps_until(subject, lambda: all(o.end or o.error or job.cancelled for o, job, _ in running))
    subject.step()
    for outcome, job, request in running:
        if outcome.end is not None:
            expected = alone(**request)  # type: ignore[arg-type]
            assert outcome.end.text == "".join(outcome.pieces) == expected
        else:
            assert job.cancelled
    assert backend._lengths == {}, "every row is free again"


def test_a_full_queue_is_refused_whole() -> None:
    subject, outcomes = scheduler(queue_size=1), [Outcome() for _ in range(5)]
    subject.submit([outcome.job([1]) for outcome in outcomes[:3]])
    with pytest.raises(RequestError) as refused:
        subject.submit([outcome.job([1]) for outcome in outcomes[3:]])
    assert (refused.value.status, refused.value.code) == (429, "queue_full")
    assert refused.value.retry_after_s
    subject.submit([outcomes[4].job([1])])


def test_the_deadline_gives_what_there_is() -> None:
    outcome, subject = Outcome(), scheduler()
    job = outcome.job([1], ignore_eos=True, max_new_tokens=50)
    subject.submit([job])
    for _ in range(5):
        subject.step()
    job.deadline = time.monotonic()
    subject.step()
    assert outcome.end is not None
    assert outcome.end.finish_reason == "time_limit"
    assert outcome.end.text == "".join(outcome.pieces)
    assert outcome.end.generated_tokens < 50


def test_a_job_that_never_got_a_row_is_told_so() -> None:
    subject, outcomes = scheduler(), [Outcome() for _ in range(4)]
    subject.submit([outcome.job([1], ignore_eos=True, max_new_tokens=60) for outcome in outcomes[:3]])
    subject.submit([outcomes[3].job([1], deadline=time.monotonic() - 1)])
    steps_until(subject, lambda: outcomes[3].error)
    assert outcomes[3].error is not None
    assert (outcomes[3].error.status, outcomes[3].error.code) == (429, "queue_timeout")


def test_a_call_of_several_prompts_keeps_what_it_has_at_the_deadline() -> None:
    subject, outcomes = scheduler(backend=Sums(batch_size=1)), [Outcome() for _ in range(3)]
    jobs = [outcome.job([1], ignore_eos=True, max_new_tokens=50) for outcome in outcomes]
    jobs[0].call = jobs[1].call = jobs[2].call
    subject.submit(jobs)
    for _ in range(5):
        subject.step()
    for job in jobs:
        job.deadline = time.monotonic()
    steps_until(subject, lambda: all(outcome.end for outcome in outcomes))
    ends = [outcome.end for outcome in outcomes if outcome.end]
    assert [end.finish_reason for end in ends] == ["time_limit"] * 3
    assert ends[0].generated_tokens > 1
    assert [(end.text, end.generated_tokens) for end in ends[1:]] == [("", 0)] * 2


def test_a_cancelled_job_in_the_queue_makes_room_at_once() -> None:
    subject, outcomes = scheduler(queue_size=1), [Outcome() for _ in range(5)]
    jobs = [outcome.job([1], ignore_eos=True, max_new_tokens=50) for outcome in outcomes]
    subject.submit(jobs[:4])
    jobs[3].cancelled = True
    subject.wake()
    subject.submit(jobs[4:])


def test_the_queue_is_in_order_of_arrival_at_the_endpoint() -> None:
    backend = Sums(batch_size=1)
    subject, first, second = scheduler(backend=backend), Outcome(), Outcome()
    late, early = first.job([1], max_new_tokens=3), second.job([2], max_new_tokens=3)
    early.arrival = late.arrival - 1
    subject.submit([late])
    subject.submit([early])
    steps_until(subject, lambda: second.end or first.end)
    assert second.end
    assert not first.end


def test_one_rows_failure_is_its_own() -> None:
    subject, bad, good = scheduler(), Outcome(), Outcome()
    job = bad.job([1], max_new_tokens=5)
    job.on_token = lambda *_: 1 / 0  # type: ignore[assignment, return-value]
    subject.submit([job])
    subject.submit([good.job([2], max_new_tokens=5, ignore_eos=True)])
    steps_until(subject, lambda: good.end)
    assert bad.error is not None
    assert bad.error.status == 500


def test_a_backend_that_samples_itself_refuses_what_it_cannot_honour() -> None:
    backend = Sums()
    backend.check(Parameters(seed=1, repetition_penalty=2.0))
    backend.returns, backend.honours = "ids", frozenset({"do_sample", "top_k"})  # type: ignore[misc]
    backend.check(Parameters(do_sample=True, top_k=5, max_new_tokens=3, stop=("x",)))
    with pytest.raises(RequestError, match="cannot honour repetition_penalty, seed;") as refused:
        backend.check(Parameters(do_sample=True, seed=1, repetition_penalty=2.0))
    assert refused.value.status == 422


def test_the_contract_is_asserted() -> None:
    backend = Sums()
    backend.prefill(0, [1])
    backend.prefill(2, [1])
    with pytest.raises(AssertionError, match="all live rows"):
        backend.decode([0], [1])
    with pytest.raises(AssertionError, match="row 0 is taken"):
        backend.prefill(0, [1])
    with pytest.raises(AssertionError, match="64 prompt tokens"):
        backend.prefill(1, [1] * 64)
