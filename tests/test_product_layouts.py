"""Images of froghub's ic-sqlite and of ic-sqlite-vfs 2.x: read, run, written, told apart."""

import contextlib
import random
from contextlib import closing

import apsw
import pytest

from sqlstable import Canister, ImageError, SettingsError, SqlError, StableMemory, StableVFS, Trap
from sqlstable.layout import superblock
from sqlstable.layout.layout import Peek
from sqlstable.layout.layouts import LAYOUTS, layout_named, recognised
from tests import product_images
from tests.test_cli import call, folder  # noqa: F401  a fixture
from tests.test_conservation import check
from tests.test_rules import series

SHOP = (
    "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, note TEXT)",
    "CREATE INDEX by_name ON item (name)",
    f"INSERT INTO item SELECT i, 'item ' || i, hex(zeroblob(i * 5)) FROM {series(300)}",
)
COUNT = "SELECT count(*), sum(id), max(name), sum(length(note)) FROM item"
PRODUCTS = ("froghub", "ic-sqlite-vfs")


def shop(page_size):
    return product_images.database(*SHOP, page_size=page_size)


def built(layout, data):
    return {"froghub": product_images.froghub, "ic-sqlite-vfs": product_images.ic_sqlite_vfs}[
        layout
    ](data)


def product_file(layout, image):
    """The file that the product would give to SQLite."""
    if layout == "froghub":
        return product_images.froghub_database(image)
    return product_images.ic_sqlite_vfs_database(image)[0]


def page_sizes(layout):
    return (512, 4096, 65_536) if layout == "froghub" else (16_384,)


CASES = [(layout, page_size) for layout in PRODUCTS for page_size in page_sizes(layout)]


def opened(image, **options):
    return Canister(memory=StableMemory.from_image(image), **options)


# -- golden bytes ---------------------------------------------------------------------------------


def test_a_new_superblock_has_the_bytes_that_are_documented():
    expected = (
        b"ICSQLITE" + b"\x08\0\0\0" + b"\0\x40\0\0" + bytes(96) + b"\0\0\x01\0\0\0\0\0" + bytes(16)
    )
    expected += b"\x08" + bytes(7) + bytes(8)
    new = superblock.Superblock().encode()
    assert new[:152] == expected
    assert new == product_images.superblock()
    assert len(new) == 160


def test_a_new_image_is_as_the_products_make_it():
    with Canister(layout="froghub") as canister:
        canister.update("CREATE TABLE t (x)")
        image = canister.image()
        assert image[:24] == (8192).to_bytes(8, "big") + b"SQLite format 3\0"
        assert len(image) == 65_536
    with Canister(layout="ic-sqlite-vfs") as canister:
        assert product_images.virtual_memory(canister.image(), 120)[:160] == (
            product_images.superblock()
        )
        canister.update("CREATE TABLE t (x)")
        memory = product_images.virtual_memory(canister.image(), 120)
        assert len(memory) == 2 * 65_536
        assert memory[:160] == product_images.superblock(db_size=32_768, last_tx_id=1, flags=2)
        assert memory[65_536:][:16] == b"SQLite format 3\0"


@pytest.mark.parametrize("seed", range(40))
def test_superblocks_are_read_and_written_as_the_builder_does(seed):
    rng = random.Random(seed)
    masks, at = [], rng.randrange(3)
    for _ in range(rng.choice((0, 1, 5, 1024))):
        masks.append((at, at + rng.randrange(1, 9)))
        at = masks[-1][1] + rng.randrange(1, 9)
    skipped = ("version", "page", "db_", "layout", "zero", "meta", "sqlite")
    names = [name for name, _, _ in product_images.SUPERBLOCK_FIELDS]
    fields = {name: rng.randrange(1 << 64) for name in names if not name.startswith(skipped)}
    data = product_images.superblock(
        masks=masks, db_size=rng.randrange(1 << 40), db_base_offset=65_536 * 5, **fields
    )
    block = superblock.decode(data + b"junk", memory_bytes=1 << 50)
    assert block.encode() == data
    assert block.masks == tuple(masks)


@pytest.mark.parametrize("seed", range(200))
def test_masks_after_commits_are_those_of_a_plain_set(seed):
    rng = random.Random(seed)
    block, masked, size = superblock.Superblock(), set(), 0
    for _ in range(12):
        new = rng.randrange(30)
        written = {rng.randrange(30) for _ in range(rng.randrange(12))}
        block = block.committed(new * 16_384 - rng.randrange(2) * (new > 0), written)
        masked |= set(range(min(size, new), max(size, new)))
        masked -= {page for page in written if page < new}
        size = new
        assert {page for mask in block.masks for page in range(*mask)} == masked
        assert superblock.decode(block.encode(), memory_bytes=1 << 40) == block


