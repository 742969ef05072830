"""A CPU double; see neuron_cpu_double."""

import neuron_cpu_double

from neuronx_distributed.parallel_layers.utils import get_padding_length


def get_number_of_extra_heads(n_head, tp_degree):
    return get_padding_length(n_head, tp_degree)


__getattr__ = neuron_cpu_double.undoubled(__name__)
