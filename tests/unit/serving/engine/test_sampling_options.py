"""Bias, penalties of the new text, min-p, typical-p, seeds: equal to transformers where it has them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from inf2kit.serving.engine.logprobs import logprobs
from inf2kit.serving.engine.processors import processed
from inf2kit.serving.engine.row_sampler import RowSampler, seed_of_answer
from inf2kit.serving.engine.sampler import NO_TOKEN, sample
from inf2kit.serving.wire import Parameters
from tests.helpers.distributions import distributions
from tests.helpers.reference_model import build_processors

VOCABULARY = 300
EOS = [3, 5]
#: Rounding may place a token on either side of a border this wide.
NEAR = 2e-5

#: What seeded rows choose: options and ids, 16 steps over logits that move on by 7 places a step. A change
#: here changes users' texts, and belongs into the changelog.
RECORDED: list[tuple[dict[str, object], list[int]]] = [
    (
        {"do_sample": True, "seed": 0},
        [259, 219, 122, 85, 138, 127, 218, 89, 139, 171, 270, 159, 91, 214, 205, 75],
    ),
    (
        {"do_sample": True, "seed": 2**63 - 1, "temperature": 0.7},
        [167, 251, 276, 188, 195, 277, 217, 42, 149, 102, 14, 72, 210, 33, 60, 272],
    ),
    (
        {"do_sample": True, "seed": 7, "top_k": 5},
        [103, 110, 171, 124, 185, 138, 145, 152, 159, 166, 173, 1, 187, 248, 22, 29],
    ),
    (
        {"do_sample": True, "seed": 8, "top_p": 0.8, "temperature": 1.3},
        [59, 280, 40, 188, 36, 73, 190, 65, 175, 115, 146, 158, 79, 244, 9, 87],
    ),
    (
        {"do_sample": True, "seed": 9, "top_k": 40, "top_p": 0.9, "repetition_penalty": 1.3},
        [162, 148, 83, 247, 17, 197, 271, 82, 218, 225, 15, 192, 246, 206, 260, 53],
    ),
    (
        {"do_sample": True, "seed": 2**32, "min_new_tokens": 6, "repetition_penalty": 0.8},
        [15, 133, 18, 189, 256, 108, 168, 141, 41, 287, 295, 92, 85, 76, 264, 33],
    ),
    (
        {"repetition_penalty": 1.2, "min_new_tokens": 3},
        [277, 284, 291, 298, 5, 12, 19, 26, 33, 40, 47, 54, 61, 68, 75, 82],
    ),
    ({}, [256, 263, 270, 277, 284, 291, 298, 5, 12, 19, 26, 33, 40, 47, 54, 61]),
]

PARAMETERS = st.builds(
    Parameters,
    do_sample=st.just(True),
    temperature=st.sampled_from([0.3, 1.0, 1.7]),
    top_k=st.sampled_from([0, 0, 1, 10, 299]),
    top_p=st.sampled_from([1.0, 1.0, 0.9, 0.5]),
    min_p=st.sampled_from([0.0, 0.02, 0.3, 1.0]),
    typical_p=st.sampled_from([1.0, 0.95, 0.5, 0.05]),
    repetition_penalty=st.sampled_from([1.0, 1.3]),
    presence_penalty=st.sampled_from([0.0, 1.5, -2.0]),
    frequency_penalty=st.sampled_from([0.0, 0.7, -1.0]),
    logit_bias=st.sampled_from([(), ((3, 5.0), (17, -100.0), (0, 2.5)), ((9, 100.0),)]),
    stop_token_ids=st.sampled_from([(), (9, 12)]),
    min_new_tokens=st.sampled_from([0, 4]),
)
ROWS = st.lists(st.tuples(PARAMETERS, st.integers(0, 10**6)), min_size=1, max_size=8)


def nearby(parameters: Parameters) -> Iterator[Parameters]:
    """The parameters as they are, and with the borders of what stays moved by no more than rounding."""
    yield parameters
    for name in ("top_p", "min_p", "typical_p"):
        value = getattr(parameters, name)
        if 0 < value < 1:
            yield replace(parameters, **{name: value - NEAR})
            yield replace(parameters, **{name: value + NEAR})


def expected(
    logits: torch.Tensor, parameters: Parameters, prompt: list[int], new: list[int]
) -> Iterator[np.ndarray]:
    for moved in nearby(parameters):
        processors = build_processors(moved, len(prompt), EOS)
        scores = processors(torch.tensor([prompt + new]), logits[None].clone())
        yield torch.softmax(scores.double(), dim=-1)[0].numpy()


@settings(max_examples=100, deadline=None)
@given(ROWS, st.booleans())
def test_every_option_leaves_what_transformers_and_openais_formula_leave(
    given_rows: list[tuple[Parameters, int]], coarse: bool
) -> None:
    rows, logits, texts = [], [], []
    for parameters, seed in given_rows:
        rng = random.Random(seed)
        row_logits = torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(seed)) * 3
        logits.append(row_logits.bfloat16().float() if coarse else row_logits)
        prompt = [rng.randrange(VOCABULARY) for _ in range(rng.randint(1, 30))]
        new = [rng.randrange(12) for _ in range(rng.randint(0, 9))]
        rows.append(RowSampler(parameters, prompt, sorted({*EOS, *parameters.stop_token_ids})))
        for token_id in new:
            rows[-1].record(token_id)
        texts.append((prompt, new))
    stacked = torch.stack(logits)
    before = stacked.clone()
    with processed(stacked.numpy(), rows) as values:
        all_actual = distributions(values, [parameters for parameters, _ in given_rows])
    assert torch.equal(stacked, before), "the logits are left as they are"
    for index, ((parameters, _), actual) in enumerate(zip(given_rows, all_actual, strict=True)):
        if not any(
            np.abs(actual - distribution).max() < 1e-4
            for distribution in expected(stacked[index], parameters, *texts[index])
        ):
            # It is not defined which of several equal tokens top-p cuts first.
            assert coarse, parameters
            assert parameters.top_p < 1, parameters


def test_seeded_texts_are_those_of_before() -> None:
    values = np.random.RandomState(11).randn(len(RECORDED), VOCABULARY).astype(np.float32) * 2
    logits = torch.from_numpy(values)
    rows = [RowSampler(Parameters(**options), [1, 2, 3], EOS) for options, _ in RECORDED]  # type: ignore[arg-type]
    steps = []
    for step in range(16):
        ids = sample(logits.roll(step * 7, dims=1), rows)
        for row, token_id in zip(rows, ids, strict=True):
            row.record(token_id)
        steps.append(ids)
    assert [list(ids) for ids in zip(*steps, strict=True)] == [ids for _, ids in RECORDED]


def test_a_row_of_any_options_draws_the_same_in_any_batch() -> None:
    logits = torch.randn(8, VOCABULARY, generator=torch.Generator().manual_seed(1)) * 2
    options: list[dict[str, object]] = [
        {},
        {"do_sample": True, "seed": 7},
        {"do_sample": True, "seed": -7, "min_p": 0.05},
        {"do_sample": True, "seed": 7, "typical_p": 0.7, "top_k": 30},
        {"presence_penalty": 2.0, "frequency_penalty": 0.5},
        {"do_sample": True, "seed": 1, "top_p": 0.9, "logit_bias": ((4, 9.0),), "frequency_penalty": -0.5},
        {"logit_bias": ((8, 100.0),), "repetition_penalty": 1.5},
        {"do_sample": True, "top_p": 0.0, "seed": 3},
    ]
    parameters = [Parameters(**values) for values in options]  # type: ignore[arg-type]

    def texts(numbers: list[int]) -> list[list[int]]:
        rows = [RowSampler(parameters[number], [1, 2], EOS) for number in numbers]
        steps = []
        for step in range(20):
            chosen = sample(logits[numbers].roll(step, dims=1), rows)
            for row, token_id in zip(rows, chosen, strict=True):
                row.record(token_id)
            steps.append(chosen)
        return [list(ids) for ids in zip(*steps, strict=True)]

    together = texts(list(range(8)))
    assert [texts([number])[0] for number in range(8)] == together
    assert together[7] == [int(logits[7].roll(step).argmax()) for step in range(20)], "top_p 0 is the best"


def test_a_row_whose_tokens_are_all_banned_has_no_token_and_the_others_continue() -> None:
    logits = torch.zeros(3, 4)
    logits[:, 2] = 1.0
    banned = Parameters(min_new_tokens=1, stop_token_ids=(0, 1, 2, 3))
    drawing = replace(banned, do_sample=True, seed=1, typical_p=0.5, min_p=0.1)
    rows = [RowSampler(parameters, [1], [0, 1, 2, 3]) for parameters in (banned, drawing)]
    rows.append(RowSampler(Parameters(do_sample=True, top_k=1), [1], []))
    assert sample(logits, rows) == [NO_TOKEN, NO_TOKEN, 2]
    biased = Parameters(logit_bias=tuple((token_id, -1e38) for token_id in range(4)), do_sample=True, seed=1)
    ids = sample(torch.full((1, 4), -3e38), [RowSampler(biased, [1], [])])
    assert ids == [NO_TOKEN], "below what float32 holds there is nothing left to choose"


def test_a_negative_seed_is_not_its_absolute_value() -> None:
    """``random.Random`` drops the sign of a seed."""
    seeds = [0, 1, -1, 5, -5, 2**62, -(2**62), 2**63 - 1, -(2**63), -(2**63) + 1]
    first = {seed: RowSampler(Parameters(do_sample=True, seed=seed), [], []).draw() for seed in seeds}
    assert len(set(first.values())) == len(seeds)
    assert first[5] == random.Random(5).random()


@example(-9, 20)
@given(st.integers(-(2**63), 2**64 - 1), st.integers(1, 200))
def test_the_answers_to_one_prompt_have_seeds_of_their_own(seed: int, n: int) -> None:
    seeds = [seed_of_answer(seed, number) for number in range(n)]
    assert seeds[0] == seed
    assert len({value % 2**64 for value in seeds}) == n, "so many streams of random numbers"
    assert all(-(2**63) <= value < 2**64 for value in seeds)
    assert -1 not in seeds[1:], "which would ask for a random seed"


@settings(deadline=None)
@given(st.integers(0, 10**6), st.lists(st.sampled_from([0, 1, 3, 299, 300, 500]), min_size=1, max_size=4))
def test_top_tokens_are_the_first_of_a_full_sort(seed: int, counts: list[int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = (torch.randn(len(counts), VOCABULARY, generator=generator) * 4).bfloat16().float()
    if not any(counts):
        return
    logs = torch.log_softmax(logits.double(), dim=-1)
    for row, (count, top) in enumerate(
        zip(counts, logprobs(logits, [0] * len(counts), counts)[1], strict=True)
    ):
        order = sorted(range(VOCABULARY), key=lambda token_id: (-float(logits[row, token_id]), token_id))
        assert [token_id for token_id, _ in top] == order[:count]
        assert [value for _, value in top] == pytest.approx(
            [float(logs[row, i]) for i in order[:count]], abs=1e-5
        )
        if top:
            assert logprobs(logits[row][None], [top[0][0]], [0])[0] == [top[0][1]], (
                "the same number in both places"
            )


def test_top_tokens_of_damaged_logits_are_none() -> None:
    logits = torch.zeros(2, VOCABULARY)
    logits[0, 4] = torch.nan
    logits[1, 1:] = -torch.inf
    assert logprobs(logits, [0, 0], [2, 2])[1] == [[], [(0, 0.0)]]
