"""A CPU double; see neuron_cpu_double."""

import neuron_cpu_double

nc = None

__getattr__ = neuron_cpu_double.undoubled(__name__)
