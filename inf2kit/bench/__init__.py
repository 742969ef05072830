"""Benchmarks of an endpoint: the published tables again, and load that checks itself."""
