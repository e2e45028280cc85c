"""A database for the rules that always hold, in any layout and size of SQLite pages."""

from tests.doors import series

LAYOUTS = ("managed", "raw")

SCHEMA = (
    "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, body TEXT)",
    "CREATE INDEX item_name ON item (name)",
    "CREATE TABLE log (what TEXT)",
    "CREATE TRIGGER item_log AFTER INSERT ON item BEGIN INSERT INTO log VALUES (new.name); END",
    "CREATE VIRTUAL TABLE note USING fts5(body)",
)


FILL = f"INSERT INTO item SELECT i, 'name ' || i, printf('%.*c', 900, 'x') FROM {series(60)}"


def update_and_trap(canister, *statements):
    """Run statements in one update that traps when all of them are done."""
    with canister.message("update") as message:
        for sql in statements:
            message.execute(sql)
        message.trap("all done, and now this")


def bucket_owners(image):
    """Owners of the allocated buckets, read from the image by the documented layout."""
    assert image[:4] == b"MGR\x01"
    return image[2080 : 2080 + int.from_bytes(image[4:6], "little")]


def address_of(image, layout, offset):
    """Where a byte of the database lies, found in the image without sqlstable."""
    if layout == "raw":
        return offset
    bucket_bytes = int.from_bytes(image[6:8], "little") * 65_536
    buckets = [index for index, owner in enumerate(bucket_owners(image)) if owner == 120]
    return 65_536 + buckets[offset // bucket_bytes] * bucket_bytes + offset % bucket_bytes
