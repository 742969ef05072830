"""The Neuron backend: every text is what transformers generates alone, and each precaution is needed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from inf2kit.errors import ModelDirectoryError, RequestError
from inf2kit.serving.engine.backend import BatchError, PrefillChunk, StepOutput
from inf2kit.serving.engine.backend.neuron import NeuronBackend
from inf2kit.serving.engine.detokenizer import TokenDecoder
from inf2kit.serving.engine.request import Request
from inf2kit.serving.engine.scheduler import Scheduler
from inf2kit.serving.shapes import StaticShapes
from inf2kit.serving.wire import Generation, Parameters
from tests.helpers.reference_model import ReferenceModel
from tests.helpers.servers import PATIENCE_S

Compiled = Callable[..., Path]
LENGTH = 64


@pytest.fixture(scope="session")
def proof(small_weights: Path) -> ReferenceModel:
    return ReferenceModel(small_weights, [AutoTokenizer.from_pretrained(small_weights).eos_token_id])


def loaded(path: Path, kind: type[NeuronBackend] = NeuronBackend, **shapes: Any) -> NeuronBackend:
    config = {"batch_size": 4, "sequence_length": LENGTH, **shapes}
    backend = kind(path, StaticShapes.resolve(**config))
    backend.load()
    return backend


def ids(count: int, seed: int) -> list[int]:
    return torch.randint(5, 40_000, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


class NoText(TokenDecoder):
    def decode(self, _: object) -> str:
        return ""


class Run:
    """A scheduler over a backend, and what its requests ended with."""

    def __init__(self, backend: NeuronBackend) -> None:
        self.scheduler = Scheduler(backend, NoText(), frozenset(), queue_size=64)
        self.ended: dict[int, Generation] = {}
        self.prompts: list[list[int]] = []

    def submit(self, prompt: list[int], new: int, **parameters: Any) -> Request:
        number = len(self.prompts)
        self.prompts.append(prompt)
        request = Request(
            prompt_ids=prompt,
            parameters=Parameters(max_new_tokens=new, details="tokens", **parameters),
            max_new_tokens=min(new, LENGTH - len(prompt)),
            with_tokens=True,
            with_logprobs=True,
            deadline=time.monotonic() + PATIENCE_S,
            on_token=lambda *_: None,
            on_end=lambda *args: self.ended.__setitem__(number, args[2]),
            on_error=lambda error: pytest.fail(str(error)),
        )
        self.scheduler.submit([request])
        return request

    def finish(self) -> dict[int, list[int]]:
        while self.scheduler.unfinished:
            self.scheduler.step()
        return {number: [token.id for token in end.tokens] for number, end in self.ended.items()}


@pytest.mark.parametrize("batch_size", [1, 4])
def test_greedy_texts_equal_transformers_while_rows_come_and_go(
    batch_size: int, compiled: Compiled, proof: ReferenceModel, figure: Callable[[str], None]
) -> None:
    """Prompts of one token and more, a caller that leaves, rows that are used again after longer ones."""
    rng = random.Random(batch_size)
    run = Run(loaded(compiled(batch_size), batch_size=batch_size))
    lengths = [1, 40, 2, 3, 1, 17, 2][: 7 if batch_size > 1 else 4]
    for index, length in enumerate(lengths):
        run.submit(ids(length, 100 * batch_size + index), rng.choice([1, 3, 8]))
        for _ in range(rng.choice([0, 0, 1, 3])):
            run.scheduler.step()
    abandoned = run.submit(ids(20, 7), 30)
    for _ in range(4):
        run.scheduler.step()
    abandoned.cancelled = True
    run.scheduler.wake()
    full = run.submit(ids(58, 8), 40)
    texts = run.finish()
    assert len(texts) == len(lengths) + 1
    assert len(texts[len(lengths) + 1]) == LENGTH - len(full.prompt_ids), "to the row's last position"
    ties = sum(proof.count_near_ties(run.prompts[number], new, Parameters()) for number, new in texts.items())
    assert ties == 0
    figure(
        f"neuron rows, batch {batch_size}: {len(texts)} texts of {sum(map(len, texts.values()))} tokens exact"
    )


def test_sampling_on_the_host_equals_transformers(compiled: Compiled, proof: ReferenceModel) -> None:
    run = Run(loaded(compiled(4)))
    run.submit(ids(12, 1), 8, do_sample=True, seed=5, temperature=0.8, top_k=50)
    run.submit(ids(3, 2), 8, repetition_penalty=1.3)
    run.submit(ids(1, 3), 8, do_sample=True, seed=6, top_p=0.9)
    texts = run.finish()
    for number, new in texts.items():
        parameters = Parameters(
            **[
                {"do_sample": True, "seed": 5, "temperature": 0.8, "top_k": 50},
                {"repetition_penalty": 1.3},
                {"do_sample": True, "seed": 6, "top_p": 0.9},
            ][number]
        )
        assert proof.count_near_ties(run.prompts[number], new, parameters) == 0


def test_a_shorter_context_graph_takes_shorter_prompts(compiled: Compiled, proof: ReferenceModel) -> None:
    path = compiled(1, LENGTH, 16)
    run = Run(loaded(path, batch_size=1, max_context_length=16))
    run.submit(ids(16, 1), 30)
    run.submit(ids(2, 2), 5)
    for number, new in run.finish().items():
        assert proof.count_near_ties(run.prompts[number], new, Parameters()) == 0
    with pytest.raises(ModelDirectoryError, match="max_context_length is 16, the preset asks for 63"):
        NeuronBackend(path, StaticShapes.resolve(1, LENGTH))


# Each class leaves out one precaution. Its texts must be wrong, or the precaution is not needed any more.


class DecodesSomeRowsAtATime(NeuronBackend):
    """Passes some of the live rows, then the others."""

    def _decode(self, rows: Sequence[int], ids: Sequence[int], positions: Sequence[int]) -> StepOutput:
        steps = []
        for part in (slice(0, len(rows) // 2), slice(len(rows) // 2, None)):
            row_numbers = torch.tensor(rows[part], dtype=torch.int64)
            if len(row_numbers):
                columns = torch.tensor([ids[part], positions[part]])[:, :, None]
                steps.append(
                    self._forward(
                        columns[0], columns[1], row_numbers, self._sampling_params[row_numbers]
                    ).logits
                )
        return StepOutput(torch.cat(steps))


class LeavesPaddingToTheWrapper(NeuronBackend):
    """Passes prompts as long as they are."""

    def _prefill(self, chunks: Sequence[PrefillChunk], _: Sequence[int]) -> StepOutput:
        (chunk,) = chunks
        prompt = torch.tensor([chunk.ids])
        positions = torch.arange(len(chunk.ids))[None]
        return self._forward(prompt, positions, torch.tensor([chunk.row]), self._sampling_params[:1])


class PadsOneTokenLikeOthers(NeuronBackend):
    """Sends a prompt of one token through the prefill graph, padded by the wrapper with position 1."""

    def _prefill_single_token(self, row: int, token_id: int) -> StepOutput:
        padded, positions = torch.tensor([[[token_id, 0]], [[0, 1]]])
        return self._forward(padded, positions, torch.tensor([row]), self._sampling_params[:1])


class PadsLeft(NeuronBackend):
    """Pads before the prompt, as AWS's blog post does."""

    def _prefill(self, chunks: Sequence[PrefillChunk], _: Sequence[int]) -> StepOutput:
        (chunk,) = chunks
        free = self._prefill_length - len(chunk.ids)
        prompt = torch.tensor([[0] * free + list(chunk.ids)])
        positions = torch.tensor([[0] * free + list(range(len(chunk.ids)))])
        return self._forward(prompt, positions, torch.tensor([chunk.row]), self._sampling_params[:1])


