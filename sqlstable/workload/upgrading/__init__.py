"""Ways of keeping data over an upgrade, each measured on the same workload."""
