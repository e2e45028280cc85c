"""SQLite compiled to WebAssembly, in a canister whose instructions are counted."""
