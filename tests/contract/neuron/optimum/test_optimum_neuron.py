"""optimum-neuron has the functions that inf2kit calls, and writes what inf2kit expects."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from optimum.neuron import NeuronModelForCausalLM
from optimum.neuron.models.inference.backend.config import NxDNeuronConfig
from optimum.neuron.models.inference.backend.pretrained_model import NxDPreTrainedModel
from optimum.neuron.models.inference.llama.modeling_llama import LlamaNxDModelForCausalLM
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoConfig, AutoTokenizer, LlamaConfig, LlamaForCausalLM

import inf2kit
from inf2kit import catalog
from inf2kit.checkpoint.families import FAMILIES
from inf2kit.compile.export import export, neuron_config
from inf2kit.compile.spec import CompileSpec
from inf2kit.errors import CompileError, ModelDirectoryError
from inf2kit.fit import Architecture
from inf2kit.fit.memory import can_be_split, estimate_memory, sharded_heads, weights_per_core
from inf2kit.serving.engine.backend import DeviceBusyError, PrefillChunk
from inf2kit.serving.engine.backend.neuron import NeuronBackend
from inf2kit.serving.shapes import StaticShapes
from tests.helpers.small_models import write_model

NEURON = [name for name in inf2kit.preset_names() if inf2kit.load_preset(name).compute.backend == "neuron"]


def test_every_call_binds() -> None:
    one = torch.zeros(1)
    calls: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = [
        (
            NeuronModelForCausalLM.get_neuron_config,
            ("dir",),
            {
                "config": None,
                "instance_type": "inf2",
                "batch_size": 1,
                "sequence_length": 2,
                "tensor_parallel_size": 2,
            },
        ),
        (NeuronModelForCausalLM.export, ("dir", None), {"config": None, "load_weights": False}),
        (NeuronModelForCausalLM.from_pretrained, ("dir",), {}),
        (LlamaNxDModelForCausalLM.save_pretrained, (None, "dir"), {}),
        (LlamaNxDModelForCausalLM.push_to_hub, (None, "dir", "repository"), {"token": True}),
        (
            LlamaNxDModelForCausalLM.forward,
            (None,),
            {"input_ids": one, "position_ids": one, "seq_ids": one, "sampling_params": one},
        ),
    ]
    for function, positional, named in calls:
        inspect.signature(function).bind(*positional, **named)
    assert (NxDPreTrainedModel.COMPILED_MODEL_FILE_NAME, NxDPreTrainedModel.CHECKPOINT_DIR) == (
        "model.pt",
        "checkpoint",
    )
    from optimum.neuron.cache.hub_cache import get_hub_cached_entries
    from optimum.neuron.utils.version_utils import get_neuronxcc_version

    inspect.signature(get_hub_cached_entries).bind("model", task="text-generation")
    assert get_neuronxcc_version().endswith("cpudouble")


@pytest.mark.parametrize("name", NEURON)
def test_the_configuration_of_each_preset_is_accepted(name: str, tmp_path: Path) -> None:
    preset = inf2kit.load_preset(name)
    spec = CompileSpec.from_preset(preset)
    sizes = dict(catalog.models()[preset.model.id])
    config = AutoConfig.for_model(sizes.pop("model_type"), **sizes)
    config.torch_dtype = getattr(torch, spec.dtype)
    settings = neuron_config(spec, tmp_path, config)
    assert type(settings) is NxDNeuronConfig
    expected = {
        "batch_size": spec.shapes.batch_size,
        "sequence_length": spec.shapes.sequence_length,
        "max_context_length": spec.shapes.sequence_length,
        "tp_degree": spec.tensor_parallel_size,
        "continuous_batching": spec.shapes.batch_size > 1,
        "on_device_sampling": preset.compute.sampling == "device",
        "target": "trn1",
        "checkpoint_id": None,
        "torch_dtype": config.torch_dtype,
    }
    assert {key: getattr(settings, key) for key in expected} == expected
    settings.save_pretrained(tmp_path)
    saved = NxDNeuronConfig.from_pretrained(str(tmp_path))
    assert saved.to_dict() == settings.to_dict()


def test_a_preset_chooses_where_tokens_are_chosen(small_weights: Path, tmp_path: Path) -> None:
    """Also against optimum-neuron's own default, which is the device."""
    preset = inf2kit.load_preset("llama2-7b-throughput")
    device = replace(preset, compute=replace(preset.compute, sampling="device"))
    config = AutoConfig.from_pretrained(small_weights)
    for chosen, option, on_device in (
        (preset, None, False),
        (device, None, True),
        (preset, True, True),
        (device, False, False),
    ):
        spec = CompileSpec.from_preset(chosen, on_device_sampling=option)
        assert neuron_config(spec, tmp_path, config).on_device_sampling is on_device
        assert spec.apply_to(chosen).compute.sampling == ("device" if on_device else "host")


