"""A CPU double; see neuron_cpu_double."""

import neuron_cpu_double

NXD_LAYOUT_TRANSFORMATION_OPTIONS = "NXD_LAYOUT_TRANSFORMATION_OPTIONS"

__getattr__ = neuron_cpu_double.undoubled(__name__)
