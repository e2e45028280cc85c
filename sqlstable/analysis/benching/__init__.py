"""Benchmarks of a canister's module: what was measured, and what changed since it was kept."""
