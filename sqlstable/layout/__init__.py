"""Where a database's bytes lie in stable memory, file by file."""