def test_what_is_saved_is_what_packaging_and_the_engine_expect(compiled: Callable[..., Path]) -> None:
    path = compiled(4)
    names = {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}
    assert {
        "config.json",
        "neuron_config.json",
        "model.pt",
        "checkpoint/weights/tp0_sharded_checkpoint.safetensors",
        "tokenizer.json",
        "generation_config.json",
    } <= names
    config = json.loads((path / "neuron_config.json").read_text(encoding="utf-8"))
    assert config["checkpoint_id"] == "embedded/model"
    assert config["checkpoint_revision"] == "r1"
    assert not config["on_device_sampling"]


#: Heads, key and value heads, head size, hidden, intermediate and vocabulary size. Heads divide evenly over
#: the cores, are padded, or are repeated.
SHAPES = [
    (8, 8, 8, 64, 96, 120),
    (32, 32, 4, 128, 100, 97),
    (9, 3, 8, 72, 50, 131),
    (28, 4, 4, 112, 90, 33),
    (14, 2, 4, 56, 20, 45),
]


@pytest.mark.parametrize("cores", [2, 12, 24])
def test_the_weights_of_a_core_have_the_estimated_bytes(
    cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compare with the shards that optimum-neuron saves, padded and repeated by its own code."""
    # The tokenizer does not matter here, and takes longer than everything else.
    monkeypatch.setattr(
        AutoTokenizer, "from_pretrained", lambda *_, **__: SimpleNamespace(save_pretrained=print)
    )
    for heads, key_value_heads, head_dim, hidden, intermediate, vocabulary in SHAPES:
        config = LlamaConfig(
            hidden_size=hidden,
            intermediate_size=intermediate,
            num_hidden_layers=2,
            num_attention_heads=heads,
            num_key_value_heads=key_value_heads,
            head_dim=head_dim,
            vocab_size=vocabulary,
            max_position_embeddings=64,
        )
        source, target = tmp_path / f"s{heads}-{key_value_heads}", tmp_path / f"t{heads}-{key_value_heads}"
        LlamaForCausalLM(config).save_pretrained(source)
        spec = CompileSpec("m", None, StaticShapes.resolve(2, 32), cores, "float16")
        architecture = Architecture.find(str(source / "config.json"))
        if not can_be_split(architecture, cores):
            with pytest.raises(CompileError, match="one number must divide the other"):
                spec.check(architecture)
            with pytest.raises(RuntimeError, match="split_sizes"):
                export(spec, source, target)
            continue
        export(spec, source, target)
        expected = weights_per_core(architecture, cores, "float16")
        for rank in range(cores):
            with safe_open(
                target / f"checkpoint/weights/tp{rank}_sharded_checkpoint.safetensors", "pt"
            ) as file:
                tensors = [file.get_tensor(name) for name in file.keys()]  # noqa: SIM118 - not a dict
            assert sum(tensor.numel() * tensor.element_size() for tensor in tensors) == expected, (
                heads,
                cores,
                rank,
            )


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("tied", [False, True])
def test_every_core_of_every_family_has_an_even_part_of_both_tables(
    family: str, tied: bool, tmp_path: Path
) -> None:
    """Also of tied ones, which are cloned. So what the first core needs more on a device is in no shard."""
    source, target, cores = tmp_path / "source", tmp_path / "target", 4
    write_model(family, source, tie_word_embeddings=tied)
    export(CompileSpec("m", None, StaticShapes.resolve(2, 32), cores, "float16"), source, target)
    expected = weights_per_core(Architecture.find(str(source / "config.json")), cores, "float16")
    for rank in range(cores):
        shard = load_file(target / f"checkpoint/weights/tp{rank}_sharded_checkpoint.safetensors")
        assert sum(tensor.numel() * tensor.element_size() for tensor in shard.values()) == expected, rank
        assert shard["embed_tokens.weight"].shape == (258, 64 // cores)
        assert shard["lm_head.weight"].shape == (-(-258 // cores), 64)


@pytest.mark.parametrize("cores", catalog.TENSOR_PARALLEL_SIZES)
def test_the_cache_has_the_estimated_bytes(cores: int) -> None:
    from neuronx_distributed.parallel_layers import parallel_state
    from optimum.neuron.models.inference.llama.modeling_llama import NxDLlamaModel

    for heads, key_value_heads, head_dim, hidden, intermediate, vocabulary in SHAPES:
        config = LlamaConfig(
            hidden_size=hidden,
            intermediate_size=intermediate,
            num_hidden_layers=2,
            num_attention_heads=heads,
            num_key_value_heads=key_value_heads,
            head_dim=head_dim,
            vocab_size=vocabulary,
        )
        settings = NxDNeuronConfig(
            batch_size=3, sequence_length=40, tp_degree=cores, torch_dtype="float16", fused_qkv=True
        )
        with parallel_state.ranks(cores), torch.device("meta"):
            model = NxDLlamaModel(config, settings)
        cache_bytes = sum(layer.numel() * layer.element_size() for layer in model.kv_mgr.past_key_values)
        architecture = Architecture(hidden, intermediate, 2, heads, key_value_heads, head_dim, vocabulary, 64)
        assert (
            estimate_memory(architecture, StaticShapes.resolve(3, 40), cores, "float16").kv_cache
            == cache_bytes
        )
        attention = model.layers[0].self_attn.qkv_proj
        assert sharded_heads(architecture, cores) == (
            attention.num_attention_heads,
            attention.num_key_value_heads,
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimum_neuron_version": "0.3.0"}, "compiled with optimum-neuron 0.3.0, but 0.4"),
        ({"neuronxcc_version": "2.19.1"}, "compiled with neuronx-cc 2.19.1, but 2."),
        ({"batch_size": 8}, "batch_size is 8, the preset asks for 4"),
        ({"continuous_batching": False}, "continuous_batching is False, the preset asks for True"),
        ({"target": "trn2"}, "cannot be loaded .*trn2"),
        ({"tp_degree": 2}, "lacks checkpoint/weights/tp1_sharded_checkpoint.safetensors"),
    ],
)
def test_a_model_compiled_for_something_else_is_refused_in_one_sentence(
    changes: dict[str, Any], message: str, compiled: Callable[..., Path], tmp_path: Path
) -> None:
    source = compiled(4)
    for file in source.rglob("*"):
        if file.is_file():
            (tmp_path / file.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file.relative_to(source)).symlink_to(file)
    config = json.loads((source / "neuron_config.json").read_text(encoding="utf-8"))
    (tmp_path / "neuron_config.json").unlink()
    (tmp_path / "neuron_config.json").write_text(json.dumps({**config, **changes}), encoding="utf-8")
    with pytest.raises(ModelDirectoryError, match=message) as refused:
        NeuronBackend(tmp_path, StaticShapes.resolve(4, 64)).load()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("message", "error_type"),
    [
        (
            "The PyTorch Neuron Runtime could not be initialized. Neuron Driver issues are logged",
            RuntimeError,
        ),
        ("nrt_load_collectives failed: NRT_RESOURCE", RuntimeError),
        ("NRT:nrt_allocate_neuron_cores  NeuronCore(s) not available - Requested:1", DeviceBusyError),
    ],
)
def test_only_a_device_that_another_process_holds_is_waited_for(
    compiled: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, message: str, error_type: type[Exception]
) -> None:
    """Waiting would not help against an old driver, and a passing error does not mean a damaged file."""
    source = compiled(1)
    monkeypatch.setenv("NEURON_CPU_DOUBLE_REFUSAL", message)
    with pytest.raises(error_type, match=message[:20]) as refused:
        NeuronBackend(source, StaticShapes.resolve(1, 64)).load()
    assert type(refused.value) is error_type
    if error_type is RuntimeError:
        assert "no driver is loaded" in str(refused.value)


def test_cores_are_a_range_and_all_is_not_none(
    compiled: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The container's NEURON_RT_NUM_CORES=0 means all to the runtime; optimum-neuron counts it as none."""
    from optimum.neuron.utils.system import get_available_cores

    monkeypatch.setenv("NEURON_RT_NUM_CORES", "0")
    monkeypatch.delenv("NEURON_RT_VISIBLE_CORES", raising=False)
    assert get_available_cores() == 0
    NeuronBackend(compiled(1), StaticShapes.resolve(1, 64)).load()
    assert get_available_cores() == 1
    monkeypatch.setenv("NEURON_RT_VISIBLE_CORES", "0-1")
    assert get_available_cores() == 2
    monkeypatch.setenv("NEURON_RT_VISIBLE_CORES", "0,1,2")
    assert get_available_cores() == 1, "a list counts as one"
    # The second of several engines.
    NeuronBackend(compiled(1), StaticShapes.resolve(1, 64), first_core=8).load()
    assert (os.environ["NEURON_RT_VISIBLE_CORES"], get_available_cores()) == ("8", 1)
    monkeypatch.setenv("NEURON_RT_VISIBLE_CORES", "8-15")
    assert get_available_cores() == 8


def test_optimum_neurons_own_generate(compiled: Callable[..., Path], small_weights: Path) -> None:
    """The way of AWS's blog post, on the same model: right-padded prompts, greedy search as top_k 1.

    0.4.1's own loop passes an attention mask that includes the position being written, so every step reads
    what was there before: the padding of the prefill. 0.4.5 has no such mask.
    """
    NeuronBackend(compiled(4), StaticShapes.resolve(4, 64)).load()
    model = NeuronModelForCausalLM.from_pretrained(compiled(4))
    reference = LlamaForCausalLM.from_pretrained(small_weights)
    prompts = [[5, 6, 7, 8, 9, 10], [11, 12, 13]]
    width = max(map(len, prompts))
    ids = torch.tensor([prompt + [0] * (width - len(prompt)) for prompt in prompts])
    mask = torch.tensor([[1] * len(prompt) + [0] * (width - len(prompt)) for prompt in prompts])
    out = model.generate(ids, attention_mask=mask, do_sample=True, top_k=1, max_new_tokens=6)
    expected = [
        reference.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt)),
            do_sample=False,
            max_new_tokens=6,
            eos_token_id=None,
        )[0, len(prompt) :].tolist()
        for prompt in prompts
    ]
    assert (out[:, width:].tolist() == expected) == (metadata.version("optimum-neuron") != "0.4.1")


def test_a_mask_with_the_position_being_written_changes_the_step(compiled: Callable[..., Path]) -> None:
    """Show the step of 0.4.1's loop in two calls."""
    backend = NeuronBackend(compiled(1), StaticShapes.resolve(1, 64))
    backend.load()
    forward = backend._model.forward
    if "attention_mask" not in inspect.signature(forward).parameters:
        return  # 0.4.5: the graphs make their own
    logits = []
    for last in (3, 4):  # positions 0..2 are cached, 3 is written
        backend.prefill([PrefillChunk(0, [11, 12, 13])])
        backend.release(0)
        mask = torch.tensor([[1] * last])
        inputs = {"input_ids": torch.tensor([[9]]), "position_ids": torch.tensor([[3]])}
        logits.append(forward(**inputs, seq_ids=torch.tensor([0]), attention_mask=mask).logits)
    assert not torch.allclose(*logits, atol=1e-3)
