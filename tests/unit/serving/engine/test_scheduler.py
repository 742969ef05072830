"""Rows, queue, deadlines: a tiny deterministic backend, no processes, no model."""

from __future__ import annotations

import functools
import random
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
import torch

from inf2kit.errors import RequestError
from inf2kit.serving.engine.backend.base import Backend, BatchError, PrefillChunk, StepOutput
from inf2kit.serving.engine.detokenizer import TokenDecoder
from inf2kit.serving.engine.request import Request, RequestGroup
from inf2kit.serving.engine.scheduler import Scheduler
from inf2kit.serving.shapes import StaticShapes
from inf2kit.serving.wire import Generation, Parameters, Token
from tests.helpers.servers import PATIENCE_S

VOCABULARY = 50
EOS = 7
PATTERNS = 500
LOGITS = torch.randn(997, VOCABULARY, generator=torch.Generator().manual_seed(0)) * 2


class Sums(Backend):
    """Logits that depend on the ids in the row; the contract's assertions are what is tested too."""

    max_prefill_tokens = 3

    def __init__(
        self, batch_size: int = 3, sequence_length: int = 64, max_context_length: int | None = None
    ) -> None:
        super().__init__(StaticShapes.resolve(batch_size, sequence_length, max_context_length))
        self.held: dict[int, list[int]] = {}
        self.prefills = 0

    def load(self) -> None:
        pass

    @property
    def busy(self) -> int:
        return len(self._lengths) + len(self._partial_lengths)

    def _prefill(self, chunks: Sequence[PrefillChunk], starts: Sequence[int]) -> StepOutput:
        self.prefills += 1
        for chunk, start in zip(chunks, starts, strict=True):
            self.held[chunk.row] = [*(self.held[chunk.row] if start else []), *chunk.ids]
        return self._step([chunk.row for chunk in chunks])

    def _decode(self, rows: Sequence[int], ids: Sequence[int], positions: Sequence[int]) -> StepOutput:
        self.prefills = 0
        for row, token_id, position in zip(rows, ids, positions, strict=True):
            assert len(self.held[row]) == position
            self.held[row].append(token_id)
        return self._step(rows)

    def _step(self, rows: Sequence[int]) -> StepOutput:
        seeds = [zlib.crc32(bytes(self.held[row])) for row in rows]
        return StepOutput(torch.stack([LOGITS[seed % len(LOGITS)] for seed in seeds]))


class Letters(TokenDecoder):
    """A letter per id."""

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(chr(65 + token_id) for token_id in ids if token_id != EOS)


