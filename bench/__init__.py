"""The benchmarks: each prints one ratio against a reference that ran at the same time."""
