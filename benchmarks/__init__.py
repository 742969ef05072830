"""Benchmarks. Figures are never asserted; ratios compare things measured side by side in one run."""
