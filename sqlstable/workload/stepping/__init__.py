"""Workloads of a canister's module: a text of steps that reads like a terminal log."""
