"""A CPU double; see neuron_cpu_double. Its version is that of the compiler which the installed optimum-neuron
asks for."""

from importlib import metadata

import neuron_cpu_double

_FOR = {"0.4.1": "2.21.18209.0", "0.4.5": "2.21.33363.0"}
__version__ = neuron_cpu_double.version(_FOR[metadata.version("optimum-neuron")])
