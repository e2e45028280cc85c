"""What a workload leaves for the checkpoints of its subnet, and for certification there."""
