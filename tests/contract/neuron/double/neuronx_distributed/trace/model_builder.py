"""A CPU double; see neuron_cpu_double. The compiler's front: it keeps modules, and splits checkpoints as they
ask."""

from pathlib import Path

import neuron_cpu_double
import torch
from neuron_cpu_double import device
from neuronx_distributed.parallel_layers import parallel_state
from safetensors.torch import save_file


class BaseModelInstance:
    pass


class ModelBuilder:
    def __init__(
        self,
        router,
        tp_degree,
        checkpoint_loader,
        pp_degree=1,
        ep_degree=1,
        world_size=None,
        start_rank_id=0,
        local_ranks_size=None,
        compiler_workdir=None,
        debug=False,
        logical_nc_config=1,
        weights_to_skip_layout_optimization=None,
    ):
        self._ranks, self._loader, self._graphs = tp_degree, checkpoint_loader, {}

    def add(self, key, model_instance, example_inputs, compiler_args=None, priority_model_idx=None):
        self._graphs[key] = (model_instance, example_inputs[0])
        return self

    def trace(self, initialize_model_weights=True):
        assert not initialize_model_weights
        print(f"neuron_cpu_double: no compiler, the graphs {', '.join(self._graphs)} are kept as they are")
        return device.compiled(self._graphs)

    def shard_checkpoint(self, serialize_path=None):
        instance = next(iter(self._graphs.values()))[0]
        with parallel_state.ranks(self._ranks), torch.device("meta"):
            instance.load_module()
            module, _ = instance.get(0)
        checkpoint = self._loader()
        _preshard(module, checkpoint, "")
        shards = [_shard(module, checkpoint, rank) for rank in range(self._ranks)]
        instance.module = None
        if serialize_path is not None:
            Path(serialize_path).mkdir(parents=True, exist_ok=True)
            for rank, shard in enumerate(shards):
                save_file(shard, Path(serialize_path) / f"tp{rank}_sharded_checkpoint.safetensors")
        return shards


def _preshard(module, checkpoint, prefix):
    """What modules do with their weights before these are split: padding, repeating, renaming."""
    if hasattr(module, "preshard_hook"):
        module.preshard_hook(checkpoint, f"{prefix}weight")
        return
    for name, child in module.named_children():
        _preshard(child, checkpoint, f"{prefix}{name}.")


def _shard(module, checkpoint, rank):
    shard = {}
    for name, parameter in module.named_parameters():
        if "kv_mgr" in name:
            continue
        whole = checkpoint[name]
        dim = getattr(parameter, "partition_dim", None)
        if hasattr(parameter, "fused_qkv"):
            # One rank's part of each of the three, one behind the other.
            heads = (parameter.num_attention_heads, *[parameter.num_key_value_heads] * 2)
            parts = whole.split([each * parameter.head_dim for each in heads])
            count = len(whole) // len(parameter)
            part = torch.cat([each.chunk(count)[rank] for each in parts])
        elif dim is None:
            part = whole
        else:
            part = whole.narrow(dim, rank * parameter.shape[dim], parameter.shape[dim])
        if part.shape != parameter.shape:
            raise RuntimeError(
                f"{name}: the checkpoint has {tuple(part.shape)}, the graph {tuple(parameter.shape)}"
            )
        shard[name] = part.to(parameter.dtype).contiguous().clone()
    return shard


__getattr__ = neuron_cpu_double.undoubled(__name__)