class ForgetsOtherRowsAtAOneTokenPrompt(NeuronBackend):
    """Lets the other rows overwrite position 0 while a prompt of one token goes through the decode graph."""

    def _prefill_single_token(self, row: int, token_id: int) -> StepOutput:
        ids, positions = torch.zeros((2, self.shapes.batch_size, 1), dtype=torch.int64)
        ids[row, 0] = token_id
        return self._forward(ids, positions, self._all_rows, self._sampling_params).select([row])


@pytest.mark.parametrize(
    ("incautious", "lengths"),
    [
        (DecodesSomeRowsAtATime, [20, 9, 30, 12]),
        (LeavesPaddingToTheWrapper, [20, 9, 12, 1]),
        (PadsOneTokenLikeOthers, [1]),
        (PadsLeft, [20]),
        (ForgetsOtherRowsAtAOneTokenPrompt, [20, 9, 12, 1]),
    ],
)
def test_without_this_precaution_texts_are_wrong(
    incautious: type[NeuronBackend], lengths: list[int], compiled: Compiled, proof: ReferenceModel
) -> None:
    def count_wrong(kind: type[NeuronBackend]) -> int:
        run = Run(loaded(compiled(4), kind))
        for index, length in enumerate(lengths):
            run.submit(ids(length, 50 + index), 16 + 4 * index)
        count = 0
        for number, new in run.finish().items():
            logprobs = [token.logprob for token in run.ended[number].tokens]
            try:
                proof.count_near_ties(run.prompts[number], new, Parameters(), logprobs)
            except AssertionError:
                count += 1
        return count

    assert count_wrong(incautious) > 0
    assert count_wrong(NeuronBackend) == 0


def test_a_prompt_of_two_tokens_ties_with_the_wrappers_padding(compiled: Compiled) -> None:
    """On a CPU the first of equal positions wins, which is the right one; on a device it is not known."""
    backend = loaded(compiled(4))
    seen: list[torch.Tensor] = []
    model = backend._model
    inner = model.context_encoding_model.model

    class PositionRecorder(torch.nn.Module):
        def forward(self, *inputs: torch.Tensor) -> Any:
            seen.append(inputs[-3])
            return inner(*inputs)

    model.context_encoding_model.model = PositionRecorder()
    prefill_unpadded = LeavesPaddingToTheWrapper._prefill
    prefill_unpadded(backend, [PrefillChunk(0, [5, 6])], [0])  # type: ignore[arg-type]
    backend._prefill([PrefillChunk(0, [5, 6])], [0])
    ties_with_wrapper, ties_with_backend = (
        (positions[0] == positions[0].max()).sum().item() for positions in seen
    )
    assert ties_with_wrapper == LENGTH - 1
    assert ties_with_backend == 1


