"""500 random patterns of callers: each text equals its alone-run, and every row is freed."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from inf2kit.errors import RequestError
from tests.helpers.scheduling import EOS, VOCABULARY, Caller, Sums, alone, scheduler

PATTERNS = 500


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
