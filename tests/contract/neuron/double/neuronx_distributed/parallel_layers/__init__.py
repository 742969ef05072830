"""A CPU double; see neuron_cpu_double."""

import neuron_cpu_double

from neuronx_distributed.parallel_layers import parallel_state as parallel_state
from neuronx_distributed.parallel_layers import utils as utils

__getattr__ = neuron_cpu_double.undoubled(__name__)
