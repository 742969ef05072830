"""A CPU double; see neuron_cpu_double."""

import neuron_cpu_double
import torch
from neuron_cpu_double.ranks import exchange


def _gather_along_dim(tensor, partition_dim, process_group=None):
    return torch.cat(exchange(tensor), partition_dim)


def reduce_from_tensor_model_parallel_region(tensor, process_group=None):
    return sum(exchange(tensor))


def gather_from_sequence_parallel_region(tensor, *_, **__):
    return tensor


__getattr__ = neuron_cpu_double.undoubled(__name__)
