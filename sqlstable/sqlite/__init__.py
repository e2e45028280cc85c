"""What SQLite's file format says: the header, B-trees, the rows that name them; no library."""