# -- reading --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("layout", "page_size"), CASES)
def test_sqlite_reads_what_is_extracted_from_an_image_of_the_product(layout, page_size, tmp_path):
    data = shop(page_size)
    with opened(built(layout, data), layout=layout) as canister:
        assert canister.query(COUNT).rows == product_images.rows_of(data, COUNT)
        canister.extract_database(tmp_path / "app.db")
    assert (tmp_path / "app.db").read_bytes() == data


@pytest.mark.parametrize("layout", PRODUCTS)
def test_the_command_line_finds_the_layout_out(folder, layout):  # noqa: F811
    data = shop(page_sizes(layout)[-1])
    (folder / "stable_memory.bin").write_bytes(built(layout, data))
    assert call("extract", "stable_memory.bin", "out.db").exit_code == 0
    assert (folder / "out.db").read_bytes() == data
    assert (folder / "stable_memory.bin").read_bytes() == built(layout, data)


@pytest.mark.parametrize("layout", PRODUCTS)
def test_an_image_is_made_run_and_extracted_on_the_command_line(folder, layout):  # noqa: F811
    (folder / "shop.db").write_bytes(shop(4096))
    (folder / "more.sql").write_text("INSERT INTO item (name) VALUES ('new'); " + COUNT)
    assert call("import", "shop.db", "a.stable", "--layout", layout).exit_code == 0
    file = product_file(layout, (folder / "a.stable").read_bytes())
    assert product_images.rows_of(file, COUNT)[0][0] == 300
    result = call("run", "more.sql", "--image", "a.stable", "--layout", layout)
    assert result.exit_code == 0, result.output
    file = product_file(layout, (folder / "a.stable").read_bytes())
    assert product_images.rows_of(file, COUNT)[0][0] == 301
    assert call("extract", "a.stable", "b.db").exit_code == 0
    # An old image of a product is one, and may be replaced.
    assert call("import", "b.db", "a.stable", "--layout", layout, "--force").exit_code == 0


