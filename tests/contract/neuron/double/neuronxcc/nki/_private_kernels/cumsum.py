"""A CPU double; see neuron_cpu_double."""

import neuron_cpu_double


def cumsum(tensor, output, axis):
    output.copy_(tensor.cumsum(axis))


__getattr__ = neuron_cpu_double.undoubled(__name__)
