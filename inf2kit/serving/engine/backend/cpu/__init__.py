"""The CPU backend: transformers' own Llama. ``packing`` and ``recording`` make its steps fast."""
