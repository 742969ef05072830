"""What "compiles" graphs and runs them."""

from __future__ import annotations

import base64
import contextlib
import copy
import fcntl
import functools
import importlib
import marshal
import os
import pickle
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

# A compiled model is a TorchScript file, which cannot hold Python: it holds a pickle, and calls these
# operators.
_LIBRARY = torch.library.Library("neuron_cpu_double", "DEF")
_LIBRARY.define("initialize(str graphs, str[] names, Tensor[] tensors, int ranks) -> int")
_LIBRARY.define("run(int model, Tensor[] inputs) -> Tensor")
_LOADED: list[Loaded] = []
_HELD: list[Any] = []


#: Functions that optimum-neuron's decoder finds by their names when it is traced. A compilation may have
#: exchanged them, and a graph holds those that it was traced with.
_DECODER = "optimum.neuron.models.inference.backend.modules.decoder.modeling_decoder"
_TRACED_FUNCTIONS = ("mask_padded_logits",)


def _parts(function: types.FunctionType) -> tuple[bytes, Any]:
    """A function by value, as a compiled graph needs no module of those who traced it."""
    return marshal.dumps(function.__code__), function.__defaults__


def _function(code: bytes, defaults: Any) -> types.FunctionType:
    return types.FunctionType(marshal.loads(code), {"torch": torch}, argdefs=defaults)


class Loaded:
    """One model "on the device", on as many cores as it has ranks."""

    def __init__(self, pickled: str, shards: list[dict[str, torch.Tensor]]) -> None:
        graphs, functions = pickle.loads(base64.b64decode(pickled))
        self.functions = {name: _function(*parts) for name, parts in functions.items()}
        self.ranks = [Rank(copy.deepcopy(graphs), weights, len(shards)) for weights in shards]

    def run(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        from neuronx_distributed.parallel_layers import parallel_state

        from neuron_cpu_double.ranks import run_together

        with parallel_state.ranks(len(self.ranks)), self._traced_functions():
            outputs = run_together([functools.partial(rank.run, inputs) for rank in self.ranks])
        if not all(torch.equal(each, outputs[0]) for each in outputs):
            raise RuntimeError("the ranks have different outputs")
        return outputs[0]

    @contextlib.contextmanager
    def _traced_functions(self) -> Iterator[None]:
        decoder = importlib.import_module(_DECODER)
        originals = {name: getattr(decoder, name) for name in self.functions}
        vars(decoder).update(self.functions)
        try:
            yield
        finally:
            vars(decoder).update(originals)


class Rank:
    """The graphs of one core with their weights and their common cache."""

    def __init__(self, graphs: dict[str, Any], weights: dict[str, torch.Tensor], count: int) -> None:
        from neuronx_distributed.parallel_layers import parallel_state

        self.graphs: dict[tuple[torch.Size, ...], Graph] = {}
        self.cache: list[torch.Tensor] = []
        with parallel_state.ranks(count):
            for name, (instance, shapes, dtypes) in graphs.items():
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


def _initialize(graphs: str, names: list[str], tensors: list[torch.Tensor], ranks: int) -> int:
    _start_runtime()
    _hold_cores()
    shards: list[dict[str, torch.Tensor]] = [{} for _ in range(ranks)]
    for name, tensor in zip(names, tensors, strict=True):
        rank, _, name_of_tensor = name.partition(" ")
        shards[int(rank)][name_of_tensor] = tensor
    _LOADED.append(Loaded(graphs, shards))
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
        names: list[str] = []
        tensors: list[torch.Tensor] = []
        for rank, shard in enumerate(weights):
            for name, tensor in shard.items():
                names.append(str(rank) + " " + name)
                tensors.append(tensor)
        self.model = torch.ops.neuron_cpu_double.initialize(self.graphs, names, tensors, len(weights))

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
    examples = {
        name: (instance, tuple(each.shape for each in inputs), tuple(each.dtype for each in inputs))
        for name, (instance, inputs) in graphs.items()
    }
    decoder = importlib.import_module(_DECODER)
    functions = {name: _parts(getattr(decoder, name)) for name in _TRACED_FUNCTIONS}
    pickled = base64.b64encode(pickle.dumps((examples, functions))).decode()
    number = len(next(iter(examples.values()))[1])
    return torch.jit.script({4: FourInputs, 5: FiveInputs}[number](pickled))
