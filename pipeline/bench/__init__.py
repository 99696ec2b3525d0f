"""Benchmarks that users run: ratios, all measured in one run on the same machine and images."""
