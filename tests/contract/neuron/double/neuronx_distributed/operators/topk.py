"""A CPU double; see neuron_cpu_double."""

import neuron_cpu_double
import torch
from neuron_cpu_double.ranks import exchange


def topk(tensor, k, dim, gather_dim, process_group=None, stages=1, rank_id=None):
    return torch.topk(torch.cat(exchange(tensor), gather_dim), k, dim=dim)


__getattr__ = neuron_cpu_double.undoubled(__name__)
