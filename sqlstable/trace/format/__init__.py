"""The trace file: its tables and blocks, written and read."""
