"""What ``scale`` and ``sweep`` share: their options, and carrying out runs of one script."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from sqlstable.analysis.scaling.runs import RunResult, Scalar
from sqlstable.canister.choices import Choices
from sqlstable.cli.failures import InterruptedRunError, UsageError, note
from sqlstable.cli.options import NO_LIMITS, chosen_limits
from sqlstable.cli.places import check_regular
from sqlstable.cli.progress import WorkProgress, engine_notes
from sqlstable.cli.script_params import split_params
from sqlstable.cli.script_source import ScriptText, read_script_text
from sqlstable.database.foreign import SourceOptions, open_source
from sqlstable.errors import SettingsError
from sqlstable.ic.words import CacheState
from sqlstable.report.numbers import counted
from sqlstable.workload.placeholders import (
    Placeholder,
    Value,
    fill_placeholders,
    find_placeholders,
    read_value,
)
from sqlstable.workload.sweeping.carrying_out import carry_out
from sqlstable.workload.sweeping.executors import OpenCrew, dask, processes, serial
from sqlstable.workload.sweeping.results import ResultsFile
from sqlstable.workload.sweeping.spec import RunSpec, SourceFile, make_spec, source_file

RUNS_MAX: Final = 10_000
"""More combinations are a mistake, or want ``--design``."""

WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers", metavar="COUNT", help="Processes that run at once. [default: one for each CPU]"
    ),
]
DaskOption = Annotated[
    str | None,
    typer.Option(
        "--dask", metavar="ADDRESS", help="Run on a Dask cluster, as in tcp://10.0.0.1:8786."
    ),
]
ResultsOption = Annotated[
    Path | None,
    typer.Option(
        "--results",
        metavar="FILE",
        help="Keep each run in a SQLite file; the same command goes on where it was cut off.",
    ),
]


@dataclass(frozen=True, slots=True)
class Where:
    """Where runs are carried out, and their results kept."""

    workers: int | None
    dask: str | None
    results: Path | None

    def crew(self, run_count: int) -> OpenCrew:
        """Return what opens the executor.

        Raises:
            UsageError: Two were chosen.
            SettingsError: There is none such.
        """
        if self.dask is not None:
            if self.workers is not None:
                raise UsageError("--workers and --dask do not go together; leave one of them out")
            return dask(self.dask)
        count = self.workers if self.workers is not None else min(_cpu_count(), run_count)
        # One process beside this one would only take longer to start.
        return serial if count == 1 else processes(count)


@dataclass(frozen=True, slots=True)
class Base:
    """What all runs have in common."""

    script: ScriptText
    placeholders: Mapping[str, Placeholder]
    "Parameters of the script, by name."
    rows: tuple[SourceFile, ...]
    database: SourceFile | None
    choices: Mapping[str, Scalar]
    cache: CacheState | None

    def spec(self, choices: Mapping[str, Scalar], parameters: Mapping[str, Value]) -> RunSpec:
        """Describe one run."""
        return make_spec(
            self.script.text,
            name=self.script.name,
            folder=self.script.folder,
            choices={**self.choices, **choices},
            parameters=parameters,
            database=self.database,
            rows=self.rows,
            cache=self.cache,
        )


def read_base(
    script: str,
    *,
    database: Path | None,
    cache: CacheState | None,
    limits: str,
    enforce: bool,
    choices: Mapping[str, Scalar],
) -> Base:
    """Read and check what all runs have in common, before any begins.

    Raises:
        ScriptError: The script cannot be used.
        UsageError: The database is no file, or options do not go together.
        SettingsError: The limits are of no date.
        ImageError: The database is damaged, or none.
    """
    text = read_script_text(script)
    steps = text.cut().steps
    if not steps:
        raise UsageError(f"{text.name} holds no statements, so there is nothing to run")
    chosen_limits(limits)
    if not enforce and limits.lower() == NO_LIMITS:
        raise UsageError("--no-enforce measures against limits, and --limits none leaves none")
    files = dict.fromkeys(
        it.params_file for step in steps for it in step.statements if it.params_file is not None
    )
    given: dict[str, Scalar] = {name: value for name, value in choices.items() if value is not None}
    given["limits"] = None if limits.lower() == NO_LIMITS else limits
    if not enforce:
        given["enforce"] = False
    return Base(
        script=text,
        placeholders=find_placeholders(text.text, name=text.name),
        rows=tuple(source_file(text.folder / name) for name in files),
        database=None if database is None else _database(database),
        choices=given,
        cache=cache,
    )


def read_params(texts: Sequence[str], base: Base) -> dict[str, tuple[Value, ...]]:
    """Return the values of parameters, as ``--param`` gives them.

    Raises:
        UsageError: One is not written as it should be.
        SettingsError: The script has no such parameter, or of another kind.
    """
    found = split_params(texts)
    for name, values in found.items():
        _check_parameter(base, name, values)
    return found


def _check_parameter(base: Base, name: str, values: Sequence[Value]) -> None:
    for value in values:
        fill_placeholders(base.script.text, {name: value}, name=base.script.name)


def check_settings(specs: Sequence[RunSpec]) -> None:
    """Refuse a value that no run can have, before any begins.

    Values that only some combinations cannot have are left to them: that is something to find out.

    Raises:
        SettingsError: Why one of its runs cannot be.
    """
    refusals: dict[tuple[str, Scalar], SettingsError] = {}
    possible: set[tuple[str, Scalar]] = set()
    for spec in specs:
        chosen: dict[str, Any] = dict(spec.choices)
        try:
            Choices(**chosen).settings  # noqa: B018  asked for its errors
        except SettingsError as error:
            for choice in spec.choices:
                refusals.setdefault(choice, error)
        else:
            possible.update(spec.choices)
    for choice, refusal in refusals.items():
        if choice not in possible:
            raise refusal


@contextmanager
def opened_results(base: Base, where: Where, command: str) -> Iterator[ResultsFile]:
    """Open the file of results of a command, or one in memory."""
    if where.results is not None:
        check_regular(where.results)
    script = base.script
    with ResultsFile(
        where.results, script=script.text, name=script.name, command=command
    ) as results:
        yield results


def finished(specs: Sequence[RunSpec], results: ResultsFile, where: Where) -> bool:
    """Carry out what has no result yet; returns False where Ctrl-C cut it off.

    Raises:
        ExecutorError: What carries out the runs has ended.
    """
    if len(specs) > RUNS_MAX:
        raise UsageError(
            f"these are {len(specs):,} runs, more than {RUNS_MAX:,}; give fewer values, or "
            "--design COUNT"
        )
    done = len(specs) - len(results.missing(specs))
    if done and where.results is not None:
        note(f"{done} of {counted(len(specs), 'run')} are in {where.results} already")
    crew = where.crew(len(specs) - done)
    try:
        with engine_notes(), WorkProgress() as progress:
            carry_out(
                specs,
                results,
                crew,
                on_run=lambda now, total: progress.show(
                    f"{now} of {counted(total, 'run')}", done=now, total=total
                ),
            )
    except KeyboardInterrupt:
        return False
    return True


def interrupted(
    specs: Sequence[RunSpec], found: Sequence[RunResult | None], where: Where
) -> InterruptedRunError:
    """Return the error that says how far it came, and how to go on."""
    done = sum(result is not None for result in found)
    text = f"interrupted after {done} of {counted(len(specs), 'run')}"
    if where.results is not None:
        return InterruptedRunError(f"{text}; the same command goes on: they are in {where.results}")
    return InterruptedRunError(f"{text}; with --results FILE the same command would go on")


def _database(path: Path) -> SourceFile:
    check_regular(path)
    # Looked at once here, so that not every run fails of it.
    with open_source(path, SourceOptions()) as source:
        for text in source.notes:
            note(text)
    return source_file(path)


def _cpu_count() -> int:
    return max(
        1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )


def listed(option: str, text: str | None) -> list[str]:
    """Return the values of an option that takes several, separated by commas.

    Raises:
        UsageError: One is empty, or stands there twice.
    """
    words = [word.strip() for word in text.split(",")] if text is not None else []
    if not all(words) or len(set(words)) != len(words):
        raise UsageError(f"{option} {text} has an empty value, or one twice; leave it out")
    return words


def whole_numbers(option: str, text: str | None) -> list[int]:
    """Return the same as whole numbers.

    Raises:
        UsageError: One is none.
    """
    found: list[int] = []
    for word in listed(option, text):
        value = read_value(word)
        if not isinstance(value, int):
            raise UsageError(f"{option} {word[:80]} is no whole number")
        found.append(value)
    return found
