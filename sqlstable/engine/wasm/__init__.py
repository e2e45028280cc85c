"""SQLite compiled to WebAssembly: the measured engine."""
