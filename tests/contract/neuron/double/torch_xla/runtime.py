"""A CPU double; see neuron_cpu_double."""
