"""Every limit of the Internet Computer that bears on storage, as data: value, date, source.

Nothing is computed here beyond what an expression such as ``500 * GIB`` shows.

**Sources.** ``dfinity/ic`` was read in the fork ``luc-blaeser/ic``, which follows it under the same
paths, at commit 1bc0a5953 of 2025-10-31, with its history back to 2021-05-10. A commit behind an
``@`` is the one that set the value. Later changes come from release notes (``dfinity/dre``,
816e0bd0 of 2026-08-21), pull requests, and the documentation (``dfinity/developer-docs``,
b58cf042 of 2026-08-18).

**Dates** are those of commits. A limit of which only one value is known carries no date, unless the
sources say when it began: it may have had others before 2025-10-31.
"""

from collections.abc import Mapping
from datetime import date
from types import MappingProxyType
from typing import Final

from sqlstable.ic.dated_value import DatedValue, Limit
from sqlstable.ic.units import GIB, MIB, NO_LIMIT, OS_PAGE_BYTES, TIB, WASM_PAGE_BYTES

_K: Final = 1_000
_M: Final = 1_000_000
_B: Final = 1_000_000_000

_READ: Final = "1bc0a5953"  # the newest commit of dfinity/ic that was read, 2025-10-31
_DOCS: Final = "dfinity/developer-docs docs/references/resource-limits.md @ b58cf042"
_DERIVED: Final = "derived from "

_MONTH_ONLY: Final = "Of the date only the month is known."
_YEAR_ONLY: Final = "Dated 2021 without a day."


def _ic(path: str, name: str, commit: str = _READ) -> str:
    return f"dfinity/ic rs/{path} {name} @ {commit}"


def _subnet(name: str) -> str:
    return _ic("config/src/subnet_config.rs", name)


def _execution(name: str) -> str:
    return _ic("config/src/execution_environment.rs", name)


def _embedders(name: str) -> str:
    return _ic("config/src/embedders.rs", name)


def _stable(commit: str) -> str:
    return _ic("types/types/src/lib.rs", "MAX_STABLE_MEMORY_IN_BYTES", commit)


def _only(value: int, source: str, note: str = "") -> tuple[DatedValue]:
    return (DatedValue(None, value, source, note=note),)


def _from(since: date, value: int, source: str, note: str = "") -> tuple[DatedValue]:
    return (DatedValue(since, value, source, note=note),)


_TOTAL: Final = _execution("max_canister_memory_size")
_TOTAL_DATE: Final = "Date inferred: that of the stable memory limit in the sum."
_SNAPSHOTS: Final = _ic(
    "types/management_canister_types/src/lib.rs", "MAX_NUMBER_OF_SNAPSHOTS_PER_CANISTER"
)
_WASM64: Final = _ic("types/types/src/lib.rs", "MAX_WASM64_MEMORY_IN_BYTES")
_CAPACITY: Final = _execution("SUBNET_MEMORY_CAPACITY")
_THRESHOLD: Final = _execution("SUBNET_MEMORY_THRESHOLD")

# The tables below are laid out by hand: one value to a line is what makes a history readable.
# fmt: off

