"""The published tables again, against any endpoint: encoding time, end-to-end latency, throughput."""
