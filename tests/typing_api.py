"""Uses of the public API that must type-check; never run."""

from pathlib import Path

import apsw

import sqlstable


def use_canister() -> list[tuple[object, ...]]:
    with sqlstable.Canister(layout="raw", page_size=8192, limits=None, trace=Path("x")) as canister:
        reply: sqlstable.Reply = canister.update("SELECT ?", (1,), label="one")
        pages: int = reply.footprint.os_pages_accessed
        first: int = int(reply.footprint.accessed[0]) + pages
        with canister.message("query", cache="fresh") as message:
            rows = message.execute("SELECT :a", {"a": first})
            message.executemany("SELECT ?", [(1,), (2,)])
            for row in message.cursor("SELECT 1"):
                rows.append(row)
        canister.upgrade()
        taken: sqlstable.Snapshot = canister.take_snapshot(replace=None)
        canister.download_snapshot(taken, Path("out"), resume=True)
        uploaded = canister.upload_snapshot("out", replace=taken.id)
        loaded: sqlstable.Reply = canister.load_snapshot(uploaded, stable_only=True)
        canister.delete_snapshot(canister.snapshots[0])
        assert loaded.outcome
        canister.import_database("app.db")
        size: int = canister.extract_database(Path("out.db"), overwrite=True)
        assert size
    return rows


def use_lower_doors() -> None:
    memory = sqlstable.StableMemory(limits="2024-01-09")
    with memory.message("update"):
        memory.write(0, b"x")
    manager = sqlstable.MemoryManager(memory, bucket_wasm_pages=1)
    manager.get(7).grow(1)
    vfs = sqlstable.StableVFS(memory, layout="raw")
    connection = apsw.Connection("main.db", vfs=vfs.name)
    with sqlstable.record(connection) as trace:
        connection.execute("SELECT 1")
    statement = trace.statements[0]
    assert statement.phases["run"].calls.read >= 0
    with sqlstable.open_trace("run.trace") as stored:
        assert len(stored.accesses(0)) >= 0
    limits: sqlstable.Limits = sqlstable.limits_at("2023-05-11")
    assert limits.update.os_pages_dirty_max


def module() -> int:
    with sqlstable.CanisterModule(
        Path("app.wasm"), ("ana", 5), canisters={"ledger": (b"", "(1)")}, limits=None
    ) as app:
        reply: sqlstable.ModuleReply = app.update("add", '("ana")', caller="ana", label="first")
        app.canister("ledger").query("balance", {"owner": "ana"})
        app.upgrade("app.wasm").footprint.dirty.tolist()
        app.advance(60)
        return reply.instructions
