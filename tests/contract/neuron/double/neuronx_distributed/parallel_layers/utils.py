"""A CPU double; see neuron_cpu_double."""

import neuron_cpu_double


def divide(numerator, denominator):
    if numerator % denominator:
        raise ValueError(f"{numerator} is not divisible by {denominator}")
    return numerator // denominator


def get_padding_length(length, parts):
    return -length % parts


__getattr__ = neuron_cpu_double.undoubled(__name__)
