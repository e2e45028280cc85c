"""SQLite as a canister's module: its C sources, how it is built, and the built modules."""
