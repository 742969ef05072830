"""Choosing among thousands of tokens: exact, and a row chooses the same in any batch and with any threads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from inf2kit.serving.engine.cutoff import cut, safe_bounds, sample_stride, stays
from inf2kit.serving.engine.logprobs import logprobs
from inf2kit.serving.engine.warpers import warp
from inf2kit.serving.wire import Parameters
from tests.helpers.distributions import distributions
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


@settings(max_examples=120, deadline=None)
@example(0, 40.0, replace(SAMPLING, top_p=0.9, temperature=0.7))
@example(0, 1.0, replace(SAMPLING, top_p=0.9))
@given(
    st.integers(0, 10**6),
    SPREADS,
    st.builds(
        Parameters,
        do_sample=st.just(True),
        temperature=st.sampled_from([0.3, 1.0, 1.7]),
        top_k=st.sampled_from([0, 0, 0, 1, 20, 70, 71, 3000]),
        top_p=st.sampled_from([1.0, 0.999, 0.9, 0.5, 0.001]),
        min_p=st.sampled_from([0.0, 0.0, 0.0, 0.05, 0.9]),
        typical_p=st.sampled_from([1.0, 1.0, 0.95, 0.3]),
    ),
)
def test_the_distribution_is_that_of_transformers_in_float64(
    seed: int, spread: float, parameters: Parameters
) -> None:
    logits = random_logits(1, seed, spread)
    (actual,) = distributions(logits.numpy(), [parameters])
    scores = build_warpers(parameters)(torch.empty((1, 0), dtype=torch.long), logits.double())
    expected = torch.softmax(scores, dim=-1)[0].numpy()
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
def test_a_rows_weights_are_the_same_bit_by_bit_in_any_batch_and_with_any_threads(spread: float) -> None:
    values = random_logits(2 * len(MODES), 4, spread).numpy()
    parameters = [*MODES, *MODES[::-1]]

    def weights_of(rows: list[int]) -> list[tuple[bytes, bytes, bytes]]:
        remaining = warp(values[rows], [parameters[row] for row in rows])
        return [
            (weights.tobytes(), b"" if ids is None else ids.tobytes(), sums.tobytes())
            for weights, ids, sums in remaining
        ]

    torch.set_num_threads(1)
    alone = [weights_of([row])[0] for row in range(len(values))]
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        assert weights_of(list(range(len(values)))) == alone
        assert weights_of(list(range(1, len(values), 3))) == alone[1::3]


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


@pytest.mark.parametrize("misleading", ["likely", "unlikely"])
def test_a_sample_that_misleads_changes_nothing(misleading: str) -> None:
    """All tokens of the sample have another probability than the tokens between them."""
    weights = np.random.default_rng(3).random(8_192).astype(np.float32) + 0.5
    weights[:: sample_stride(len(weights))] *= 1000 if misleading == "likely" else 1e-3
    weights /= weights.sum()
    for droppable in (0.02, 0.1, 0.5, 0.9):
        expected = weights * stays(weights, weights, droppable, with_ties=False)
        actual = weights.copy()
        cut(actual, actual, float(weights.sum(dtype=np.float64)), droppable, with_ties=False)
        assert np.array_equal(actual, expected)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6), SPREADS, st.sampled_from([0.001, 0.1, 0.5, 0.999]), st.booleans(), st.booleans()
)
def test_a_cut_is_what_a_full_sort_leaves(
    seed: int, spread: float, droppable: float, coarse: bool, by_distance: bool
) -> None:
    """Coarse weights have many ties; the merits may be others than the weights."""
    logits = random_logits(1, seed, spread)[0, :8_960]
    weights = torch.softmax(logits.bfloat16().float() if coarse else logits, dim=-1).numpy()
    merits = -np.abs(weights - np.float32(1 / 8_960)) if by_distance else weights
    actual = weights.copy()
    total = float(weights.sum(dtype=np.float64))
    cut(merits if by_distance else actual, actual, total, droppable, with_ties=by_distance)
    possible = weights > 0  # a weight of 0 says nothing
    actual, weights, merits = actual[possible], weights[possible], merits[possible]
    stay = actual > 0
    assert np.array_equal(actual[stay], weights[stay])
    dropped, least = float(weights[~stay].sum(dtype=np.float64)), merits[stay].min()
    tied = merits == least
    assert (merits[~stay] <= least).all()
    # float32 sums may be wrong by a millionth.
    assert dropped <= droppable + 1e-6
    assert dropped + float(weights[tied & stay].max()) * (tied.sum() if by_distance else 1) > droppable - 1e-6
    if by_distance:
        assert stay[tied].all()
    else:
        assert not (np.diff(stay[tied].astype(int)) < 0).any(), "of equal tokens, the lowest ids go first"


def test_a_bound_leaves_the_only_likely_token_above_it() -> None:
    shares = np.full((1, 500), 1e-12, dtype=np.float32)
    shares[0, 64] = 1.0
    sample = np.ascontiguousarray(shares[:, ::64])
    bounds = safe_bounds(sample[:, 2:], 64, np.array([0.1]))
    assert 1e-12 < bounds[0] < 1
