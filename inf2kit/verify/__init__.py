"""``inf2kit verify-device``: what can only be known on a Neuron device, asked of one."""