def test_a_database_lies_in_any_virtual_memory_at_any_base_and_in_buckets_apart(tmp_path):
    data = shop(16_384)
    needed = -(-(3 * 65_536 + len(data)) // 65_536)
    order = [owner for _ in range(needed) for owner in (7, 9)]
    others = {9: bytes(range(256)) * 256 * needed}
    image = product_images.ic_sqlite_vfs(
        data, memory_id=7, base=3 * 65_536, others=others, order=order
    )
    with opened(image, layout="ic-sqlite-vfs") as canister:
        assert canister.query(COUNT).rows == product_images.rows_of(data, COUNT)
        canister.update("DELETE FROM item WHERE id % 3 = 0")
        canister.update("INSERT INTO item (note) VALUES (zeroblob(300000))")
        changed = canister.image()
        rows = canister.query(COUNT).rows
    assert product_images.virtual_memory(changed, 9) == others[9]
    file, fields = product_images.ic_sqlite_vfs_database(changed, 7)
    assert product_images.rows_of(file, COUNT) == rows
    assert (fields["db_base_offset"], fields["last_tx_id"]) == (3 * 65_536, 2)


def test_masked_sqlite_pages_are_zeros_in_what_is_extracted(tmp_path):
    data = bytearray(product_images.database(*SHOP, "DELETE FROM item", page_size=16_384))
    # The last leaf of the freelist's first trunk: SQLite never asks for its content.
    trunk = int.from_bytes(data[32:36], "big")
    start = (trunk - 1) * 16_384
    count = int.from_bytes(data[start + 4 : start + 8], "big")
    leaf = int.from_bytes(data[start + 4 + 4 * count : start + 8 + 4 * count], "big")
    data[(leaf - 1) * 16_384 : leaf * 16_384] = b"old." * 4096
    image = product_images.ic_sqlite_vfs(bytes(data), masks=[(leaf - 1, leaf)])
    with opened(image, layout="ic-sqlite-vfs") as canister:
        canister.extract_database(tmp_path / "app.db")
        expected, _ = product_images.ic_sqlite_vfs_database(image)
        assert (tmp_path / "app.db").read_bytes() == expected != bytes(data)
        canister.update("INSERT INTO item (note) VALUES (zeroblob(900000))")
        canister.update("DELETE FROM item")
        canister.update("VACUUM")
        canister.update("INSERT INTO item (note) VALUES (zeroblob(50000))")
        rows, changed = canister.query(COUNT).rows, canister.image()
    file, _ = product_images.ic_sqlite_vfs_database(changed)
    assert product_images.rows_of(file, COUNT) == rows


# -- running: the rules ---------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("layout", PRODUCTS)
def test_after_each_message_the_product_reads_what_the_canister_has(layout, seed, tmp_path):
    """Growth, deletion, VACUUM, rollback, traps, upgrades, reopening, small caches."""
    rng = random.Random(seed)
    page_size = None if layout != "froghub" else rng.choice((512, 4096, 16_384))
    canister = Canister(
        tmp_path / "a.stable",
        layout=layout,
        page_size=page_size,
        cache_size=rng.choice((5, 200)),
        journal_mode="memory",
        **({"bucket_pages": 1} if layout != "froghub" else {}),
    )
    canister.update("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, note TEXT)")
    for _ in range(12):
        change(canister, rng)
        rows, image = canister.query(COUNT).rows, canister.image()
        assert product_images.rows_of(product_file(layout, image), COUNT) == rows
        with opened(image, layout=layout) as other:
            assert other.query(COUNT).rows == rows
    canister.close()
    with Canister(tmp_path / "a.stable", layout=layout) as canister:
        assert canister.query(COUNT).rows == rows


def change(canister, rng):
    low = rng.randrange(300)
    kind = rng.randrange(7)
    if kind == 0:
        canister.update("DELETE FROM item WHERE id % 7 < ?", (rng.randrange(8),))
    elif kind == 1:
        canister.update("VACUUM")
    elif kind == 2:
        canister.upgrade()
    elif kind == 3:
        with canister.message("update") as message:
            message.execute("BEGIN")
            message.execute("INSERT INTO item (note) VALUES (zeroblob(200000))")
            message.execute("ROLLBACK")
            message.execute("INSERT INTO item (name) VALUES ('after')")
    elif kind == 4:
        before = canister.image()
        with pytest.raises(SqlError):
            canister.update("INSERT INTO item (note) VALUES (zeroblob(200000)); SELECT nothing")
        assert canister.image() == before
    else:
        canister.update(
            "WITH RECURSIVE n(i) AS (SELECT ? UNION ALL SELECT i + 1 FROM n LIMIT 90) "
            "INSERT OR REPLACE INTO item SELECT i, 'name ' || i, hex(zeroblob(i * 9)) FROM n",
            (low,),
        )


def address_of(image, layout, offset):
    """Where a byte of the database lies, by the documented layout."""
    if layout == "froghub":
        return 8 + offset
    bucket_bytes = int.from_bytes(image[6:8], "little") * 65_536
    owners = image[2080 : 2080 + int.from_bytes(image[4:6], "little")]
    buckets = [index for index, owner in enumerate(owners) if owner == 120]
    bucket, rest = divmod(65_536 + offset, bucket_bytes)
    return 65_536 + buckets[bucket] * bucket_bytes + rest


def os_pages(address, length):
    return set(range(address // 4096, (address + length - 1) // 4096 + 1))


@pytest.mark.parametrize("layout", PRODUCTS)
def test_a_layout_locates_each_byte_by_the_documented_rules(layout):
    image = built(layout, shop(page_sizes(layout)[-1]))
    peek = Peek(lambda at, length: image[at : at + length], len(image) // 65_536)
    place = layout_named(layout).locate(peek)
    for offset in (0, 1, 4095, 65_535, 65_536, 200_000):
        assert place.address(offset) == address_of(image, layout, offset)
        assert place.offset(place.address(offset)) == offset
    assert place.offset(0) == -1


@pytest.mark.parametrize(("layout", "page_size"), CASES)
def test_a_cold_scan_accesses_what_dbstat_lists(layout, page_size, tmp_path):
    image = built(layout, shop(page_size))
    with opened(image, layout=layout) as canister:
        canister.extract_database(tmp_path / "plain.db")
        with closing(apsw.Connection(str(tmp_path / "plain.db"))) as plain:
            spans = plain.execute(
                "SELECT pgoffset, pgsize FROM dbstat WHERE name = 'item'"
            ).fetchall()
        expected = os_pages(address_of(image, layout, 0), page_size)
        for offset, length in spans:
            expected |= os_pages(address_of(image, layout, offset), length)
        reply = canister.query("SELECT * FROM item")
        assert reply.footprint.accessed.tolist() == sorted(expected)
        assert reply.footprint.calls.read == len(spans) + 1
        used = {limit.name: limit.used for limit in reply.limits}
        assert used["stable_os_pages_accessed"] == len(expected)


def test_a_sqlite_page_behind_a_length_lies_on_two_os_pages():
    with opened(product_images.froghub(shop(4096)), layout="froghub") as canister:
        reply = canister.update("UPDATE item SET name = 'new' WHERE id = 1")
        written = reply.footprint.bytes_written // 4096
        assert reply.footprint.os_pages_dirty > written
        assert "slow" in canister.vfs.store._paths.write.__qualname__


@pytest.mark.parametrize("layout", PRODUCTS)
def test_every_stable_byte_moved_is_accounted_for_and_has_an_owner(layout):
    with Canister(layout=layout, trace=":memory:", owners=True) as canister:
        canister.update(SHOP[0])
        canister.update(SHOP[2])
        canister.update("INSERT INTO item (note) VALUES (zeroblob(99999))")
        canister.upgrade()
        canister.query("SELECT * FROM item")
        trace = canister.trace()
        kinds = {use.kind for each in trace.statements for use in each.owners}
        assert kinds <= {"table", "index", "header", "length record", "superblock",
                         "memory manager"}  # fmt: skip
        front = "length record" if layout == "froghub" else "superblock"
        assert front in kinds
        check(trace)


@pytest.mark.parametrize("layout", PRODUCTS)
def test_what_stable_memory_consists_of_adds_up(layout):
    with opened(built(layout, shop(page_sizes(layout)[-1])), layout=layout) as canister:
        growth = canister.status().growth
        assert sum(part.size_bytes for part in growth.parts) == growth.stable_bytes
        assert growth.unclaimed_bytes == 0


# -- damaged, foreign, and mixed up ---------------------------------------------------------------


@pytest.mark.parametrize("layout", PRODUCTS)
@pytest.mark.parametrize("seed", range(60))
def test_damaged_images_give_an_error_or_work_and_nothing_is_changed(layout, seed):
    rng = random.Random(seed)
    image = bytearray(built(layout, shop(page_sizes(layout)[0])))
    if rng.randrange(3):
        starts = {"froghub": (0, 8), "ic-sqlite-vfs": (0, 2080, 65_536, 131_072)}[layout]
        for _ in range(rng.randrange(1, 5)):
            at = rng.choice(starts) + rng.randrange(200)
            image[at] ^= 1 << rng.randrange(8)
    else:
        del image[rng.randrange(1, len(image) // 65_536 + 1) * 65_536 :]
    memory = StableMemory.from_image(bytes(image))
    try:
        vfs = StableVFS(memory, layout=layout)
        try:
            connection = vfs.observe()
            connection.execute("PRAGMA integrity_check").fetchall()
            connection.close()
        finally:
            vfs.unregister()
    except (ImageError, apsw.Error):
        pass
    assert memory.image() == bytes(image)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"version": 6}, "version 6"),
        ({"layout_version": 7}, "version 7"),
        ({"meta_checksum": 5}, "its checksum is 0x0000000000000005"),
        ({"zero_extent_count": 1025}, "1025 masked ranges"),
        ({"sqlite_page_size": 4096}, "SQLite pages of 4096 bytes"),
        ({"masks": [(3, 3)]}, "not in order"),
        ({"masks": [(3, 5), (5, 6)]}, "not in order"),
    ],
)
def test_other_superblocks_are_refused_by_what_is_wrong_with_them(fields, text):
    image = product_images.ic_sqlite_vfs(shop(16_384), **fields)
    with pytest.raises(ImageError, match=text):
        opened(image, layout="ic-sqlite-vfs")


def test_a_database_that_is_cut_off_is_refused():
    image = product_images.froghub(shop(4096), length=1 << 30)
    with pytest.raises(ImageError, match=r"1073741824 bytes.*truncated"):
        opened(image, layout="froghub")
    memory = product_images.ic_sqlite_vfs_memory(shop(16_384))[: 3 * 65_536]
    with pytest.raises(ImageError, match="truncated"):
        opened(product_images.managed({120: memory}), layout="ic-sqlite-vfs")


def test_nothing_is_written_while_an_import_is_under_way():
    image = product_images.ic_sqlite_vfs(shop(16_384), flags=1, import_total_size=5)
    with opened(image, layout="ic-sqlite-vfs") as canister:
        assert canister.query(COUNT).rows[0][0] == 300
        with pytest.raises(Trap, match="an import into this database"):
            canister.update("DELETE FROM item")
        assert canister.image() == image


@pytest.mark.parametrize("layout", [layout.name for layout in LAYOUTS])
@pytest.mark.parametrize("image_layout", [layout.name for layout in LAYOUTS])
def test_an_image_of_another_layout_is_refused_and_the_layout_is_named(layout, image_layout):
    with Canister(layout=image_layout) as canister:
        canister.update("CREATE TABLE t (x)")
        image = canister.image()
    found = recognised(Peek(lambda at, length: image[at : at + length], len(image) // 65_536))
    assert found is not None
    assert found.name == image_layout
    memory = StableMemory.from_image(image)
    if layout == image_layout:
        Canister(memory=memory, layout=layout).close()
        return
    with pytest.raises(ImageError):
        Canister(memory=memory, layout=layout)
    assert memory.image() == image


@pytest.mark.parametrize("memory_id", [7, 120])
def test_opened_as_managed_an_image_of_ic_sqlite_vfs_names_its_layout(memory_id):
    image = product_images.ic_sqlite_vfs(shop(16_384), memory_id=memory_id)
    with pytest.raises(ImageError, match="open the image with layout ic-sqlite-vfs"):
        opened(image)


def test_a_layout_comes_with_the_settings_of_its_product():
    with Canister(layout="ic-sqlite-vfs") as canister:
        assert (canister.settings.page_size, canister.settings.growth) == (16_384, "wasm-page")
    with pytest.raises(SettingsError, match="layout froghub has room for the database only"):
        Canister(layout="froghub", journal_mode="persist")
    canister = Canister(layout="ic-sqlite-vfs")
    with pytest.raises(SqlError, match="second one"):
        canister.update("ATTACH 'other.db' AS other; CREATE TABLE other.t (x)")
    canister.close()


def test_the_wasm_engine_names_the_way_out_and_leaves_the_image_alone(tmp_path):
    image = product_images.ic_sqlite_vfs(shop(16_384))
    (tmp_path / "old.stable").write_bytes(image)
    with pytest.raises(SettingsError, match="native engine, or layout managed or raw or froghub"):
        Canister(tmp_path / "old.stable", engine="wasm", layout="ic-sqlite-vfs")
    assert (tmp_path / "old.stable").read_bytes() == image


@pytest.mark.slow
@pytest.mark.parametrize("page_size", [512, 4096, 65_536])
def test_both_engines_agree_behind_a_length(page_size):
    """In fresh and cold messages: rows, OS pages, calls, the image; after traps, too."""
    image = product_images.froghub(shop(page_size))
    sides = [opened(image, engine=engine, layout="froghub") for engine in ("native", "wasm")]
    for sql in (
        "UPDATE item SET name = 'new' WHERE id < 9",
        "INSERT INTO item (note) VALUES (zeroblob(900000))",
        "DELETE FROM item WHERE id % 2",
        "VACUUM",
        "BEGIN; INSERT INTO item (note) VALUES (zeroblob(300000)); ROLLBACK",
        "INSERT INTO item (name) VALUES ('last')",
    ):
        for side in sides:
            with contextlib.suppress(Trap), side.message("update") as message:
                message.execute(sql.replace("BEGIN; ", "").replace("; ROLLBACK", ""))
                if "ROLLBACK" in sql:
                    message.trap()
        assert sides[0].image() == sides[1].image(), sql
        for side in sides:
            side.upgrade()
        for cache in ("fresh", "cold"):
            replies = [side.query("SELECT * FROM item", cache=cache) for side in sides]
            assert replies[0].rows == replies[1].rows
            uses = [reply.footprint for reply in replies]
            assert uses[0].accessed.tolist() == uses[1].accessed.tolist()
            assert uses[0].calls == uses[1].calls
        file = product_images.froghub_database(sides[1].image())
        assert product_images.rows_of(file, COUNT) == sides[1].query(COUNT).rows
    for side in sides:
        side.close()


@pytest.mark.slow
def test_the_wasm_engine_makes_and_fills_an_image_behind_a_length():
    with Canister(engine="wasm", layout="froghub") as one, Canister(layout="froghub") as other:
        for side in (one, other):
            side.update(SHOP[0])
            side.update("INSERT INTO item (note) VALUES (zeroblob(65520))")
        assert one.image() == other.image()
        file = product_images.froghub_database(one.image())
        assert product_images.rows_of(file, COUNT) == one.query(COUNT).rows
