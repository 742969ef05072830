"""Choosing tokens: equal to transformers' own processors and warpers, row by row."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inf2kit.serving.engine.logprobs import logprobs
from inf2kit.serving.engine.processors import processed
from inf2kit.serving.engine.row_sampler import RowSampler
from inf2kit.serving.engine.sampler import sample
from inf2kit.serving.wire import Parameters
from tests.helpers.distributions import distributions
from tests.helpers.reference_model import build_processors

VOCABULARY = 300
EOS = [3, 5]
#: Below this a float32 probability may be 0 where a float64 one is not.
TINY = 1e-12

PARAMETERS = st.builds(
    Parameters,
    do_sample=st.just(True),
    temperature=st.sampled_from([1e-5, 0.1, 0.7, 1.0, 1.7, 1e30]),
    top_k=st.sampled_from([0, 1, 2, 10, 299, 300, 5000]),
    top_p=st.sampled_from([1.0, 0.999, 0.9, 0.5, 0.01]),
    repetition_penalty=st.sampled_from([1.0, 1.3, 0.8]),
    min_new_tokens=st.sampled_from([0, 4]),
)
ROWS = st.lists(
    st.tuples(PARAMETERS, st.integers(0, 10**6), st.sampled_from([0.5, 3.0, 12.0])), min_size=1, max_size=8
)


def transformers_distribution(
    logits: torch.Tensor, parameters: Parameters, prompt: list[int], new: list[int]
) -> torch.Tensor:
    """The distribution that ``generate`` draws from, with its processors in its order."""
    processors = build_processors(parameters, len(prompt), EOS)
    return torch.softmax(processors(torch.tensor([prompt + new]), logits[None].clone()), dim=-1)[0]


@settings(max_examples=150, deadline=None)
@given(ROWS, st.booleans())
def test_all_rows_at_once_leave_what_transformers_leaves_of_each(
    given_rows: list[tuple[Parameters, int, float]], coarse: bool
) -> None:
    rows, logits, all_expected = [], [], []
    for parameters, seed, spread in given_rows:
        rng = random.Random(seed)
        row_logits = torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(seed)) * spread
        if coarse:  # as bfloat16 weights give: many tokens with exactly the same logit
            row_logits = row_logits.bfloat16().float()
        prompt = [rng.randrange(VOCABULARY) for _ in range(rng.randint(1, 30))]
        new = [rng.randrange(VOCABULARY) for _ in range(rng.randint(0, 6))]
        row = RowSampler(parameters, prompt, EOS)
        for token_id in new:
            row.record(token_id)
        rows.append(row)
        logits.append(row_logits)
        all_expected.append(transformers_distribution(row_logits, parameters, prompt, new))
    stacked = torch.stack(logits)
    before = stacked.clone()
    with processed(stacked.numpy(), rows) as changed:
        scores = changed.copy()
    all_actual = distributions(scores, [parameters for parameters, _, _ in given_rows])
    assert torch.equal(stacked, before), "the logits are left as they are"
    for index, (actual, distribution) in enumerate(zip(all_actual, all_expected, strict=True)):
        expected = distribution.double().numpy()
        far_below = np.maximum(actual, expected) < TINY
        actual[far_below], expected[far_below] = 0, 0
        if ((actual > 0) != (expected > 0)).any():
            before_top_p = np.exp(
                (scores[index] - scores[index].max()).astype(np.float64) / given_rows[index][0].temperature
            )
            actual, expected = _without_a_tie(actual, expected, before_top_p)
        assert np.abs(actual - expected).max() < 1e-5


def _without_a_tie(
    actual: np.ndarray, expected: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Remove the tokens in which both differ, which must be equally likely.

    It is not defined which of several equal tokens top-p cuts first: transformers sorts unstably.
    """
    differing = (actual > 0) != (expected > 0)
    assert np.ptp(weights[differing]) <= 1e-5 * weights[differing].max()
    assert abs(int((actual > 0).sum()) - int((expected > 0).sum())) <= 1
    actual, expected = np.where(differing, 0, actual), np.where(differing, 0, expected)
    return actual / max(actual.sum(), TINY), expected / max(expected.sum(), TINY)


