"""Compile a model for Neuron: the spec, the export, and where it runs (this machine or a SageMaker job)."""
