"""A CPU double; see neuron_cpu_double."""

import neuron_cpu_double
import torch
from neuron_cpu_double.ranks import exchange


def argmax(tensor, dim, gather_dim, keepdim=False, process_group=None):
    return torch.argmax(torch.cat(exchange(tensor), gather_dim), dim=dim, keepdim=keepdim)


__getattr__ = neuron_cpu_double.undoubled(__name__)
