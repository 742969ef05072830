"""A CPU double; see neuron_cpu_double."""

import neuron_cpu_double
from neuron_cpu_double import device as device

from neuronx_distributed import parallel_layers as parallel_layers

__version__ = neuron_cpu_double.version("0.15.22404")
neuron_cpu_double.pretend_device()

__getattr__ = neuron_cpu_double.undoubled(__name__)
