"""What the fixture ``stable_budget`` gives a test: blocks whose messages are held to a budget."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import pytest

from sqlstable.analysis.checking.baseline_changes import baseline_changes, check_settings
from sqlstable.analysis.checking.baseline_model import Baseline, make_baseline
from sqlstable.analysis.checking.baseline_text import baseline_of, baseline_text
from sqlstable.analysis.checking.budget_checking import check_budgets
from sqlstable.analysis.checking.budget_model import Budgets, Target
from sqlstable.analysis.checking.budget_reading import KEYS, budgets_of, keys_are, near
from sqlstable.canister.canister import Canister
from sqlstable.canister.choices import Keywords
from sqlstable.engine.native.native_engine import is_complete
from sqlstable.errors import BudgetError, MessageError
from sqlstable.module.canister_module import ModuleDoor
from sqlstable.report.check_words import change_words, failure_lines, words_of
from sqlstable.trace.format.file import Trace
from sqlstable.workload.execution import run_steps
from sqlstable.workload.script import parse_script

KEPT_FORMAT: Final = "sqlstable-test-baselines"
KEPT_VERSION: Final = 1

_NAME: Final = "stable_budget"
_EACH: Final = Target("each_message")


class KeptBaselines:
    """Baselines of tests, in one file.

    Args:
        path: The file; None where no test is compared with anything.
        is_update: Whether the tests that run are kept, in place of being compared.
        threshold: Changes of fewer per cent are noise.

    Raises:
        BudgetError: The file is not there, or holds something else.
    """

    def __init__(self, path: str | None, *, is_update: bool, threshold: float) -> None:
        self.is_update = is_update
        self.threshold = threshold
        self._path = None if path is None else Path(path)
        self._kept: dict[str, Baseline] = {}
        self._is_changed = False
        if self._path is not None and (self._path.exists() or not is_update):
            self._kept = self._read(self._path)

    @property
    def is_on(self) -> bool:
        """Whether there is a file at all."""
        return self._path is not None

    def compare(self, name: str, now: Baseline) -> list[str]:
        """Keep what a test costs, or say what of it has regressed.

        Raises:
            BudgetError: It was kept under other settings.
        """
        kept = self._kept.get(name)
        if self.is_update:
            self._is_changed = True
            self._kept[name] = now
            return []
        if kept is None:
            return []
        check_settings(kept, now, f"the baseline of {name}")
        return [
            f"{it.name}: {words_of(it.measure)} {change_words(it)}"
            for it in baseline_changes(kept, now, self.threshold).changes
            if it.kind == "regressed"
        ]

    def write(self) -> None:
        """Write the file, if a test was kept; those that did not run stay as they were."""
        if self._path is None or not self._is_changed:
            return
        tests = ",\n".join(
            f"{json.dumps(name, ensure_ascii=False)}: {baseline_text(self._kept[name]).rstrip()}"
            for name in sorted(self._kept)
        )
        head = f'{{\n"format": "{KEPT_FORMAT}",\n"version": {KEPT_VERSION},\n"tests": {{'
        partial = self._path.with_name(f"{self._path.name}.partial")
        partial.write_text(f"{head}\n{tests}\n}}\n}}\n", encoding="utf-8", newline="\n")
        partial.replace(self._path)

    @staticmethod
    def _read(path: Path) -> dict[str, Baseline]:
        if not path.exists():
            raise BudgetError(f"there is no file {path}; --stable-update-baseline makes it")
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise BudgetError(f"{path} is no baseline of tests: {error}") from None
        known = (KEPT_FORMAT, KEPT_VERSION)
        if not isinstance(data, dict) or (data.get("format"), data.get("version")) != known:
            raise BudgetError(f"{path} is no baseline of tests, or of another version; remove it")
        tests = data.get("tests")
        if not isinstance(tests, dict):
            raise BudgetError(f"{path} is damaged: it holds no tests; make it anew")
        return {name: baseline_of(it, f"{path}, {name}") for name, it in tests.items()}


class StableBudget:
    """Makes blocks that hold what is sent in them to a budget; the fixture is one.

    Args:
        test: Name of the test.
        kept: Baselines of tests.
    """

    def __init__(self, test: str, kept: KeptBaselines) -> None:
        self._test = test
        self._kept = kept
        self._blocks = 0

    def __call__(
        self,
        on: Canister | ModuleDoor | None = None,
        *,
        setup: str | Path | None = None,
        database: Path | str | None = None,
        **chosen: Any,  # noqa: ANN401  numbers, texts and keywords of a canister
    ) -> "HeldBlock":
        """Return a block, whose canister is what it is entered with.

        Args:
            on: A `Canister` or `CanisterModule` with ``trace=":memory:"``, or with a trace file;
                None makes a canister for the block.
            setup: Of a canister that is made: a script that runs before the block, as SQL, or the
                path of one; it has no budget.
            database: Likewise a SQLite database that is imported first.
            chosen: What each message may use, by the keys of a budget file: ``instructions``,
                ``limit="10%"``, ``no_scan=True`` …; and keywords of `Canister` for one that is
                made. It runs in the wasm engine where a budget needs instructions.

        Raises:
            BudgetError: A key is unknown, or its value of a wrong type.
        """
        budget = {key: value for key, value in chosen.items() if key in KEYS}
        keywords = {key: value for key, value in chosen.items() if key not in KEYS}
        known = {*KEYS, *(Keywords.__annotations__ if on is None else ())}
        for key in keywords:
            if key not in known:
                hint = near(key, known) or keys_are(KEYS)
                raise BudgetError(f"{_NAME}: there is no {key!r}{hint}")
        budgets = Budgets(tuple(budgets_of(_EACH, budget, _NAME)) if budget else (), _NAME)
        self._blocks += 1
        name = self._test if self._blocks == 1 else f"{self._test} #{self._blocks}"
        if on is None:
            return _BlockOfOwn(budgets, self._kept, name, setup, database, keywords)
        if not isinstance(on, Canister | ModuleDoor):
            raise BudgetError(
                f"{_NAME}: on is {type(on).__name__}; it is a Canister or a CanisterModule"
            )
        if setup is not None or database is not None:
            raise BudgetError(f"{_NAME}: setup and database are of a canister that it makes itself")
        return HeldBlock(budgets, self._kept, name, on)


class HeldBlock:
    """A ``with`` block whose messages are held to a budget when it ends."""

    def __init__(
        self, budgets: Budgets, kept: KeptBaselines, name: str, on: Canister | ModuleDoor | None
    ) -> None:
        self._budgets = budgets
        self._kept = kept
        self._name = name
        self._on = on
        self._first = 0

    def __enter__(self) -> Any:  # noqa: ANN401  a canister or a module, as it was given
        assert self._on is not None, "there is one"
        with self._trace() as trace:
            self._first = len(trace.messages)
        return self._on

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        __tracebackhide__ = True
        if error is not None:
            return
        with self._trace() as trace:
            told = self._failures(trace)
        if told:
            pytest.fail("\n".join(told))

    def _trace(self) -> Trace:
        assert self._on is not None, "there is one"
        try:
            return self._on.trace()
        except MessageError as error:
            raise BudgetError(f"{_NAME}: {error}") from None

    def _failures(self, trace: Trace) -> list[str]:
        messages = trace.messages[self._first :]
        if not messages:
            raise BudgetError(f"{_NAME}: no message was sent in the block, so nothing was held")
        told: list[str] = []
        if self._budgets.budgets:
            for found in check_budgets(self._budgets, trace, messages):
                lines = [] if found.is_kept else list(failure_lines(found))
                told += [line.removeprefix(f"{_EACH}: ") for line in lines[:1]]
                told += [f"  {line.removeprefix(f'{_EACH}: ')}" for line in lines[1:]]
        if self._kept.is_on:
            told += self._kept.compare(self._name, make_baseline(trace, messages))
        return told


class _BlockOfOwn(HeldBlock):
    """One with a canister of its own."""

    def __init__(
        self,
        budgets: Budgets,
        kept: KeptBaselines,
        name: str,
        setup: str | Path | None,
        database: Path | str | None,
        keywords: Mapping[str, Any],
    ) -> None:
        super().__init__(budgets, kept, name, None)
        self._setup = setup
        self._database = database
        engine = "wasm" if budgets.needs_instructions else "native"
        self._keywords: dict[str, Any] = {"engine": engine, "trace": ":memory:", **keywords}

    def __enter__(self) -> Any:  # noqa: ANN401  a canister
        canister = Canister(**self._keywords)
        self._on = canister
        try:
            if self._database is not None:
                canister.import_database(self._database)
            if self._setup is not None:
                _run(canister, self._setup)
            return super().__enter__()
        except BaseException:
            canister.close()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        __tracebackhide__ = True
        try:
            super().__exit__(kind, error, traceback)
        finally:
            assert isinstance(self._on, Canister)
            self._on.close()


def _run(canister: Canister, setup: str | Path) -> None:
    text, name, folder = str(setup), "setup", Path()
    if isinstance(setup, Path):
        text, name, folder = setup.read_text(encoding="utf-8"), str(setup), setup.parent
    steps = parse_script(text, is_complete=is_complete, base_folder=folder, name=name)
    outcome = run_steps(canister, steps, name=name)
    if outcome.failure is not None:
        raise BudgetError(f"{_NAME}: {outcome.failure}")
