"""Each family, compiled and run by optimum-neuron's code: its texts, its options, and the sizes of shards."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from inf2kit.checkpoint.families import FAMILIES
from inf2kit.compile.export import export, neuron_config
from inf2kit.compile.spec import CompileSpec
from inf2kit.errors import CompileError
from inf2kit.fit import Architecture
from inf2kit.fit.memory import can_be_split, estimate_memory, sharded_heads, weights_per_core
from inf2kit.serving.engine.backend import PrefillChunk
from inf2kit.serving.engine.backend.neuron import NeuronBackend
from inf2kit.serving.engine.detokenizer import TokenDecoder
from inf2kit.serving.engine.request import Request
from inf2kit.serving.engine.scheduler import Scheduler
from inf2kit.serving.shapes import StaticShapes
from inf2kit.serving.wire import Generation, Parameters
from tests.helpers.servers import PATIENCE_S
from tests.helpers.small_models import write_model

ROWS, LENGTH, NEW = 3, 48, 10
#: Float32 in another order of operations; the scores of these models are several units apart.
TOLERANCE = 1e-3


class NoText(TokenDecoder):
    def decode(self, _: object) -> str:
        return ""


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def source(family: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("families") / family
    write_model(family, path)
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize("cores", [1, 4])
def test_texts_and_their_logprobs_equal_transformers(family: str, cores: int, tmp_path: Path) -> None:
    """More prompts than rows, of unlike lengths, so that rows are used again.

    Over 4 cores, 6 heads are padded to 8, 2 key and value heads are repeated, and the vocabulary and the MLP
    are padded.
    """
    source = tmp_path / family
    heads = {"hidden_size": 96, "num_attention_heads": 6, "intermediate_size": 50} if cores > 1 else {}
    write_model(family, source, **heads)
    spec = CompileSpec(family, None, StaticShapes.resolve(ROWS, LENGTH), cores, "float32")
    spec.check(Architecture.find(str(source)))
    export(spec, source, tmp_path / "compiled")
    backend = NeuronBackend(tmp_path / "compiled", spec.shapes)
    backend.load()
    scheduler = Scheduler(backend, NoText(), frozenset(), queue_size=8)
    generator = torch.Generator().manual_seed(1)
    prompts = [torch.randint(2, 258, (count,), generator=generator).tolist() for count in (9, 1, 2, 30, 17)]
    ended: dict[int, Generation] = {}
    scheduler.submit([_request(number, prompt, ended) for number, prompt in enumerate(prompts)])
    while scheduler.unfinished:
        scheduler.step()
    model = AutoModelForCausalLM.from_pretrained(source).eval()
    for number, prompt in enumerate(prompts):
        tokens = ended[number].tokens
        new = [token.id for token in tokens]
        text = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt)),
            do_sample=False,
            max_new_tokens=NEW,
            eos_token_id=None,
        )
        assert new == text[0, len(prompt) :].tolist()
        with torch.inference_mode():
            logits = model(torch.tensor([[*prompt, *new]])).logits[0, len(prompt) - 1 : -1]
        expected = torch.log_softmax(logits, -1)[torch.arange(NEW), torch.tensor(new)]
        assert [token.logprob for token in tokens] == pytest.approx(expected.tolist(), abs=TOLERANCE)
    prefilled = backend.prefill([PrefillChunk(0, prompts[0])]).logits[0]
    with torch.inference_mode():
        logits = model(torch.tensor([prompts[0]])).logits[0, -1]
    assert torch.allclose(prefilled, logits, atol=TOLERANCE), "of every token, also the vocabulary's last"


def _request(number: int, prompt: list[int], ended: dict[int, Generation]) -> Request:
    return Request(
        prompt_ids=prompt,
        parameters=Parameters(max_new_tokens=NEW, details="tokens"),
        max_new_tokens=NEW,
        with_tokens=True,
        with_logprobs=True,
        deadline=time.monotonic() + PATIENCE_S,
        on_token=lambda *_: None,
        on_end=lambda *arguments: ended.__setitem__(number, arguments[2]),
        on_error=lambda error: pytest.fail(str(error)),
    )


#: Attention heads, key and value heads. Over 2, 8 and 12 cores they are shared, padded or repeated; the last
#: cannot be split over more than 2.
HEADS = [(8, 4), (14, 2), (20, 10)]


@pytest.mark.parametrize("cores", [2, 8, 12])
def test_shards_and_cache_have_the_estimated_bytes(
    family: str, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The tokenizer does not matter here, and takes longer than everything else.
    monkeypatch.setattr(
        AutoTokenizer, "from_pretrained", lambda *_, **__: SimpleNamespace(save_pretrained=print)
    )
    for heads, key_value_heads in HEADS:
        source, target = tmp_path / f"s{heads}-{key_value_heads}", tmp_path / f"t{heads}-{key_value_heads}"
        # qwen3 alone has heads that are no even part of the hidden size.
        own = {"head_dim": 12} if family == "qwen3" else {}
        write_model(
            family,
            source,
            hidden_size=8 * heads,
            intermediate_size=50,
            num_hidden_layers=2,
            num_attention_heads=heads,
            num_key_value_heads=key_value_heads,
            **own,
        )
        architecture = Architecture.find(str(source / "config.json"))
        spec = CompileSpec("m", None, StaticShapes.resolve(2, 32), cores, "bfloat16")
        if not can_be_split(architecture, cores):
            with pytest.raises(CompileError, match="one number must divide the other"):
                spec.check(architecture)
            continue
        export(spec, source, target)
        for rank in range(cores):
            shard = target / f"checkpoint/weights/tp{rank}_sharded_checkpoint.safetensors"
            with safe_open(shard, "pt") as file:
                tensors = [file.get_tensor(name) for name in file.keys()]  # noqa: SIM118 - not a dict
            size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
            assert size == weights_per_core(architecture, cores, "bfloat16"), (heads, key_value_heads, rank)
        attention, cache_bytes = _build(source, spec)
        assert sharded_heads(architecture, cores) == (
            attention.num_attention_heads,
            attention.num_key_value_heads,
        )
        assert estimate_memory(architecture, spec.shapes, cores, "bfloat16").kv_cache == cache_bytes


def _build(source: Path, spec: CompileSpec) -> tuple[Any, int]:
    """Build one core's model without weights: the attention of a layer, and the bytes of its cache."""
    from neuronx_distributed.parallel_layers import parallel_state

    config, settings, kind = _configure(source, spec)
    with parallel_state.ranks(spec.tensor_parallel_size), torch.device("meta"):
        model = kind._model_cls(config, settings)
    cache = model.kv_mgr.past_key_values
    return model.layers[0].self_attn.qkv_proj, sum(each.numel() * each.element_size() for each in cache)


