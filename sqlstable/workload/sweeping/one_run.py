"""Carrying out one run: a pure function of its description, for any process and any machine."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlstable.analysis.growth import growth_at_end
from sqlstable.analysis.scaling.runs import (
    TEXT_CHARACTERS_MAX,
    RanMessage,
    RanStatement,
    RunResult,
    Scalar,
)
from sqlstable.analysis.totals import sum_known
from sqlstable.canister.canister import Canister
from sqlstable.canister.choices import Choices
from sqlstable.engine.native.native_engine import is_complete
from sqlstable.errors import SettingsError, SqlstableError
from sqlstable.trace.format.file import Trace
from sqlstable.trace.model import Message, Statement
from sqlstable.workload.execution import run_steps
from sqlstable.workload.placeholders import fill_placeholders
from sqlstable.workload.script import ScriptStep, parse_script
from sqlstable.workload.sweeping.spec import RunSpec, SourceFile, source_file, versions


def run_spec(spec: RunSpec) -> RunResult:
    """Run a script in a canister of its own, and return what it came to.

    The result depends on the description alone: not on the process, the clock, or what ran before.

    Returns:
        The result; with a failure where the settings do not go together, the script failed or
        trapped, or a file is another one than was described.

    Raises:
        KeyboardInterrupt: Ctrl-C ended it: there is no result.

    Examples:
        >>> from sqlstable.workload.sweeping.spec import make_spec
        >>> result = run_spec(make_spec("CREATE TABLE t (x); SELECT * FROM t;"))
        >>> [it.kind for it in result.messages], result.failure
        (['install', 'update', 'query'], None)
        >>> run_spec(make_spec("SELECT 1", choices={"page_size": 1000})).failure
        'page_size is 1000; it must be a power of two from 512 to 65536'
    """
    try:
        _check_versions(spec)
        steps = _steps(spec)
        return _played(spec, steps)
    except (SqlstableError, OSError, MemoryError) as error:
        return _failed(spec, str(error) or type(error).__name__)
    except Exception as error:  # noqa: BLE001  one run of a sweep must not end all others
        return _failed(spec, f"this should not have happened: {type(error).__name__}: {error}")


def _check_versions(spec: RunSpec) -> None:
    if spec.versions != versions():
        wanted, found = (
            f"sqlstable {it[0]} with SQLite {it[1]}" for it in (spec.versions, versions())
        )
        raise SettingsError(
            f"the run was described by {wanted}, and this process has {found}; install the same"
        )


def _steps(spec: RunSpec) -> tuple[ScriptStep, ...]:
    for file in (*spec.rows, *filter(None, [spec.database])):
        _check_file(file)
    text = fill_placeholders(spec.script, dict(spec.parameters), name=spec.name)
    return parse_script(
        text, is_complete=is_complete, base_folder=Path(spec.folder), name=spec.name
    )


def _check_file(file: SourceFile) -> None:
    """Refuse a file that is not what it was when the run was described."""
    try:
        found = source_file(Path(file.path))
    except OSError as error:
        raise SettingsError(
            f"{file.path} cannot be read where this run is carried out: {error.strerror}; workers "
            "on other machines need it at the same place"
        ) from error
    if found != file:
        raise SettingsError(f"{file.path} has changed since the sweep began; begin it again")


def _played(spec: RunSpec, steps: tuple[ScriptStep, ...]) -> RunResult:
    keywords: dict[str, Any] = dict(spec.choices)
    # What cannot be is refused before anything is opened.
    page_size = Choices(**keywords).page_size
    canister = Canister(**keywords, trace=":memory:")
    try:
        if spec.database is not None:
            canister.import_database(spec.database.path, page_size=page_size)
        outcome = run_steps(canister, steps, cache=spec.cache, name=spec.name)
    finally:
        canister.close()
    if outcome.is_interrupted:
        raise KeyboardInterrupt
    with canister.trace() as trace:
        return result_of(
            trace,
            choices=dict(spec.choices),
            parameters=dict(spec.parameters),
            failure=outcome.failure,
        )


def _failed(spec: RunSpec, failure: str) -> RunResult:
    return RunResult(dict(spec.choices), dict(spec.parameters), {}, failure=failure)


def result_of(
    trace: Trace,
    *,
    choices: Mapping[str, Scalar],
    parameters: Mapping[str, Scalar],
    failure: str | None,
) -> RunResult:
    """Return what is kept of a trace."""
    return RunResult(
        choices=choices,
        parameters=parameters,
        settings={name: _scalar(value) for name, value in trace.settings.values.items()},
        messages=tuple(_message(trace, message) for message in trace.messages),
        statements=tuple(
            _statement(trace.statements[index], place)
            for message in trace.messages
            for place, index in enumerate(message.statements)
        ),
        failure=failure,
        index_uses=_index_uses(trace),
        used_bytes=_used_bytes(trace),
    )


def _scalar(value: object) -> Scalar:
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _message(trace: Trace, message: Message) -> RanMessage:
    return RanMessage(
        index=message.index,
        kind=message.kind,
        label=message.label,
        outcome=message.outcome,
        trap=message.trap,
        trap_limit=message.trap_limit,
        os_pages_accessed=message.stable.os_pages_accessed,
        os_pages_dirty=message.stable.os_pages_dirty,
        stable_bytes=message.image_bytes,
        limits=message.limits,
        instructions=None if message.instructions is None else message.instructions.total,
        hits=sum_known(trace.statements[index].sqlite.hits for index in message.statements),
    )


def _statement(statement: Statement, place: int) -> RanStatement:
    stable = statement.stable
    calls = stable.calls
    return RanStatement(
        index=statement.index,
        message=statement.message,
        place=place,
        sql=statement.sql[:TEXT_CHARACTERS_MAX],
        shape=statement.shape[:TEXT_CHARACTERS_MAX],
        kind=statement.kind,
        plan=statement.plan,
        row_count=statement.row_count,
        runs=statement.runs,
        os_pages_accessed=stable.os_pages_accessed,
        os_pages_dirty=stable.os_pages_dirty,
        stable_calls=calls.read + calls.write + calls.size + calls.grow,
        stable_bytes_moved=stable.bytes_read + stable.bytes_written,
        hits=statement.sqlite.hits,
        instructions=None if statement.instructions is None else statement.instructions.total,
    )


def _used_bytes(trace: Trace) -> int | None:
    growth = growth_at_end(trace)
    return None if growth is None else sum(area.used_bytes for area in growth.areas)


def _index_uses(trace: Trace) -> dict[str, int]:
    """Add up what statements that only read accessed of each index that any statement met."""
    uses: dict[str, int] = {}
    for statement in trace.statements:
        for owner in statement.owners:
            if owner.kind == "index":
                read = owner.os_pages_accessed if statement.kind == "read" else 0
                uses[owner.name] = uses.get(owner.name, 0) + read
    return dict(sorted(uses.items()))
