"""What a trace costs: under any price list, in cycles, and in money."""
