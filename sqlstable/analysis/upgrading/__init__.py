"""What keeping data over upgrades costs: laws, first failures, and when which way is cheaper."""
