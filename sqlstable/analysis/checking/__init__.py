"""Budgets and baselines: what a run may cost, and what changed since one was kept."""
