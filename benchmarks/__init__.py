"""Benchmarks: how much the virtual file system costs, and what real data looks like through it."""