def test_a_row_draws_the_same_in_any_batch() -> None:
    logits = torch.randn(8, VOCABULARY, generator=torch.Generator().manual_seed(1))
    parameters = [Parameters(do_sample=True, seed=7, top_k=k, top_p=p) for k in (0, 20) for p in (1.0, 0.9)]
    parameters += [Parameters(), Parameters(repetition_penalty=1.4), Parameters(min_new_tokens=9)]
    parameters += [Parameters(do_sample=True, seed=8, temperature=3.0)]

    def texts(rows: list[int]) -> list[list[int]]:
        samplers = [RowSampler(parameters[row], [1, 2], EOS) for row in rows]
        steps = []
        for step in range(20):
            chosen = sample(logits[rows].roll(step, dims=1), samplers)
            for sampler, token_id in zip(samplers, chosen, strict=True):
                sampler.record(token_id)
            steps.append(chosen)
        return [list(ids) for ids in zip(*steps, strict=True)]

    together = texts(list(range(8)))
    assert [texts([row])[0] for row in range(8)] == together


@pytest.mark.parametrize(
    "options",
    [
        {"top_k": 6, "temperature": 0.8},
        {"top_p": 0.5},
        {"top_p": 0.1, "temperature": 2.0},
        {"min_p": 0.2},
        {"min_p": 0.1, "top_p": 0.8},
        {"typical_p": 0.4},
        {"typical_p": 0.7, "top_p": 0.6},
    ],
    ids=str,
)
def test_draws_follow_the_distribution(options: dict[str, float]) -> None:
    """A wrong border between two tokens would show: 10,000 draws, a chi-squared test at one in a million."""
    parameters = Parameters(do_sample=True, **options)  # type: ignore[arg-type]
    logits = torch.randn(1, VOCABULARY, generator=torch.Generator().manual_seed(2)) * 2
    rows = [RowSampler(replace(parameters, seed=seed), [1], EOS) for seed in range(200)]
    draws = [token_id for _ in range(50) for token_id in sample(logits.expand(200, -1).contiguous(), rows)]
    expected = transformers_distribution(logits[0], parameters, [1], []).double().numpy() * len(draws)
    counts = np.bincount(draws, minlength=VOCABULARY)
    assert ((counts > 0) <= (expected > 0)).all()
    # Tokens with few expected draws are counted together.
    rare = expected < 20
    observed, expected = (
        np.append(counts[~rare], counts[rare].sum()),
        np.append(expected[~rare], expected[rare].sum()),
    )
    observed, expected = observed[expected > 0], expected[expected > 0]
    chi_squared = float(((observed - expected) ** 2 / expected).sum())
    degrees = len(expected) - 1
    # Wilson and Hilferty's approximation of the quantile; a normal variable is above 4.75 once in a million.
    assert chi_squared < degrees * (1 - 2 / (9 * degrees) + 4.75 * (2 / (9 * degrees)) ** 0.5) ** 3


def test_logits_that_are_no_numbers_spoil_their_own_row_only() -> None:
    logits = torch.zeros(2, VOCABULARY)
    logits[0] = float("nan")
    logits[1, 9] = 50.0
    rows = [RowSampler(Parameters(do_sample=True, top_k=4, top_p=0.9, seed=1), [1], EOS) for _ in range(2)]
    assert sample(logits, rows)[1] == 9


@pytest.mark.parametrize("vocabulary", [10, 4000])
def test_logprobs_are_those_of_the_models_own_distribution(vocabulary: int) -> None:
    logits = torch.randn(3, vocabulary) * 4
    expected = torch.log_softmax(logits, dim=-1)[torch.arange(3), torch.tensor([0, 5, 9])]
    assert logprobs(logits, [0, 5, 9], [0, 0, 0])[0] == pytest.approx(expected.tolist(), abs=1e-5)
    logits[0, 0] = float("-inf")
    assert logprobs(logits, [0, 5, 9], [0, 0, 0])[0][0] is None


def test_a_row_without_bounds_draws_by_the_running_sum_of_its_probabilities() -> None:
    rng = random.Random(5)
    for seed in range(40):
        logits = torch.randn(1, 5_000, generator=torch.Generator().manual_seed(seed)) * 3
        logits[0, rng.randrange(5_000)] = -torch.inf
        parameters = Parameters(do_sample=True, seed=seed, temperature=rng.choice([0.3, 1.0, 2.5]))
        (chosen,) = sample(logits, [RowSampler(parameters, [1], EOS)])
        running = transformers_distribution(logits[0], parameters, [1], []).double().cumsum(-1).numpy()
        draw = RowSampler(parameters, [1], EOS).draw()
        borders = running[max(chosen - 1, 0)] * (chosen > 0), running[chosen]
        assert borders[0] - 1e-6 <= draw <= borders[1] + 1e-6