_MEMORY: Final = (
    Limit("stable_memory_bytes", "bytes", "Stable memory of one canister.", (
        DatedValue(None, 4 * GIB, _ic("replicated_state/src/stable_memory.rs",
                                      "MAX_STABLE_MEMORY_IN_PAGES", "024de2fc7")),
        DatedValue(date(2021, 9, 14), 8 * GIB, _stable("d9202bc7f")),
        DatedValue(date(2022, 10, 11), 32 * GIB, _stable("34f676447 (RUN-359)")),
        DatedValue(date(2022, 11, 16), 48 * GIB, _stable("3171f5f72")),
        DatedValue(date(2023, 5, 11), 64 * GIB, _stable("828341d72")),
        DatedValue(date(2023, 9, 6), 96 * GIB, _stable("cb81c33b8")),
        DatedValue(date(2024, 1, 9), 400 * GIB, _stable("3f67f9c77 (RUN-879)")),
        DatedValue(date(2024, 11, 6), 500 * GIB, _stable("41af49d62 (#2465)"),
                   note=f"Still so on 2026-08-18: {_DOCS}."),
    )),
    Limit("heap_wasm32_bytes", "bytes", "Heap of a 32-bit canister.",
          _only(4 * GIB, _ic("types/types/src/lib.rs", "MAX_WASM_MEMORY_IN_BYTES"))),
    Limit("heap_wasm64_bytes", "bytes", "Heap of a 64-bit canister.", (
        DatedValue(date(2025, 1, 21), 4 * GIB, _WASM64),
        DatedValue(date(2025, 2, 10), 6 * GIB, f"{_WASM64} (#3748)",
                   note="18 GiB was proposed on 2026-09-04 as a test (dfinity/ic pull requests "
                        "11445 and 11400, open), the heap accessed per message to stay at 6 GiB."),
    )),
    Limit("heap_default_limit_bytes", "bytes", "``wasm_memory_limit`` of a new canister.",
          _only(3 * GIB, _execution("DEFAULT_WASM_MEMORY_LIMIT"),
                "The interface specification says that the default is 0.")),
    Limit("canister_memory_bytes", "bytes", "Stable memory and heap of one canister together.", (
        DatedValue(None, 4 * GIB + 4 * GIB, _TOTAL),
        DatedValue(date(2021, 9, 14), 8 * GIB + 4 * GIB, _TOTAL),
        DatedValue(date(2022, 10, 11), 32 * GIB + 4 * GIB, _TOTAL, unverified=True,
                   note=_TOTAL_DATE),
        DatedValue(date(2022, 11, 16), 48 * GIB + 4 * GIB, _TOTAL, unverified=True,
                   note=_TOTAL_DATE),
        DatedValue(date(2023, 5, 11), 64 * GIB + 4 * GIB, _TOTAL, unverified=True,
                   note=_TOTAL_DATE),
        DatedValue(date(2023, 9, 6), 96 * GIB + 4 * GIB, _TOTAL, unverified=True,
                   note=_TOTAL_DATE),
        DatedValue(date(2024, 1, 9), 400 * GIB + 4 * GIB, _TOTAL, unverified=True,
                   note=_TOTAL_DATE),
        DatedValue(date(2024, 11, 6), 500 * GIB + 4 * GIB, _TOTAL, unverified=True,
                   note=_TOTAL_DATE),
    )),
    Limit("subnet_memory_bytes", "bytes", "Memory of all canisters of one subnet together.", (
        DatedValue(None, 300 * GIB, _CAPACITY),
        DatedValue(date(2022, 3, 11), 350 * GIB, _CAPACITY),
        DatedValue(date(2022, 11, 4), 450 * GIB, _CAPACITY),
        DatedValue(date(2023, 9, 19), 700 * GIB, _CAPACITY),
        DatedValue(date(2024, 11, 6), 1 * TIB, _CAPACITY),
        DatedValue(date(2025, 7, 30), 2 * TIB, f"{_CAPACITY} (#6086)"),
    )),
    Limit("subnet_reservation_threshold_bytes", "bytes",
          "Subnet usage above which growing reserves cycles.", (
        DatedValue(date(2023, 7, 14), 450 * GIB, _THRESHOLD),
        DatedValue(date(2025, 7, 30), 750 * GIB, _THRESHOLD),
    )),
    Limit("wasm_module_bytes", "bytes", "A Wasm module, total.", _only(100 * MIB, _DOCS)),
    Limit("wasm_code_section_bytes", "bytes", "Code section of a Wasm module.",
          _only(10 * MIB, _DOCS)),
    Limit("wasm_functions", "functions", "Functions of a Wasm module.", _only(50_000, _DOCS)),
    Limit("wasm_globals", "globals", "Globals of a Wasm module.", _only(1_000, _DOCS)),
    Limit("snapshots", "snapshots", "Snapshots of one canister.", (
        DatedValue(date(2024, 8, 2), 1, _SNAPSHOTS),
        DatedValue(date(2025, 3, 3), 10, f"{_SNAPSHOTS} (#4169)"),
    )),
    Limit("snapshot_slice_bytes", "bytes", "One slice of a snapshot that is read or uploaded.",
          _only(2_000_000, _ic("types/management_canister_types/src/lib.rs",
                               "MAX_SLICE_SIZE_BYTES"))),
    Limit("instructions_snapshot", "instructions",
          "Taking or loading a snapshot, beside 1 for each byte of it.",
          _only(2 * _B, _execution("DEFAULT_CANISTERS_SNAPSHOT_BASELINE_INSTRUCTIONS"))),
    Limit("instructions_snapshot_slice", "instructions",
          "Reading or uploading a slice of a snapshot, beside 1 for each byte of it.",
          _only(5 * _M, _execution("DEFAULT_CANISTERS_SNAPSHOT_DATA_BASELINE_INSTRUCTIONS"))),
)

