"""Runs of one script by the hundred: what is to be run, where, and what is kept of it."""
