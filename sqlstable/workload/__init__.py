"""SQL scripts cut into messages, ready workloads, and running them."""
