"""The SQLite that runs everything here."""


def sqlite_version() -> str:
    """Return its version."""
    import apsw  # noqa: PLC0415  who only asks for help does without

    return apsw.sqlite_lib_version()
