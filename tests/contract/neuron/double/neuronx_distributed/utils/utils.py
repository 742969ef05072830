"""A CPU double; see neuron_cpu_double."""

import enum

import neuron_cpu_double


class hardware(enum.Enum):
    TRN1 = "trn1"
    TRN2 = "trn2"


__getattr__ = neuron_cpu_double.undoubled(__name__)
