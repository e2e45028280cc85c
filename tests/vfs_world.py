"""Databases through a door."""

from tests.doors import SCHEMA, is_sound, memory_with_buckets_apart, opened_fixture, rows, series  # noqa: F401  a fixture

LAYOUTS = ("managed", "raw")
JOURNALS = ("delete", "truncate", "persist", "memory", "off")

FILL = f"INSERT INTO t SELECT i, printf('%.*c', 500, 'x') FROM {series(100)}"


def committed(memory):
    return bytes(memory.backing.read(0, memory.store.committed_wasm_pages * 65_536))
