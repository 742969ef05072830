"""Compiling a model for Neuron: what (spec), how (export), where (here, or a job of SageMaker)."""
