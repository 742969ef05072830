"""A CPU double; see neuron_cpu_double."""

import neuron_cpu_double

__version__ = neuron_cpu_double.version("2.8.0")
