"""The program that compiles: ``python -m inf2kit.compile.export SPEC SOURCE TARGET LIFELINE``.

LIFELINE is the descriptor of a pipe, at whose end the program and all that it has started end.

It needs optimum-neuron and its compiler, which the endpoint's own image has, on Python 3.10. It needs no
device.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from inf2kit.checkpoint import name_of
from inf2kit.compile import corrections, graph_cache
from inf2kit.compile.spec import CompileSpec
from inf2kit.serving.model_dir import GENERATION_CONFIG

#: Begins a line of progress. All other output is the compiler's.
MARK = "inf2kit: "


def neuron_config(spec: CompileSpec, source: Path, config: Any) -> Any:
    """Return optimum-neuron's configuration of a compilation.

    Args:
        spec: What to compile.
        source: The folder of weights. optimum-neuron saves the shards only for a model that it loads from a
            folder.
        config: The model's configuration of transformers; its dtype is the one that is compiled.
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
    """Compile a model, and save graphs, shards, configuration and tokenizer.

    Args:
        spec: What to compile.
        source: The folder of weights and tokenizer.
        target: The folder that is written.
    """
    # inf2 has trn1's cores and is compiled as trn1. The variable does not accept the documented "inf2".
    os.environ["NEURON_PLATFORM_TARGET_OVERRIDE"] = "trn1"
    import torch
    from optimum.neuron import NeuronModelForCausalLM
    from transformers import AutoConfig, AutoTokenizer

    # The default, repeated here because it matters: a repository's own code is never run.
    no_remote_code = {"trust_remote_code": False}
    config = AutoConfig.from_pretrained(source, **no_remote_code).get_text_config()
    config.torch_dtype = getattr(torch, spec.dtype)
    settings = neuron_config(spec, source, config)
    is_corrected = corrections.change_graphs(spec, config.vocab_size)
    _report(graph_cache.describe(spec, settings, is_corrected=is_corrected))
    _report("compiling: a prefill and a decode graph")
    with corrections.corrected():
        model = NeuronModelForCausalLM.export(
            str(source), settings, config=config, load_weights=False, **no_remote_code
        )
    # A pushed model names the weights' origin instead of holding them.
    origin = name_of(Path(spec.model)) if Path(spec.model).exists() else spec.model
    model.neuron_config.checkpoint_id, model.neuron_config.checkpoint_revision = origin, spec.revision
    _report("saving the graphs, and a shard of the weights for each core")
    model.save_pretrained(str(target))
    AutoTokenizer.from_pretrained(source, **no_remote_code).save_pretrained(target)
    if (source / GENERATION_CONFIG).exists():
        shutil.copyfile(source / GENERATION_CONFIG, target / GENERATION_CONFIG)


def _report(step: str) -> None:
    print(f"{MARK}{step}", flush=True)  # noqa: T201 - the parent process reads this output


def _end_with(lifeline: int) -> None:
    """Wait for the end of a pipe, and end this process group then."""
    os.read(lifeline, 1)
    os.killpg(os.getpgid(0), signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=_end_with, args=[int(sys.argv[4])], daemon=True).start()
    export(CompileSpec.from_file(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3]))
