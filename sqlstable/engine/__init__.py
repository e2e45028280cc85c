"""What executes SQL on a stable memory."""