def test_a_position_past_the_row_is_stopped_before_the_graph(compiled: Compiled) -> None:
    backend = loaded(compiled(1), batch_size=1)
    backend.prefill([PrefillChunk(0, ids(LENGTH - 1, 1))])
    backend.decode([0], [5])
    with pytest.raises(BatchError, match="a row is full"):
        backend.decode([0], [5])
    with pytest.raises(Exception, match=r"(?i)index|bounds"):
        backend._decode([0], [5], [LENGTH])


def test_sampling_on_the_device(compiled: Compiled, proof: ReferenceModel) -> None:
    """Greedy search is exact, sampling is the graph's own, and other parameters are refused."""
    backend = loaded(compiled(4, on_device=True))
    run = Run(backend)
    prompts = [ids(length, length) for length in (1, 2, 25, 6)]
    for prompt in prompts:
        run.submit(prompt, 8)
    sampled = run.submit(ids(7, 9), 8, do_sample=True, top_k=3, top_p=0.9, temperature=0.7)
    texts = run.finish()
    for number in range(len(prompts)):
        assert proof.count_near_ties(prompts[number], texts[number], Parameters()) == 0
    assert run.ended[len(prompts)].seed is None, "its draws come from no seed"
    row = list(sampled.prompt_ids)
    for token_id in texts[len(prompts)]:
        logits = proof._model(torch.tensor([row])).logits[0, -1]
        assert token_id in logits.topk(3).indices
        row.append(token_id)
    for parameters, message in [
        ({"seed": 1, "do_sample": True, "top_k": 5}, "cannot honour seed"),
        ({"repetition_penalty": 1.1}, "cannot honour repetition_penalty"),
        ({"min_new_tokens": 3}, "cannot honour min_new_tokens"),
        ({"min_p": 0.1, "logit_bias": ((1, 1.0),)}, "cannot honour min_p, logit_bias"),
        ({"logprobs": True, "top_n_tokens": 2}, "cannot honour logprobs, top_n_tokens"),
        ({"do_sample": True}, "give a top_k within 1..256"),
        ({"do_sample": True, "top_p": 0.9}, "or deploy a package that was compiled with --host-sampling"),
        ({"frequency_penalty": 0.1}, "or deploy a package that was compiled with --host-sampling"),
        ({"do_sample": True, "top_k": 257}, "give a top_k within 1..256"),
    ]:
        with pytest.raises(RequestError, match=message) as refused:
            backend.check(Parameters(**parameters))  # type: ignore[arg-type]
        assert refused.value.status == 422


def test_top_k_of_minus_one_would_make_all_candidates_alike(compiled: Compiled) -> None:
    """The device's sampler accepts -1 as "all", but then masks everything; so -1 is never sent."""
    from optimum.neuron.models.inference.backend.modules.generation.sampling import Sampler

    backend = loaded(compiled(4, on_device=True))
    sampler = Sampler(backend._model.neuron_config, do_sample=True, on_cpu=True)
    logits = torch.tensor([[10.0, *[0.0] * 999]])
    values, _ = sampler._top_k_masked(logits, torch.tensor([[-1.0]]), 1, None)
    assert len(values.unique()) == 1, "the best token is no likelier than the 256th"


@pytest.mark.parametrize(("top_p", "drawn"), [(0.9, {0}), (0.97, {0, 1}), (1.0, {0, 1, 2})])
def test_top_p_of_the_device_leaves_out_the_token_at_which_it_is_reached(
    compiled: Compiled, top_p: float, drawn: set[int]
) -> None:
    """transformers keeps it: with 0.9, of probabilities 0.6, 0.35 and 0.05, the first two."""
    from optimum.neuron.models.inference.backend.modules.generation.sampling import Sampler
    from transformers import TopPLogitsWarper

    backend = loaded(compiled(4, on_device=True))
    sampler = Sampler(backend._model.neuron_config, do_sample=True, on_cpu=True)
    logits = torch.log(torch.tensor([[0.6, 0.35, 0.05, *[1e-9] * 997]] * 4))
    torch.manual_seed(1)
    tokens = {
        token for _ in range(300) for token in sampler(logits, torch.tensor([[3, top_p, 1.0]] * 4)).tolist()
    }
    assert tokens == drawn
    caveats = backend.caveats(Parameters(do_sample=True, top_k=3, top_p=top_p))
    if top_p == 1.0:
        assert caveats == ()
        return
    (caveat,) = caveats
    assert f"top_p {top_p:g} on the device" in caveat
    if top_p == 0.9:
        kept = TopPLogitsWarper(top_p)(None, logits[:1].clone())[0]
        assert torch.nonzero(kept > -torch.inf).flatten().tolist() == [0, 1]
