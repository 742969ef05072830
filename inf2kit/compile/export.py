"""The compilation itself, in a process of its own: ``python -m inf2kit.compile.export SPEC SOURCE TARGET``.

Runs where optimum-neuron and its compiler are, which is the endpoint's own image: Python 3.10. No device is
needed.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from inf2kit.compile.spec import CompileSpec
from inf2kit.serving.model_dir import GENERATION_CONFIG

#: Begins a line of progress; everything else that is printed is the compiler's.
MARK = "inf2kit: "


def neuron_config(spec: CompileSpec, source: Path, config: Any) -> Any:
    """optimum-neuron's configuration of a compilation.

    Args:
        spec: What to compile.
        source: A folder of weights: only what is exported from a folder gets its shards saved beside it.
        config: The model's own, of transformers; its dtype is the one that is compiled.
    """
    from optimum.neuron import NeuronModelForCausalLM

    settings = NeuronModelForCausalLM.get_neuron_config(
        str(source),
        config=config,
        instance_type="inf2",
        batch_size=spec.shapes.batch_size,
        sequence_length=spec.shapes.sequence_length,
        tensor_parallel_size=spec.tensor_parallel_size,
    )
    # get_neuron_config has no arguments for these.
    settings.on_device_sampling = spec.on_device_sampling
    settings.max_context_length = spec.shapes.prefill_length
    return settings


def export(spec: CompileSpec, source: Path, target: Path) -> None:
    """Compile, and save graphs, shards, configuration and tokenizer.

    Args:
        spec: What to compile.
        source: A folder of weights and tokenizer.
        target: Is made.
    """
    # inf2 is compiled as trn1, whose cores are the same; the documented "inf2" is not normalised by this
    # variable.
    os.environ["NEURON_PLATFORM_TARGET_OVERRIDE"] = "trn1"
    import torch
    from optimum.neuron import NeuronModelForCausalLM
    from transformers import AutoConfig, AutoTokenizer

    # The default, said here: a repository's own code is never run.
    own_code = {"trust_remote_code": False}
    config = AutoConfig.from_pretrained(source, **own_code).get_text_config()
    config.torch_dtype = getattr(torch, spec.dtype)
    settings = neuron_config(spec, source, config)
    _say(_expectation(spec, settings))
    _say("compiling: a prefill and a decode graph")
    model = NeuronModelForCausalLM.export(
        str(source), settings, config=config, load_weights=False, **own_code
    )
    if not Path(spec.model).exists():
        # Where the weights are from; 'push_to_hub' then leaves them there.
        model.neuron_config.checkpoint_id, model.neuron_config.checkpoint_revision = spec.model, spec.revision
    _say("saving the graphs, and a shard of the weights for each core")
    model.save_pretrained(str(target))
    AutoTokenizer.from_pretrained(source, **own_code).save_pretrained(target)
    if (source / GENERATION_CONFIG).exists():
        shutil.copyfile(source / GENERATION_CONFIG, target / GENERATION_CONFIG)


def _expectation(spec: CompileSpec, settings: Any) -> str:
    """How long it may take, by what the hub's cache of compiled graphs has."""
    long = "up to an hour and more for a large model"
    if Path(spec.model).exists():
        return f"the hub's cache knows no model by its folder; compiling may take {long}"
    from optimum.neuron.cache.hub_cache import get_hub_cached_entries

    try:
        entries = get_hub_cached_entries(spec.model, task="text-generation")
    except Exception as error:  # no network, no token, another layout of the cache
        return (
            f"the hub's cache cannot be asked ({str(error).partition(chr(10))[0]}); compiling may take {long}"
        )
    keys = (
        "batch_size",
        "sequence_length",
        "max_context_length",
        "tp_degree",
        "on_device_sampling",
        "target",
    )
    wanted = {key: getattr(settings, key) for key in keys} | {"torch_dtype": spec.dtype}
    if any(all(entry.get(key) == value for key, value in wanted.items()) for entry in entries):
        return "the hub's cache has these graphs: some minutes"
    return f"the hub's cache has {len(entries)} compilations of this model, none with these shapes: {long}"


def _say(what: str) -> None:
    print(f"{MARK}{what}", flush=True)  # noqa: T201 - a process of its own: its output is read


if __name__ == "__main__":
    export(CompileSpec.read(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3]))
