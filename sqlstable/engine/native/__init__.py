"""SQLite in this process, over APSW."""
