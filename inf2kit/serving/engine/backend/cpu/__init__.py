"""The CPU backend runs transformers' own Llama, for rehearsals and tests on machines without a Neuron device.

It is a real model behind the same interface and static limits as the Neuron backend. What it proves holds for
the engine around the model; it proves nothing about a device.

Two modules only make its steps faster, and keep the model transformers' own: ``packing`` exchanges the linear
layers for oneDNN's packed ones, and ``recording`` traces the decode step, which removes the Python between
its operators. Without them a rehearsal's figures would measure Python rather than the engine. A device needs
neither. Each falls back to the plain model where torch does not support it. ``row_cache`` holds the key-value
cache, whose rows stand at different positions, and the attention over it. ``threads`` computes with one
thread while other processes take the cores.
"""
