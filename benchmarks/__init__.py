"""Benchmarks to be run from the repository: ratios, all measured in one run on the same machine and images."""
