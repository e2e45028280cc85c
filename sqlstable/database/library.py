"""The SQLite that runs everything here, and how it wants names."""


def sqlite_version() -> str:
    """Return its version."""
    import apsw  # noqa: PLC0415  who only asks for help does without

    return apsw.sqlite_lib_version()


def quoted(name: str) -> str:
    """Return a name as SQL has it, whatever it consists of.

    Examples:
        >>> quoted("order")
        '"order"'
    """
    return '"' + name.replace('"', '""') + '"'
