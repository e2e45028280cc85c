"""Bytes that survive: stable memory, its backings and messages, and the memory manager."""
