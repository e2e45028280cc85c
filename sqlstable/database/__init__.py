"""SQLite over a memory: the virtual file system, layouts, settings and presets."""