def _configure(source: Path, spec: CompileSpec) -> tuple[Any, Any, Any]:
    """Return transformers' configuration, optimum-neuron's, and the class that it compiles."""
    from optimum.neuron.models.auto_model import get_neuron_model_class

    config = AutoConfig.from_pretrained(source)
    config.torch_dtype = getattr(torch, spec.dtype)
    settings = neuron_config(spec, source, config)
    return config, settings, get_neuron_model_class(config.model_type, "text-generation", mode="inference")


def test_the_family_is_compiled_with_its_own_options(family: str, source: Path) -> None:
    """Biases are not fused with each other; on two cores optimum-neuron itself samples qwen on the host."""
    settings: Any = None
    for cores, rows in ((2, 4), (2, 1), (8, 4)):
        spec = CompileSpec("m", None, StaticShapes.resolve(rows, LENGTH), cores, "bfloat16")
        settings = _configure(source, spec)[1]
        assert settings.fused_qkv == (not FAMILIES[family].qkv_bias)
        assert settings.continuous_batching == (rows > 1)
        own = _own_sampling(source, spec)
        asked = CompileSpec("m", None, spec.shapes, cores, "bfloat16", on_device_sampling=True)
        if own:
            asked.check(Architecture.find(str(source)))
        else:
            with pytest.raises(CompileError, match="would draw garbage on the device"):
                asked.check(Architecture.find(str(source)))
    assert json.loads(json.dumps(settings.to_dict()))["max_context_length"] == LENGTH


def _own_sampling(source: Path, spec: CompileSpec) -> bool:
    """Whether optimum-neuron, left to itself, lets the device choose tokens."""
    from optimum.neuron import NeuronModelForCausalLM

    settings = NeuronModelForCausalLM.get_neuron_config(
        str(source),
        config=AutoConfig.from_pretrained(source),
        instance_type="inf2",
        batch_size=spec.shapes.batch_size,
        sequence_length=spec.shapes.sequence_length,
        tensor_parallel_size=spec.tensor_parallel_size,
    )
    return bool(settings.on_device_sampling)


def test_long_prompts_are_computed_as_the_estimate_takes_for_granted(family: str, source: Path) -> None:
    """The kernel that holds no scores is used from 4096 tokens on, but not where they have an own scale."""
    spec = CompileSpec("m", None, StaticShapes.resolve(1, LENGTH), 2, "bfloat16")
    config, settings, kind = _configure(source, spec)
    from neuronx_distributed.parallel_layers import parallel_state

    with parallel_state.ranks(2), torch.device("meta"):
        attention = kind._model_cls(config, settings).layers[0].self_attn
    assert attention.get_flash_attention_strategy(4095).name == "NONE"
    strategy = attention.get_flash_attention_strategy(4096).name
    assert (strategy != "NONE") == FAMILIES[family].flash_attention