class Outcome:
    """What a caller gets."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.end: Generation | None = None
        self.error: RequestError | None = None

    def request(
        self,
        ids: Sequence[int],
        *,
        deadline: float = 0.0,
        length: int = 64,
        group: RequestGroup | None = None,
        **parameters: object,
    ) -> Request:
        values = Parameters(**parameters)  # type: ignore[arg-type]
        return Request(
            prompt_ids=ids,
            parameters=values,
            max_new_tokens=StaticShapes.resolve(1, length).new_tokens_within(
                len(ids), values.max_new_tokens, overflow=values.overflow
            ),
            deadline=deadline or time.monotonic() + PATIENCE_S,
            on_token=lambda _, token: self.pieces.append(token.text),
            on_end=self._ended,
            on_error=lambda error: setattr(self, "error", error),
            group=group or RequestGroup(),
        )

    def _ended(self, _: int, token: Token | None, generation: Generation) -> None:
        assert self.end is None, "a caller gets the end once"
        self.pieces += [token.text] if token else []
        self.end = generation


def scheduler(queue_size: int = 4, backend: Backend | None = None, prefills_per_step: int = 1) -> Scheduler:
    return Scheduler(
        backend or Sums(),
        Letters(),
        frozenset([EOS]),
        queue_size=queue_size,
        prefills_per_step=prefills_per_step,
    )


def steps_until(subject: Scheduler, condition: Callable[[], object]) -> None:
    for _ in range(1000):
        if condition():
            return
        subject.step()
    raise AssertionError("not within 1000 steps")


def alone(caller: Caller, length: int) -> str:
    return run_alone(tuple(caller.ids), tuple(caller.parameters.items()), length)


@functools.cache
def run_alone(ids: tuple[int, ...], parameters: tuple[tuple[str, object], ...], length: int) -> str:
    outcome, subject = Outcome(), scheduler(backend=Sums(1, length))
    subject.submit([outcome.request(ids, length=length, **dict(parameters))])
    steps_until(subject, lambda: outcome.end)
    assert outcome.end is not None
    return outcome.end.text


@dataclass
class Caller:
    """One caller of a random pattern: when it comes, what it wants, when it goes away."""

    at: int
    ids: list[int]
    parameters: dict[str, object]
    leaves_at: int | None
    outcome: Outcome = field(default_factory=Outcome)
    request: Request | None = None
    refused: bool = False


def random_request(rng: random.Random) -> tuple[list[int], dict[str, object]]:
    """Token ids and parameters: short and long prompts, every kind of end."""
    parameters: dict[str, object] = {
        "max_new_tokens": rng.choice([1, 2, 5, 20, 40]),
        "do_sample": rng.random() < 0.5,
        "seed": rng.randrange(99),
        "temperature": rng.choice([1.0, 0.7]),
        "top_k": rng.choice([0, 5]),
        "top_p": rng.choice([1.0, 0.8]),
        "repetition_penalty": rng.choice([1.0, 1.3]),
        "presence_penalty": rng.choice([0.0, 0.0, 1.5]),
        "frequency_penalty": rng.choice([0.0, 0.0, -0.5]),
        "min_p": rng.choice([0.0, 0.0, 0.1]),
        "typical_p": rng.choice([1.0, 1.0, 0.7]),
        "logit_bias": rng.choice([(), (), ((4, 2.0), (EOS, -100.0))]),
        "stop_token_ids": rng.choice([(), (), (5, 6)]),
        "min_new_tokens": rng.choice([0, 3]),
        "ignore_eos": rng.random() < 0.5,
        "stop": rng.choice([(), (), ("A",), ("BC", "D")]),
        "overflow": rng.choice(["stop", "sinks"]),
    }
    return [rng.randrange(VOCABULARY) for _ in range(rng.choice([1, 2, 3, 4, 7, 15]))], parameters


#: Each is computed alone once, and compared in about ten other batches.
REQUESTS = [random_request(random.Random(f"request {number}")) for number in range(2000)]


def random_callers(rng: random.Random, most: int) -> list[Caller]:
    """Bursts and lulls of requests, some of which are cancelled."""
    callers, now = [], 0
    for _ in range(rng.randint(1, most)):
        now += rng.choice([0, 0, 0, 0, 0, 1, 2, 9])
        leaves_at = now + rng.randint(0, 12) if rng.random() < 0.2 else None
        callers.append(Caller(now, *rng.choice(REQUESTS), leaves_at))
    return callers


@pytest.mark.parametrize(("batch_size", "max_prefill_tokens"), [(1, 3), (3, 3), (8, 3), (3, None), (8, None)])
def test_churn_every_text_equals_its_alone_run_and_every_row_is_freed(
    batch_size: int, max_prefill_tokens: int | None, figure: Callable[[str], None]
) -> None:
    """With prompts in chunks, as on a CPU, and whole and one by one, as a compiled graph takes them."""
    length, queue_size = 24, 4
    compared = cancelled = refused = 0
    for seed in range(PATTERNS):
        rng = random.Random(f"{batch_size} {seed}")
        backend = Sums(batch_size, length, max_context_length=rng.choice([15, 23]))
        backend.max_prefill_tokens = max_prefill_tokens
        prefills_per_step = rng.choice([1, 2, 8])
        subject = scheduler(queue_size=queue_size, backend=backend, prefills_per_step=prefills_per_step)
        callers = random_callers(rng, most=10 + 2 * batch_size)
        for now in range(2000):
            for caller in callers:
                if caller.at == now:
                    caller.request = caller.outcome.request(caller.ids, length=length, **caller.parameters)
                    try:
                        subject.submit([caller.request])
                    except RequestError:
                        assert subject.unfinished == batch_size + queue_size, "refused only when it is full"
                        caller.refused = True
                if caller.leaves_at == now and caller.request:
                    caller.request.cancelled = True
                    subject.wake()
            assert subject.unfinished <= batch_size + queue_size
            running = bool(subject._running)
            subject.step()
            if running:
                assert backend.prefills <= prefills_per_step
            backend.prefills = 0
            unfinished = [
                caller
                for caller in callers
                if caller.request and not (caller.refused or caller.request.cancelled or caller.outcome.end)
            ]
            assert subject.unfinished == len(unfinished), "who is done or went away is out within a step"
            if now > callers[-1].at + 12 and not subject.unfinished:
                break
        assert backend.busy == 0, "every row is free again"
        for caller in callers:
            outcome = caller.outcome
            if outcome.end is not None:
                expected = alone(caller, length)
                assert outcome.end.text == "".join(outcome.pieces) == expected, (seed, caller)
                compared += 1
            else:
                assert caller.refused or caller.leaves_at is not None, (seed, caller)
                refused += caller.refused
                cancelled += not caller.refused
    assert min(compared, cancelled, refused) > PATTERNS / 8, "the patterns cover every way to end"
    figure(
        f"churn, {batch_size} rows, {'chunks' if max_prefill_tokens else 'whole prompts'}: "
        f"{PATTERNS} patterns, {compared} texts equal to their alone-run, "
        f"{cancelled} cancelled, {refused} refused"
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


def test_a_backend_that_samples_itself_refuses_what_it_cannot_honour() -> None:
    backend = Sums()
    backend.check(Parameters(seed=1, repetition_penalty=2.0))
    backend.samples_on_device, backend.supported_parameters = True, frozenset({"do_sample", "top_k"})
    backend.check(Parameters(do_sample=True, top_k=5, max_new_tokens=3, stop=("x",)))
    with pytest.raises(RequestError, match="cannot honour repetition_penalty, seed;") as refused:
        backend.check(Parameters(do_sample=True, seed=1, repetition_penalty=2.0))
    assert refused.value.status == 422
    for name, value in {
        "min_p": 0.1,
        "typical_p": 0.9,
        "presence_penalty": 1.0,
        "frequency_penalty": -1.0,
        "logit_bias": ((1, 1.0),),
        "logprobs": True,
        "top_n_tokens": 2,
    }.items():
        with pytest.raises(RequestError, match=f"cannot honour {name};"):
            backend.check(Parameters(**{name: value}))  # type: ignore[arg-type]
    backend.check(Parameters(stop_token_ids=(3,), n=2, truncate=5, decoder_input_details=True))


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


def test_the_contract_is_asserted() -> None:
    backend = Sums()
    backend.prefill([PrefillChunk(0, [1]), PrefillChunk(2, [1])])
    with pytest.raises(BatchError, match="all live rows"):
        backend.decode([0], [1])
    with pytest.raises(BatchError, match="row 0 is taken"):
        backend.prefill([PrefillChunk(0, [1])])
    with pytest.raises(BatchError, match="4 tokens at once"):
        backend.prefill([PrefillChunk(1, [1] * 4)])
    backend.max_prefill_tokens = None
    with pytest.raises(BatchError, match="64 prompt tokens"):
        backend.prefill([PrefillChunk(1, [1] * 64)])
    with pytest.raises(BatchError, match="whole, one by one"):
        backend.prefill([PrefillChunk(1, [1], last=False)])
