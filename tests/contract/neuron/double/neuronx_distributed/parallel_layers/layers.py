"""A CPU double; see neuron_cpu_double. Layers that hold one rank's part of their weights, padded where
asked."""

import neuron_cpu_double
import torch
import torch.nn.functional as F
from neuron_cpu_double.ranks import exchange

from neuronx_distributed.parallel_layers import parallel_state
from neuronx_distributed.parallel_layers.utils import divide, get_padding_length


class _Parallel(torch.nn.Module):
    """A weight that is split along ``partition_dim``; what is padded there is padded before it is split."""

    def _make(self, shape, dim, dtype, pad, split=True):
        self.tensor_parallel_group = parallel_state.get_tensor_model_parallel_group()
        size = parallel_state.get_tensor_model_parallel_size()
        self.pad_size = get_padding_length(shape[dim], size) if pad else 0
        self._size, self._padded = shape[dim], shape[dim] + self.pad_size
        shape = list(shape)
        shape[dim] = divide(self._padded, size)
        self.weight = torch.nn.Parameter(torch.zeros(shape, dtype=dtype), requires_grad=False)
        self.weight.partition_dim = dim

    def preshard_hook(self, model_state_dict, prefix):
        missing = self._padded - model_state_dict[prefix].shape[self.weight.partition_dim]
        if missing:
            pad = (0, missing) if self.weight.partition_dim == 1 else (0, 0, 0, missing)
            model_state_dict[prefix] = F.pad(model_state_dict[prefix], pad)


class ColumnParallelLinear(_Parallel):
    def __init__(
        self,
        input_size,
        output_size,
        bias=True,
        gather_output=True,
        dtype=torch.float32,
        pad=False,
        tensor_model_parallel_group=None,
    ):
        super().__init__()
        self.gather_output = gather_output
        self._make((output_size, input_size), 0, dtype, pad)
        self.bias = None
        if bias:
            assert not self.pad_size, "the double pads no bias"
            self.bias = torch.nn.Parameter(
                torch.zeros(self.weight.shape[0], dtype=dtype), requires_grad=False
            )
            self.bias.partition_dim = 0

    def forward(self, x):
        output = F.linear(x, self.weight, self.bias)
        return torch.cat(exchange(output), -1)[..., : self._size] if self.gather_output else output


class RowParallelLinear(_Parallel):
    def __init__(
        self,
        input_size,
        output_size,
        bias=True,
        input_is_parallel=False,
        dtype=torch.float32,
        pad=False,
        reduce_dtype=None,
        tensor_model_parallel_group=None,
    ):
        super().__init__()
        assert not bias, "the double knows no bias"
        self._make((output_size, input_size), 1, dtype, pad)

    def forward(self, x):
        return sum(exchange(F.linear(x, self.weight)))


class ParallelEmbedding(_Parallel):
    def __init__(
        self,
        num_embeddings,
        embedding_dim,
        padding_idx=None,
        dtype=torch.float32,
        shard_across_embedding=False,
        pad=False,
    ):
        super().__init__()
        assert shard_across_embedding, "the double splits embeddings over the hidden size only"
        self._make((num_embeddings, embedding_dim), 1, dtype, pad)

    def forward(self, ids):
        return torch.cat(exchange(F.embedding(ids.long(), self.weight)), -1)[..., : self._size]


class SPMDRank(torch.nn.Module):
    def __init__(self, world_size):
        super().__init__()
        self.rank = torch.nn.Parameter(torch.zeros(1, dtype=torch.int32), requires_grad=False)
        self.rank.partition_dim = 0

    def get_rank(self):
        return self.rank


__getattr__ = neuron_cpu_double.undoubled(__name__)
