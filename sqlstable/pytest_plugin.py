"""The pytest plugin: the fixture ``stable_budget``, and baselines of the tests that use it.

pytest finds it by an entry point and imports it before every run of tests, of any project that
shares an environment with this package. So it imports pytest alone; all else is imported when the
first test asks for the fixture.
"""

from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from sqlstable.stable_budget import KeptBaselines, StableBudget

_KEPT: Final[pytest.StashKey["KeptBaselines"]] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of baselines."""
    group = parser.getgroup("sqlstable", "costs on the Internet Computer (sqlstable)")
    group.addoption(
        "--stable-baseline",
        metavar="FILE",
        help="compare what tests with stable_budget cost with this file",
    )
    group.addoption(
        "--stable-update-baseline",
        action="store_true",
        help="keep what they cost in the file of --stable-baseline",
    )
    group.addoption(
        "--stable-threshold",
        metavar="PERCENT",
        type=float,
        default=0.0,
        help="changes since the baseline that are smaller are noise (default: 0)",
    )
    parser.addini("stable_baseline", "as --stable-baseline; beside the file that says so")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse options that do not go together, before any test runs."""
    threshold = config.getoption("stable_threshold")
    if not 0 <= threshold < float("inf"):
        raise pytest.UsageError(f"--stable-threshold {threshold:g} is no number from 0 on")
    if not config.getoption("stable_update_baseline"):
        return
    if _baseline_path(config) is None:
        raise pytest.UsageError("--stable-update-baseline needs --stable-baseline FILE")
    if hasattr(config, "workerinput") or config.getoption("numprocesses", None):
        raise pytest.UsageError(
            "--stable-update-baseline writes one file, so it needs one process; leave -n out"
        )


def _baseline_path(config: pytest.Config) -> str | None:
    given: str | None = config.getoption("stable_baseline")
    named = str(config.getini("stable_baseline"))
    if given is not None or not named:
        return given
    beside = config.rootpath if config.inipath is None else config.inipath.parent
    return str(beside / named)


@pytest.fixture
def stable_budget(request: pytest.FixtureRequest) -> "StableBudget":
    """Hold the messages that are sent in a block to a budget; see docs/how-to/in-ci.md."""
    from sqlstable.stable_budget import KeptBaselines, StableBudget  # noqa: PLC0415  see above

    config = request.config
    if _KEPT not in config.stash:
        config.stash[_KEPT] = KeptBaselines(
            _baseline_path(config),
            is_update=config.getoption("stable_update_baseline"),
            threshold=config.getoption("stable_threshold"),
        )
    return StableBudget(request.node.nodeid, config.stash[_KEPT])


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the baselines of the tests that ran, where that was asked for."""
    kept = session.config.stash.get(_KEPT, None)
    if kept is not None:
        kept.write()
