"""``sqlstable check``: hold a run to budgets, and compare it with a baseline."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlstable.analysis.checking.budget_model import Budgets
from sqlstable.cli.check_options import (
    BaselineOption,
    BudgetOption,
    CheckEngineOption,
    CheckFormat,
    CheckFormatOption,
    CheckLimitsOption,
    CheckPricesOption,
    CopiedImageOption,
    MarkdownOption,
    SourceArgument,
    ThresholdOption,
    UpdateBaselineOption,
)
from sqlstable.cli.failures import RunError, UsageError, note
from sqlstable.cli.options import (
    LATEST,
    AllowOpenTransactionOption,
    AssumeOption,
    BucketPagesOption,
    BuildOption,
    CacheOption,
    CacheSizeOption,
    DatabaseOption,
    ForeignKeysOption,
    GrowthOption,
    JournalModeOption,
    LayoutOption,
    NowOption,
    OnConnectOption,
    PageSizeOption,
    PresetOption,
    SeedOption,
    chosen_limits,
    chosen_prices,
    note_native_reach,
)
from sqlstable.cli.output import screen, write, write_data
from sqlstable.cli.places import OutputKind, check_output, check_regular, new_output
from sqlstable.cli.script_params import OneParamOption, single_params
from sqlstable.ic.words import EngineName
from sqlstable.sqlite.header import SQLITE_MAGIC

if TYPE_CHECKING:
    from sqlstable.analysis.checking.baseline_model import Baseline
    from sqlstable.report.check_words import CheckReport
    from sqlstable.trace.format.reader import Trace

FILE_BYTES_MAX: Final = 64 * 1024 * 1024
"""What a budget or baseline may have."""

SUMMARY: Final = OutputKind("summary", b"<!-- sqlstable check -->")
"""Markdown of a check."""

BASELINE: Final = OutputKind("baseline", b'{\n  "format": "sqlstable', mark=b"sqlstable-baseline")

_KEYWORDS: Final = (
    *("build", "layout", "preset", "page_size", "cache_size", "journal_mode", "bucket_pages"),
    *("growth", "now", "seed", "foreign_keys"),
)
"""Options that the canister takes as they are, under their own names."""

_OF_SCRIPT: Final = (
    *("engine", "database", "image", "cache", "on_connect", "param"),
    *("allow_open_transaction", *_KEYWORDS),
)
"""Options that concern a script, which is run; a trace has run."""


def check_costs(  # noqa: PLR0913  each is an option
    *,
    source: SourceArgument,
    budget: BudgetOption = None,
    baseline: BaselineOption = None,
    update_baseline: UpdateBaselineOption = False,
    threshold: ThresholdOption = 0.0,
    output_format: CheckFormatOption = "table",
    markdown: MarkdownOption = None,
    engine: CheckEngineOption = None,
    database: DatabaseOption = None,
    image: CopiedImageOption = None,
    limits: CheckLimitsOption = None,
    prices: CheckPricesOption = None,
    assume: AssumeOption = None,
    param: OneParamOption = None,
    on_connect: OnConnectOption = None,
    build: BuildOption = None,
    cache: CacheOption = None,
    layout: LayoutOption = None,
    preset: PresetOption = None,
    page_size: PageSizeOption = None,
    cache_size: CacheSizeOption = None,
    journal_mode: JournalModeOption = None,
    bucket_pages: BucketPagesOption = None,
    growth: GrowthOption = None,
    foreign_keys: ForeignKeysOption = None,
    now: NowOption = None,
    seed: SeedOption = None,
    allow_open_transaction: AllowOpenTransactionOption = False,
) -> None:
    """Hold a run to budgets, and compare it with a baseline; exits with 1 where it costs more."""
    given: dict[str, Any] = locals()
    plan = _plan(budget, baseline, threshold, is_update=update_baseline)
    _check_places(plan, markdown, source)
    if _is_trace(source):
        _refuse_run_options(given)
        with _kept_trace(given, plan) as trace:
            report, made = _checked(plan, trace)
    else:
        with _run(given, plan) as trace:
            report, made = _checked(plan, trace)
    if plan.is_update and plan.baseline is not None and made is not None:
        _keep(plan.baseline, made)
    _show(report, output_format, markdown)
    if not _is_passed(report, plan):
        from sqlstable.report.check_words import worst_words

        raise RunError(worst_words(report))


@dataclass(frozen=True, slots=True)
class _HeldTo:
    """What a run is held to."""

    budgets: Budgets | None
    baseline: Path | None
    kept: "Baseline | None"
    "What is in its file; None where there is none."
    threshold: float
    is_update: bool


def _plan(
    budget: Path | None, baseline: Path | None, threshold: float, *, is_update: bool
) -> _HeldTo:
    """Read what the run is held to, before anything runs."""
    from sqlstable.analysis.checking.baseline_text import read_baseline
    from sqlstable.analysis.checking.budget_reading import read_budgets

    if budget is None and baseline is None:
        raise UsageError("there is nothing to check; give --budget FILE.toml or --baseline FILE")
    if baseline is None and (is_update or threshold):
        option = "--update-baseline" if is_update else "--threshold"
        raise UsageError(f"{option} concerns a baseline; name its file with --baseline FILE")
    if not 0 <= threshold < float("inf"):
        raise UsageError(f"--threshold {threshold:g} is no number of per cent from 0 on")
    budgets = None if budget is None else read_budgets(_text(budget), str(budget))
    kept = None
    if baseline is not None and (baseline.exists() or not is_update):
        hint = "; --update-baseline makes it" if not baseline.exists() else ""
        kept = read_baseline(_text(baseline, hint), str(baseline))
    return _HeldTo(budgets, baseline, kept, threshold, is_update)


def _text(path: Path, hint: str = "") -> str:
    check_regular(path)
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}{hint}") from None
    if len(data) > FILE_BYTES_MAX:
        raise UsageError(f"{path} has more than {FILE_BYTES_MAX // 1024**2} MiB, so it is none")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no text in UTF-8: {error.reason}") from None


def _is_trace(source: str) -> bool:
    path = Path(source)
    if not path.is_file():
        return False
    with path.open("rb") as file:
        is_trace = file.read(len(SQLITE_MAGIC)) == SQLITE_MAGIC
    if path.suffix == ".trace" and not is_trace:
        raise UsageError(
            f"{path} is not a trace; record it again with sqlstable run --trace {path}"
        )
    return is_trace


def _refuse_run_options(given: Mapping[str, Any]) -> None:
    for name in _OF_SCRIPT:
        if given[name] not in (None, False):
            option = f"--{name.replace('_', '-')}"
            raise UsageError(
                f"{option} concerns a script, and {given['source']} is a trace, which has run; "
                "leave it out"
            )


@contextmanager
def _kept_trace(given: Mapping[str, Any], plan: _HeldTo) -> "Iterator[Trace]":
    """Open a trace under the prices and limits that options or the budget file ask for."""
    from sqlstable.cli.held_against import HeldAgainst
    from sqlstable.cli.opened_trace import Repricing, opened_trace

    prices = given["prices"] or (plan.budgets.prices if plan.budgets else None)
    limits = given["limits"] or (plan.budgets.limits if plan.budgets else None)
    held = HeldAgainst.chosen(limits, None, "statement")
    assume = given["assume"] or []
    repricing = Repricing(prices, assume) if prices or assume else None
    with opened_trace(Path(given["source"]), repricing) as recorded, held.of(recorded) as trace:
        yield trace


@contextmanager
def _run(given: Mapping[str, Any], plan: _HeldTo) -> "Iterator[Trace]":
    """Run a script, and yield its trace.

    Raises:
        RunError: It failed, so nothing of it is held to anything.
    """
    from sqlstable.canister.choices import Choices
    from sqlstable.cli.running import Workload, played

    asked = given["limits"] or (plan.budgets.limits if plan.budgets else None) or LATEST
    limits = chosen_limits(asked)
    if limits is None:
        raise UsageError("--limits none leaves nothing to be a part of; give a date")
    engine = given["engine"] or _engine(plan)
    if given["build"] is not None and engine != "wasm":
        raise UsageError("--build concerns the wasm engine; add --engine wasm, or leave it out")
    workload = Workload(
        given["source"],
        single_params(given["param"] or []),
        given["database"],
        given["cache"],
        given["on_connect"],
        keep_going=False,
        allow_open_transaction=given["allow_open_transaction"],
    )
    keywords = {name: given[name] for name in _KEYWORDS}
    named = given["prices"] or (plan.budgets.prices if plan.budgets else None)
    prices = chosen_prices(named, given["assume"], limits)
    if engine == "native":
        note_native_reach(given["assume"], prices)
    choices = Choices(engine=engine, limits=limits, prices=prices, trace=":memory:", **keywords)
    with _on_copy(choices, given["image"]) as copied:
        outcome, trace = played(workload, copied)
    with trace:
        if outcome.failure is not None:
            raise RunError(f"the run failed, so nothing was checked: {outcome.failure}")
        yield trace


def _engine(plan: _HeldTo) -> EngineName:
    """Return the engine that can count what is to be checked, where nobody chose one."""
    if plan.kept is not None and not plan.is_update:
        kept: EngineName = "wasm" if plan.kept.settings.get("engine") == "wasm" else "native"
        return kept
    needs_wasm = (
        plan.baseline is not None or plan.budgets is None or plan.budgets.needs_instructions
    )
    return "wasm" if needs_wasm else "native"


@contextmanager
def _on_copy(choices: Any, image: Path | None) -> Iterator[Any]:  # noqa: ANN401  Choices, imported late
    """Yield the choices with a copy of an image, which is opened for reading only."""
    from sqlstable.canister.choices import Choices
    from sqlstable.layout.layout import Peek
    from sqlstable.layout.layouts import recognised
    from sqlstable.memory.copying import copied
    from sqlstable.memory.stable import StableMemory

    if image is None:
        yield choices
        return
    check_regular(image)
    if not image.exists():
        raise UsageError(f"there is no image {image}; sqlstable import makes one of a database")
    with StableMemory.open(
        image, limits=choices.limits, is_read_only=True, is_created=False
    ) as memory:
        found = recognised(Peek.at(memory))
        layout = choices.layout or (None if found is None else found.name)
        copy = copied(memory)
    chosen = {it.name: getattr(choices, it.name) for it in fields(Choices)}
    yield Choices(**{**chosen, "layout": layout, "memory": copy})


def _checked(plan: _HeldTo, trace: "Trace") -> "tuple[CheckReport, Baseline | None]":
    """Hold a trace to what is asked; returns what to keep of it, too."""
    from sqlstable.analysis.checking.baseline_changes import baseline_changes, check_settings
    from sqlstable.analysis.checking.baseline_model import make_baseline
    from sqlstable.analysis.checking.budget_checking import check_budgets
    from sqlstable.analysis.pricing.repriced import estimated_count
    from sqlstable.report.check_words import CheckReport
    from sqlstable.trace.format.stream import StreamedTrace

    if trace.settings.values.get("closed") is False:
        note("the trace was cut off, so what came behind is not checked")
    streamed, budgets = StreamedTrace(trace), plan.budgets
    verdicts = [] if budgets is None else check_budgets(budgets, streamed)
    now = None if plan.baseline is None else make_baseline(streamed)
    changes = None
    if now is not None and plan.kept is not None:
        if not plan.is_update:
            check_settings(plan.kept, now, str(plan.baseline))
        changes = baseline_changes(plan.kept, now, plan.threshold)
    nodes = 13 if budgets is None else budgets.nodes
    estimated = estimated_count(streamed)
    return CheckReport(trace.settings, verdicts, changes, nodes, estimated), now


def _is_passed(report: "CheckReport", plan: _HeldTo) -> bool:
    return not report.failures if plan.is_update else report.is_passed


def _check_places(plan: _HeldTo, markdown: Path | None, source: str) -> None:
    """Refuse to write over what no check wrote, before anything runs."""
    if markdown is not None:
        check_output(markdown, SUMMARY, force=True)
    if plan.is_update and plan.baseline is not None:
        check_output(plan.baseline, BASELINE, force=True)
    places = (markdown, plan.baseline if plan.is_update else None, Path(source))
    named = [os.path.realpath(it) for it in places if it is not None]
    if len(set(named)) < len(named):
        raise UsageError("two of the files that are named are the same one; give each its own")


def _write(path: Path, kind: OutputKind, text: str) -> None:
    """Write a file, whole or not at all."""
    with new_output(path, kind, force=True) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def _keep(path: Path, baseline: "Baseline") -> None:
    from sqlstable.analysis.checking.baseline_text import baseline_text
    from sqlstable.report.numbers import counted

    _write(path, BASELINE, baseline_text(baseline))
    entries = counted(len(baseline.entries), "entry")
    note(f"the baseline is in {path}, with {entries}; keep it with the code")


def _show(report: "CheckReport", output_format: CheckFormat, markdown: Path | None) -> None:
    if markdown is not None:
        from sqlstable.report.check_markdown import render_check_markdown

        _write(markdown, SUMMARY, render_check_markdown(report))
    match output_format:
        case "table":
            from sqlstable.report.check_table import render_check

            target = screen()
            write(render_check(report, width=target.width, color_system=target.color_system))
        case "json":
            from sqlstable.report.check_data import render_check_json

            write_data(render_check_json(report))
        case "markdown":
            from sqlstable.report.check_markdown import render_check_markdown

            write_data([render_check_markdown(report)])
