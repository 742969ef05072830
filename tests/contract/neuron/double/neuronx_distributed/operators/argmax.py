"""A CPU double; see neuron_cpu_double."""

import neuron_cpu_double
import torch


def argmax(tensor, dim, gather_dim, keepdim=False, process_group=None):
    return torch.argmax(tensor, dim=dim, keepdim=keepdim)


__getattr__ = neuron_cpu_double.undoubled(__name__)
