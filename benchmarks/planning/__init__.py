"""``python -m benchmarks.planning``: ``inf2kit plan`` against measurements, and docs/planning.md."""
