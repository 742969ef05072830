"""``inf2kit verify-device``: answers to the questions that only a Neuron device can answer."""
