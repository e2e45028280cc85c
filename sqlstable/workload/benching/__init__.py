"""Benchmarks that a canister's module exports, run as ``canbench`` runs them."""
