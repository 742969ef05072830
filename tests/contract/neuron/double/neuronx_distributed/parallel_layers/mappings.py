"""A CPU double; see neuron_cpu_double. With one rank there is nothing to gather or to reduce."""

import neuron_cpu_double


def _gather_along_dim(tensor, partition_dim, process_group=None):
    return tensor


def reduce_from_tensor_model_parallel_region(tensor, process_group=None):
    return tensor


def gather_from_sequence_parallel_region(tensor, *_, **__):
    return tensor


__getattr__ = neuron_cpu_double.undoubled(__name__)
