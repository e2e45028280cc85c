"""What SQLite says: its file format, read from bytes, and the rows of its plans; no library."""
