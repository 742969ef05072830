"""A CPU double; see neuron_cpu_double."""

import neuron_cpu_double


def get_platform_target():
    return "trn1"


__getattr__ = neuron_cpu_double.undoubled(__name__)
