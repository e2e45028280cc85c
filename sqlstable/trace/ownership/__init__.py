"""Who owns each SQLite page of a database, carried along from message to message."""