_UPDATE: Final = _subnet("MAX_INSTRUCTIONS_PER_MESSAGE")
_QUERY: Final = _subnet("MAX_INSTRUCTIONS_PER_MESSAGE_WITHOUT_DTS")
_INSTALL: Final = _subnet("MAX_INSTRUCTIONS_PER_INSTALL_CODE")
_SLICE: Final = _subnet("MAX_INSTRUCTIONS_PER_SLICE")
_INSTALL_SLICE: Final = _subnet("MAX_INSTRUCTIONS_PER_INSTALL_CODE_SLICE")
_SYSTEM: Final = _subnet("SchedulerConfig::system_subnet")
_DTS: Final = _ic("canister_sandbox/src/dts.rs", "MAX_NUM_SLICES")


def _overhead(value: int, name: str) -> tuple[DatedValue, ...]:
    return (
        DatedValue(None, value, _subnet(name)),
        DatedValue(date(2026, 8, 20), value, "dfinity/dre release notes of 2026-08-20 (#11146)",
                   unverified=True,
                   note="The round overheads were adjusted; the new value is not known, "
                        "this is the one of 2025-10-31."),
    )


_INSTRUCTIONS: Final = (
    Limit("instructions_update", "instructions",
          "One update call, timer, heartbeat or callback, over all its slices.", (
        DatedValue(None, 5 * _B, _UPDATE, note=_YEAR_ONLY),
        DatedValue(date(2022, 10, 19), 10 * _B, _UPDATE),
        DatedValue(date(2022, 12, 1), 20 * _B, _UPDATE,
                   note="The documentation of 2023 gives 5 billion for heartbeats and timers."),
        DatedValue(date(2024, 3, 18), 40 * _B, _UPDATE),
    )),
    Limit("instructions_query", "instructions",
          "One query, replicated or not; queries are not sliced.", (
        DatedValue(None, 5 * _B, _QUERY),
        DatedValue(date(2026, 8, 1), 5 * _B,
                   "dfinity/dre release notes fffab354 (#10882) and 79c01052 (#11111)",
                   unverified=True,
                   note="Configurable per subnet in the registry from 2026-08 on; what subnets set "
                        f"is not known, this is the earlier value. {_MONTH_ONLY}"),
    )),
    Limit("instructions_install", "instructions",
          "A whole install, reinstall or upgrade: compilation and all its hooks together.", (
        DatedValue(None, 200 * _B, _INSTALL, note=_YEAR_ONLY),
        DatedValue(date(2024, 9, 27), 300 * _B, f"{_INSTALL} (#1705)"),
    )),
    Limit("instructions_inspect_message", "instructions", "One inspect_message; it is not sliced.",
          _only(200 * _M, _execution("MAX_INSTRUCTIONS_FOR_MESSAGE_ACCEPTANCE_CALLS"))),
    Limit("instructions_round", "instructions", "One round, on each execution thread.",
          _from(date(2021, 8, 5), 7 * _B, _subnet("MAX_INSTRUCTIONS_PER_ROUND"))),
    Limit("execution_threads", "threads", "Threads that execute update messages on one node.",
          _only(4, _subnet("NUMBER_OF_EXECUTION_THREADS"))),
    Limit("execution_threads_canister", "threads", "Those of them that one canister can use.",
          _only(1, _subnet("NUMBER_OF_EXECUTION_THREADS"),
                "Not a constant: a canister executes one message at a time.")),
    Limit("instructions_slice_update", "instructions", "One slice of an update, one per round.", (
        DatedValue(date(2022, 7, 15), 5 * _B, _SLICE),
        DatedValue(date(2022, 10, 19), 2 * _B, _SLICE),
    )),
    Limit("instructions_slice_install", "instructions", "One slice of an install or upgrade.", (
        DatedValue(None, 200 * _B, _INSTALL_SLICE,
                   note="As much as the whole message: it was not sliced."),
        DatedValue(date(2022, 10, 5), 2 * _B, _INSTALL_SLICE),
    )),
    Limit("instructions_composite_query", "instructions", "A whole tree of composite queries.",
          _only(5 * _B, _execution("MAX_INSTRUCTIONS_PER_COMPOSITE_QUERY_CALL"))),
    Limit("composite_query_depth_calls", "calls", "Depth of a tree of composite queries.",
          _only(6, _execution("MAX_QUERY_CALL_DEPTH"))),
    Limit("composite_query_seconds", "seconds", "Wall clock of a tree of composite queries.",
          _only(10, _execution("MAX_TIME_PER_COMPOSITE_QUERY_CALL"))),
    Limit("instructions_composite_query_call", "instructions",
          "Charged for each call inside a tree of composite queries.",
          _only(50 * _M, _execution("INSTRUCTION_OVERHEAD_PER_QUERY_CALL"))),
    Limit("instructions_compile_wasm_instruction", "instructions",
          "Charged at installation for each Wasm instruction of the module.",
          _only(6 * _K, _embedders("DEFAULT_COST_TO_COMPILE_WASM_INSTRUCTION"))),
    Limit("instructions_round_execution", "instructions",
          "Taken from the round's budget for each execution, charged to nobody.",
          _overhead(2 * _M, "INSTRUCTION_OVERHEAD_PER_EXECUTION")),
    Limit("instructions_round_canister", "instructions",
          "Taken from the round's budget for each canister, charged to nobody.",
          _overhead(8 * _M, "INSTRUCTION_OVERHEAD_PER_CANISTER")),
    Limit("instructions_round_finalization", "instructions",
          "Taken from the round's budget to finalize each canister, charged to nobody.",
          _overhead(12 * _K, "INSTRUCTION_OVERHEAD_PER_CANISTER_FOR_FINALIZATION")),
    Limit("instructions_update_system_subnet", "instructions",
          "One update on a system subnet, where updates are not sliced.", _only(50 * _B, _SYSTEM)),
    Limit("instructions_install_system_subnet", "instructions",
          "A whole install or upgrade on a system subnet.", _only(1_000 * _B, _SYSTEM)),
    Limit("instructions_slice_install_system_subnet", "instructions",
          "One slice of an install or upgrade on a system subnet.", _only(5 * _B, _SYSTEM)),
    Limit("paused_executions", "executions",
          "Messages paused between slices. What exceeds it, and at a checkpoint all of them, is "
          "aborted and started afresh.", _only(4, _subnet("MAX_PAUSED_EXECUTIONS"))),
    Limit("message_slices", "slices", "Slices of one message, whatever its limit.",
          _only(400, _DTS)),
    Limit("update_slices", "slices", "Slices of an update: twice what its limit fills.",
          _from(date(2024, 3, 18), 2 * 40 * _B // (2 * _B), _DERIVED + _DTS)),
    Limit("install_slices", "slices", "Slices of an install or upgrade: twice what it fills.",
          _from(date(2024, 9, 27), 2 * 300 * _B // (2 * _B), _DERIVED + _DTS)),
    Limit("instructions_slice_overrun", "instructions",
          "About where one bulk operation, begun in a fresh slice, fails with SliceOverrun: it "
          "overshoots by one whole slice.",
          _from(date(2022, 10, 19), 2 * 2 * _B,
                _DERIVED + _ic("canister_sandbox/src/dts.rs", "try_pause"))),
    Limit("heap_os_pages_dirty_extra_slice", "OS pages",
          "Dirty heap OS pages above which a slice is inserted to copy them.",
          _only(1 * GIB // OS_PAGE_BYTES,
                _embedders("DEFAULT_MAX_DIRTY_PAGES_WITHOUT_OPTIMIZATION"))),
    Limit("instructions_heap_os_page_copy", "instructions",
          "Taken from the round's budget for each OS page so copied, not billed to the canister.",
          _only(3 * _K, _embedders("DIRTY_PAGE_COPY_OVERHEAD"))),
    Limit("ingress_message_bytes", "bytes", "A message from outside, its argument included.",
          _only(2 * MIB, _ic("limits/src/lib.rs", "MAX_INGRESS_BYTES_PER_MESSAGE_APP_SUBNET"))),
    Limit("reply_update_bytes", "bytes", "Reply of an update, or of a query that is replicated.",
          _only(2 * MIB, _ic("limits/src/lib.rs", "MAX_INTER_CANISTER_PAYLOAD_IN_BYTES"))),
    Limit("reply_query_bytes", "bytes", "Reply of a query that is not replicated.",
          _only(3 * MIB, "dfinity/ic MAX_NON_REPLICATED_QUERY_REPLY_SIZE @ 1bc0a5953")),
    Limit("query_threads", "threads", "Threads that execute queries on one node.",
          _only(4, _execution("QUERY_EXECUTION_THREADS_TOTAL"))),
    Limit("query_threads_canister", "threads", "Those of them that one canister can use.",
          _only(2, _embedders("QUERY_EXECUTION_THREADS_PER_CANISTER"))),
    Limit("query_slice_ms", "milliseconds", "Scheduling slice of one canister's queries.",
          _only(20, _execution("QUERY_SCHEDULING_TIME_SLICE_PER_CANISTER"))),
    Limit("query_cache_bytes", "bytes", "Cache of query replies.",
          _only(200 * MIB, _execution("QUERY_CACHE_CAPACITY"))),
    Limit("query_cache_seconds", "seconds", "Age at which a cached query reply expires.",
          _only(600, _execution("QUERY_CACHE_MAX_EXPIRY_TIME"))),
    Limit("query_cache_certificate_seconds", "seconds",
          "The same for a query that read the data certificate.",
          _only(60, _execution("QUERY_CACHE_DATA_CERTIFICATE_EXPIRY_TIME"))),
)

_DIRTY: Final = "STABLE_MEMORY_DIRTY_PAGE_LIMIT_"
_ACCESSED: Final = "STABLE_MEMORY_ACCESSED_PAGE_LIMIT_"
_DIRTY_BEGIN: Final = date(2022, 10, 11)
_ACCESSED_BEGIN: Final = date(2023, 2, 21)
_OF_UPDATE: Final = "by one update call, timer, callback or ``start``."
_OF_QUERY: Final = "by one query, replicated or not, composite query or inspect_message."
_OF_UPGRADE: Final = "by each of init, pre_upgrade and post_upgrade."


def _os_pages(begin: date, constant: str, *later: tuple[date, int]) -> tuple[DatedValue, ...]:
    source = _embedders(constant)
    return (
        DatedValue(None, NO_LIMIT, source, note="The constant did not exist: no limit."),
        DatedValue(begin, 8 * GIB // OS_PAGE_BYTES, source),
        *(DatedValue(since, size // OS_PAGE_BYTES, source) for since, size in later),
    )


_DELTA: Final = _execution("SUBNET_HEAP_DELTA_CAPACITY")
_DELTA_RATE: Final = _subnet("heap_delta_rate_limit")
_REPLACEMENTS: Final = _ic("embedders/src/wasm_utils/system_api_replacements.rs", "bytemap")
_STORAGE: Final = "replicated_state/src/page_map/storage.rs"
_OVERLAYS_BEGIN: Final = date(2024, 5, 21)
_OVERLAYS: Final = (
    "Overlays were enabled by a5bb2a8ab; the value is the one of 2025-10-31. The files they "
    "replaced went on 2025-02-05 (#3708)."
)

_PAGES: Final = (
    Limit("os_page_bytes", "bytes", "An OS page: dirty and accessed limits and the heap delta "
          "count these, so that a 1-byte write dirties 4096 bytes.",
          _only(4096, _ic("sys/src/lib.rs", "PAGE_SIZE"), "16 KiB in builds for macOS on arm.")),
    Limit("wasm_page_bytes", "bytes", "A Wasm page, what memories grow by.",
          _only(65_536, "WebAssembly core specification, memory instances")),
    Limit("wasm_page_os_pages", "OS pages", "OS pages of one Wasm page.",
          _only(WASM_PAGE_BYTES // OS_PAGE_BYTES, _DERIVED + "os_page_bytes and wasm_page_bytes")),
    Limit("stable_os_pages_dirty_update", "OS pages", f"Stable OS pages written {_OF_UPDATE}",
          _os_pages(_DIRTY_BEGIN, f"{_DIRTY}MESSAGE",
                    (date(2024, 5, 15), 4 * GIB), (date(2024, 7, 8), 2 * GIB))),
    Limit("stable_os_pages_dirty_query", "OS pages", f"Stable OS pages written {_OF_QUERY}",
          _os_pages(_DIRTY_BEGIN, f"{_DIRTY}QUERY", (date(2024, 7, 3), 1 * GIB))),
    Limit("stable_os_pages_dirty_upgrade", "OS pages", f"Stable OS pages written {_OF_UPGRADE}",
          _os_pages(_DIRTY_BEGIN, f"{_DIRTY}UPGRADE")),
    Limit("stable_os_pages_accessed_update", "OS pages",
          f"Stable OS pages read or written {_OF_UPDATE}",
          _os_pages(_ACCESSED_BEGIN, f"{_ACCESSED}MESSAGE", (date(2024, 7, 8), 2 * GIB))),
    Limit("stable_os_pages_accessed_query", "OS pages",
          f"Stable OS pages read or written {_OF_QUERY}",
          _os_pages(_ACCESSED_BEGIN, f"{_ACCESSED}QUERY", (date(2024, 7, 3), 1 * GIB))),
    Limit("stable_os_pages_accessed_upgrade", "OS pages",
          f"Stable OS pages read or written {_OF_UPGRADE}",
          _os_pages(_ACCESSED_BEGIN, f"{_ACCESSED}UPGRADE")),
    Limit("stable_bytemap_os_page_bytes", "bytes",
          "Bytes that track one stable OS page, fresh for each message and shared by its slices. "
          "One written with the bytes it held is dirty all the same.", _only(1, _REPLACEMENTS)),
    Limit("stable_bytemap_bytes", "bytes", "The whole bytemap, in virtual memory.",
          _from(date(2024, 11, 6), 500 * GIB // OS_PAGE_BYTES,
                _DERIVED + "stable_memory_bytes and stable_bytemap_os_page_bytes")),
    Limit("stable_bytemap_written_mask", "bit mask", "Bit of a tracked OS page that was written.",
          _only(1, _REPLACEMENTS)),
    Limit("stable_bytemap_accessed_mask", "bit mask",
          "Bit of a tracked OS page that was accessed: a read sets it, a write sets both. While "
          "none of the OS pages of a range has it, a host call fetches the data (2023-04-05, "
          "RUN-589).", _only(2, _REPLACEMENTS)),
    Limit("heap_delta_subnet_bytes", "bytes", "Heap delta of one subnet between checkpoints: dirty "
          "heap and stable OS pages of updates. Above it no message executes in the round.", (
        DatedValue(None, 1 * TIB, _DELTA, note=_YEAR_ONLY),
        DatedValue(date(2021, 11, 1), 200 * GIB, _DELTA, note=_MONTH_ONLY),
        DatedValue(date(2022, 3, 1), 150 * GIB, _DELTA, note=_MONTH_ONLY),
        DatedValue(date(2022, 8, 1), 140 * GIB, _DELTA, note=_MONTH_ONLY),
    )),
    Limit("heap_delta_initial_bytes", "bytes", "Part of it available right after a checkpoint.",
          _only(32 * GIB, _subnet("HEAP_DELTA_INITIAL_RESERVE"))),
    Limit("heap_delta_released_bytes", "bytes", "The rest, released evenly until the next one.",
          _from(date(2022, 8, 1), 140 * GIB - 32 * GIB,
                _DERIVED + "heap_delta_subnet_bytes and heap_delta_initial_bytes", _MONTH_ONLY)),
    Limit("heap_delta_canister_round_bytes", "bytes", "Heap delta of one canister in one round; "
          "while in debt it is not scheduled. Queries and failed messages add none.", (
        DatedValue(date(2021, 11, 1), 200 * MIB, _DELTA_RATE, note=_MONTH_ONLY),
        DatedValue(date(2022, 3, 1), 75 * MIB, _DELTA_RATE,
                   note="100 MiB for some time in between; the sources do not date it. "
                        + _MONTH_ONLY),
    )),
    Limit("heap_delta_canister_round_os_pages", "OS pages", "The same in OS pages.",
          _from(date(2022, 3, 1), 75 * MIB // OS_PAGE_BYTES,
                _DERIVED + "heap_delta_canister_round_bytes", _MONTH_ONLY)),
    Limit("heap_delta_update_pause_rounds", "rounds",
          "About how long a canister pauses after an update that dirtied all it may.",
          _from(date(2024, 7, 8), 2 * GIB // (75 * MIB),
                _DERIVED + "stable_os_pages_dirty_update and heap_delta_canister_round_bytes")),
    Limit("heap_delta_iteration_bytes", "bytes", "Heap delta after which a round starts no other "
          "iteration.", _only(200 * _M, _subnet("MAX_HEAP_DELTA_PER_ITERATION"))),
    Limit("instructions_install_debit_round", "instructions",
          "Debt of install_code that a canister works off in one round.",
          _only(2 * _B, _subnet("install_code_rate_limit"))),
    Limit("checkpoint_rounds", "rounds", "Rounds from one checkpoint to the next.",
          _only(499 + 1, f"{_ic('limits/src/lib.rs', 'DKG_INTERVAL_HEIGHT')}; {_DOCS}")),
    Limit("checkpoint_seconds_min", "seconds", "The same at 1.5 blocks per second.",
          _only(500 * 2 // 3, _DERIVED + _DOCS)),
    Limit("checkpoint_seconds_max", "seconds", "The same at 0.75 blocks per second.",
          _only(500 * 4 // 3, _DERIVED + _DOCS)),
    Limit("state_chunk_bytes", "bytes", "Chunk of a state file that is hashed (SHA-256) at a "
          "checkpoint. Stable memory is not hashed message by message.",
          _only(1 << 20, _ic("state_manager/src/state_sync/types.rs", "DEFAULT_CHUNK_SIZE"))),
    Limit("state_rehash_chunks", "chunks", "Of so many unchanged chunks one is hashed again.",
          _only(10, _ic("state_manager/src/manifest.rs", "REHASH_EVERY_NTH_CHUNK"))),
    Limit("state_sync_version", "version", "Newest version of the manifest.",
          _only(3, _ic("state_manager", "MAX_SUPPORTED_STATE_SYNC_VERSION"))),
    Limit("overlay_files", "files", "Overlay files of one shard, a soft limit.",
          _from(_OVERLAYS_BEGIN, 7, _ic(_STORAGE, "MAX_NUMBER_OF_FILES"), _OVERLAYS)),
    Limit("overlay_shard_os_pages", "OS pages", "Length of one shard.",
          _from(_OVERLAYS_BEGIN, 10_485_760, _ic("config/src/state_manager.rs", "shard size"),
                _OVERLAYS)),
    Limit("overlay_shard_bytes", "bytes", "The same in bytes: 40 GiB.",
          _from(_OVERLAYS_BEGIN, 10_485_760 * OS_PAGE_BYTES, _DERIVED + "overlay_shard_os_pages",
                _OVERLAYS)),
    Limit("overlay_ahead_rounds", "rounds",
          "How long before a checkpoint overlays may already be written.",
          _from(_OVERLAYS_BEGIN, 50,
                _ic("state_manager", "NUM_ROUNDS_BEFORE_CHECKPOINT_TO_WRITE_OVERLAY"), _OVERLAYS)),
    Limit("overlay_range_bytes", "bytes", "One range in the index of an overlay file.",
          _from(_OVERLAYS_BEGIN, 3 * 8, _ic(_STORAGE, "overlay layout"), _OVERLAYS)),
    Limit("overlay_os_page_count_bytes", "bytes", "The count of OS pages in an overlay file.",
          _from(_OVERLAYS_BEGIN, 8, _ic(_STORAGE, "overlay layout"), _OVERLAYS)),
    Limit("overlay_version_bytes", "bytes", "The version in an overlay file.",
          _from(_OVERLAYS_BEGIN, 4, _ic(_STORAGE, "overlay layout"), _OVERLAYS)),
    Limit("certified_data_bytes", "bytes", "All that a canister can have certified.",
          _only(32, _ic("embedders/src/wasmtime_embedder/system_api.rs",
                        "CERTIFIED_DATA_MAX_LENGTH"))),
)

# fmt: on

_ALL: Final = (*_MEMORY, *_INSTRUCTIONS, *_PAGES)

LIMITS: Final[Mapping[str, Limit]] = MappingProxyType({limit.name: limit for limit in _ALL})
"""Every limit by its name, read-only: memory, instructions, OS page accounting."""

assert len(LIMITS) == len(_ALL), "two limits share a name"
