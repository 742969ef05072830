"""A CPU double; see neuron_cpu_double."""

import neuron_cpu_double


def attention_isa_kernel(*_, **__):
    raise NotImplementedError("the CPU double has no flash attention: use a max_context_length under 4,096")


__getattr__ = neuron_cpu_double.undoubled(__name__)
