"""What to do about a workload: sentences that cite the numbers they come from."""
