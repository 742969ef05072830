"""Capacity and cost of a preset: what a demand needs, what breaks first, and how wrong the answer may be."""
