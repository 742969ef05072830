"""What "compiles" graphs and runs them."""

from __future__ import annotations

import base64
import fcntl
import os
import pickle
from pathlib import Path
from typing import Any

import torch

# A compiled model is a TorchScript file, which cannot hold Python: it holds a pickle, and calls these
# operators.
_LIBRARY = torch.library.Library("neuron_cpu_double", "DEF")
_LIBRARY.define("initialize(str graphs, str[] names, Tensor[] tensors) -> int")
_LIBRARY.define("run(int model, Tensor[] inputs) -> Tensor")
_LOADED: list[Loaded] = []
_HELD: list[Any] = []


class Loaded:
    """The graphs of one model with their weights and their common cache, "on the device"."""

    def __init__(self, graphs: str, weights: dict[str, torch.Tensor]) -> None:
        from neuronx_distributed.parallel_layers import parallel_state

        self.graphs: dict[tuple[torch.Size, ...], Graph] = {}
        self.cache: list[torch.Tensor] = []
        with parallel_state.ranks(1):
            for name, (instance, shapes, dtypes) in pickle.loads(base64.b64decode(graphs)).items():
                instance.load_module()
                module, _ = instance.get(0)
                # As on the device: the cache belongs to no graph, and weights are what the shard holds.
                state = {
                    **weights,
                    **{key: value for key, value in module.state_dict().items() if "kv_mgr" in key},
                }
                module.load_state_dict(state, strict=True, assign=True)
                _, aliases = instance.get(0)  # of the parameters that loading has put there
                outputs = [aliases[parameter] for parameter in aliases]
                self.cache = self.cache or [parameter.detach().clone() for parameter in aliases]
                self.graphs[shapes] = Graph(name, module, dtypes, list(aliases), outputs)

    @torch.inference_mode()
    def run(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        shapes = tuple(each.shape for each in inputs)
        if shapes not in self.graphs:
            raise RuntimeError(
                f"no graph was compiled for inputs of shapes {shapes}, only for {list(self.graphs)}"
            )
        graph = self.graphs[shapes]
        dtypes = tuple(each.dtype for each in inputs)
        if dtypes != graph.dtypes:
            raise RuntimeError(f"the graph takes {graph.dtypes}, not {dtypes}")
        for parameter, value in zip(graph.parameters, self.cache, strict=True):
            parameter.data = value
        outputs = graph.module(*inputs)
        self.cache = [outputs[index] for index in graph.outputs]
        return outputs[0]


class Graph:
    """One compiled graph: its module, the types of its inputs, and where its outputs alias the cache."""

    def __init__(
        self, name: str, module: Any, dtypes: Any, parameters: list[Any], outputs: list[int]
    ) -> None:
        self.name, self.module, self.dtypes = name, module, dtypes
        self.parameters, self.outputs = parameters, outputs


def _hold_cores() -> None:
    """Cores belong to one process, where a lock stands for them. The words are those of the runtime's log."""
    path = os.environ.get("NEURON_CPU_DOUBLE_LOCK")
    if path and not _HELD:
        _HELD.append(Path(path).open("w"))  # noqa: SIM115 - held until the process ends
        try:
            fcntl.flock(_HELD[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RuntimeError(
                "neuron_cpu_double: NRT:nrt_allocate_neuron_cores  NeuronCore(s) not available - "
                "Requested:1 Available:0"
            ) from None


def _start_runtime() -> None:
    """Refuse to start with the sentence that ``NEURON_CPU_DOUBLE_REFUSAL`` holds, as a runtime does."""
    sentence = os.environ.get("NEURON_CPU_DOUBLE_REFUSAL")
    if sentence:
        raise RuntimeError(f"neuron_cpu_double: {sentence}")


def _initialize(graphs: str, names: list[str], tensors: list[torch.Tensor]) -> int:
    _start_runtime()
    _hold_cores()
    _LOADED.append(Loaded(graphs, dict(zip(names, tensors, strict=True))))
    return len(_LOADED) - 1


_LIBRARY.impl("initialize", _initialize, "CompositeExplicitAutograd")
_LIBRARY.impl("run", lambda model, inputs: _LOADED[model].run(inputs), "CompositeExplicitAutograd")


class NxDModel(torch.nn.Module):
    """What a traced model's ``nxd_model`` is."""

    def __init__(self, graphs: str) -> None:
        super().__init__()
        self.graphs = graphs
        self.model = -1

    @torch.jit.export
    def initialize(self, weights: list[dict[str, torch.Tensor]], start_rank: torch.Tensor) -> None:
        if len(weights) != 1:
            raise RuntimeError("the CPU double runs one rank")
        names: list[str] = []
        tensors: list[torch.Tensor] = []
        for name, tensor in weights[0].items():
            names.append(name)
            tensors.append(tensor)
        self.model = torch.ops.neuron_cpu_double.initialize(self.graphs, names, tensors)

    def forward(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        if self.model < 0:
            raise RuntimeError("the model has no weights yet")
        return torch.ops.neuron_cpu_double.run(self.model, inputs)


class FiveInputs(torch.nn.Module):
    """The executor of graphs that take an attention mask (optimum-neuron 0.4.1)."""

    def __init__(self, graphs: str) -> None:
        super().__init__()
        self.nxd_model = NxDModel(graphs)

    def forward(
        self, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor, d: torch.Tensor, e: torch.Tensor
    ) -> torch.Tensor:
        return self.nxd_model([a, b, c, d, e])


class FourInputs(torch.nn.Module):
    """The executor of graphs that take none (0.4.5)."""

    def __init__(self, graphs: str) -> None:
        super().__init__()
        self.nxd_model = NxDModel(graphs)

    def forward(self, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
        return self.nxd_model([a, b, c, d])


def compiled(graphs: dict[str, Any]) -> torch.jit.ScriptModule:
    """A saveable model of graphs: by name, their instance and an example of their inputs."""
    kept = {
        name: (instance, tuple(each.shape for each in inputs), tuple(each.dtype for each in inputs))
        for name, (instance, inputs) in graphs.items()
    }
    pickled = base64.b64encode(pickle.dumps(kept)).decode()
    number = len(next(iter(kept.values()))[1])
    return torch.jit.script({4: FourInputs, 5: FiveInputs}[number](pickled))
