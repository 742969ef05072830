"""Choosing among thousands of tokens: exact, and a row chooses the same in any batch and with any threads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from inf2kit.serving.engine.logprobs import logprobs
from inf2kit.serving.engine.probabilities import block_sums, probabilities
from inf2kit.serving.engine.rejection import Candidates, is_drawn
from inf2kit.serving.engine.row_sampler import RowSampler
from inf2kit.serving.engine.sampler import sample
from inf2kit.serving.wire import Parameters
from tests.helpers.distributions import accepted, all_candidates, distributions
from tests.helpers.reference_model import build_warpers

#: No multiple of a block of 256.
VOCABULARY = 9_001
SAMPLING = Parameters(do_sample=True)
#: From a few tokens with all of the probability to nearly equal ones.
SPREADS = st.sampled_from([0.01, 1.0, 3.0, 8.0, 40.0])


@pytest.fixture
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def random_logits(rows: int, seed: int, spread: float) -> torch.Tensor:
    return torch.randn(rows, VOCABULARY, generator=torch.Generator().manual_seed(seed)) * spread


OPTIONS = st.builds(
    Parameters,
    do_sample=st.just(True),
    temperature=st.sampled_from([0.3, 1.0, 1.7]),
    top_k=st.sampled_from([0, 0, 0, 1, 20, 70, 71, 3000]),
    top_p=st.sampled_from([1.0, 0.999, 0.9, 0.5, 0.001]),
    min_p=st.sampled_from([0.0, 0.0, 0.0, 0.05, 0.9]),
    typical_p=st.sampled_from([1.0, 1.0, 0.95, 0.3]),
)


@settings(max_examples=120, deadline=None)
@example(0, 40.0, replace(SAMPLING, top_p=0.9, temperature=0.7))
@example(0, 1.0, replace(SAMPLING, top_p=0.9))
@example(0, 3.0, replace(SAMPLING, typical_p=0.9, top_p=0.9))
@given(st.integers(0, 10**6), SPREADS, OPTIONS)
def test_what_is_left_is_what_transformers_leaves_in_float64(
    seed: int, spread: float, parameters: Parameters
) -> None:
    logits = random_logits(1, seed, spread)
    scores = build_warpers(parameters)(torch.empty((1, 0), dtype=torch.long), logits.double())
    expected = torch.softmax(scores, dim=-1)[0].numpy()
    if is_drawn(parameters):
        # Each token is asked for by itself: those near a border are enough, and some of the others.
        candidates = all_candidates(logits[0].numpy(), parameters)
        order = candidates.weights[:VOCABULARY].argsort()
        borders = np.diff((expected[order] > 0).astype(int)).nonzero()[0]
        near = [np.arange(max(border - 20, 0), min(border + 20, VOCABULARY)) for border in borders]
        asked = np.unique(np.concatenate([order[place] for place in [*near, np.arange(0, VOCABULARY, 300)]]))
        asked = asked[candidates.weights[asked] > 0]
        actual = accepted(candidates, asked)[:VOCABULARY] * 1.0
        differing = (actual[asked] > 0) != (expected[asked] > 0)
        assert (expected[asked][differing] < 1).all()
        assert differing.sum() <= 1 + (parameters.typical_p < 1)
        return
    (actual,) = distributions(logits.numpy(), [parameters])
    differing = (actual > 0) != (expected > 0)
    # float32 may put the border between two tokens that are next to each other on the other side of one, and
    # has no number for a probability that is too small.
    likely = differing & (np.maximum(actual, expected) > 1e-30)
    assert likely.sum() <= 1 + (parameters.typical_p < 1)
    at_border = np.maximum(actual, expected)[likely].sum()
    assert np.abs(actual - expected)[~differing].max() <= at_border + 2e-5 * expected.max()


MODES = [
    replace(SAMPLING, **options)  # type: ignore[arg-type]
    for options in (
        {},
        {"temperature": 0.7},
        {"top_p": 0.9},
        {"top_p": 0.9, "temperature": 0.6},
        {"top_k": 40, "top_p": 0.9},
        {"top_k": 2000},
        {"min_p": 0.02},
        {"typical_p": 0.9},
    )
]


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("spread", [1.0, 3.0, 6.0])
def test_a_row_draws_the_same_in_any_batch_and_with_any_threads(spread: float) -> None:
    logits = random_logits(2 * len(MODES), 4, spread)
    parameters = [replace(mode, seed=seed) for seed, mode in enumerate([*MODES, *MODES[::-1]])]

    def draws(rows: list[int]) -> list[list[int]]:
        samplers = [RowSampler(parameters[row], [1], []) for row in rows]
        steps = [sample(logits[rows].roll(step, dims=1), samplers) for step in range(20)]
        return [list(ids) for ids in zip(*steps, strict=True)]

    torch.set_num_threads(1)
    alone = [draws([row])[0] for row in range(len(logits))]
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        assert draws(list(range(len(logits)))) == alone
        assert draws(list(range(1, len(logits), 3))) == alone[1::3]


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("spread", [1.0, 6.0])
def test_what_draws_depend_on_is_the_same_bit_by_bit_in_any_batch_and_with_any_threads(spread: float) -> None:
    values = random_logits(len(MODES), 4, spread).numpy()
    drawn = [index for index, mode in enumerate(MODES) if is_drawn(mode)]

    def candidates_of(rows: list[int]) -> list[bytes]:
        """All candidates of each row, and those that are left when the 500th best one is rejected."""
        weights = probabilities(values[rows], [MODES[row].temperature for row in rows])
        sums = block_sums(weights)
        everything = []
        for index, row in enumerate(rows):
            best = int(values[row].argmax())
            candidates = Candidates.of(values[row], best, weights[index], sums[index], MODES[row])
            rest = candidates.without_rejected(int(weights[index].argsort()[-500]))
            fields = [*vars(candidates).values(), *(vars(rest).values() if rest else [])]
            everything.append(b"".join(np.asarray(field).tobytes() for field in fields))
        return everything

    torch.set_num_threads(1)
    alone = [candidates_of([row])[0] for row in drawn]
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        assert candidates_of(drawn) == alone


@pytest.mark.usefixtures("_threads")
def test_logprobs_are_the_same_bit_by_bit_in_any_batch_and_with_any_threads() -> None:
    logits = random_logits(6, 5, 4.0)
    ids, counts = [0, 9, 77, 300, 4, 9_000], [0, 1, 5, 20, 0, 100]
    torch.set_num_threads(1)
    alone = [logprobs(logits[row : row + 1], [ids[row]], [counts[row]]) for row in range(6)]
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        values, top = logprobs(logits, ids, counts)
        assert [([value], [row]) for value, row in zip(values, top, strict=True)] == alone
