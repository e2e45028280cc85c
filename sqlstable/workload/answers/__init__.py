"""What people ask first about cost, measured: small messages, a map beside SQLite, single words."""
