"""Snapshots of a stable memory: kept, and as the folders that dfx and icp-cli write."""
