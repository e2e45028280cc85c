"""``sqlstable canister``: run a canister's own module, and report what each call took."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from sqlstable.cli.canister_running import CanisterRun, run_canister
from sqlstable.cli.failures import UsageError
from sqlstable.cli.html_page import STDOUT, check_place
from sqlstable.cli.options import (
    LATEST,
    AssumeOption,
    ForceOption,
    FormatOption,
    HtmlOption,
    KeepGoingOption,
    LimitsOption,
    MapByOption,
    MapOption,
    OutputOption,
    PictureOption,
    PricesOption,
    SettingsOption,
    TraceOption,
    ViewOption,
    chosen_limits,
    chosen_map,
    chosen_prices,
)
from sqlstable.cli.places import check_regular
from sqlstable.cli.running import Output, Pictures
from sqlstable.cli.step_source import lists_ready_steps, shows_steps
from sqlstable.cli.still_pictures import check_pictures
from sqlstable.ic.units import KIB
from sqlstable.report.view import Look

WorkloadArgument = Annotated[
    str,
    typer.Argument(
        metavar="WORKLOAD",
        help="Steps as they are typed in a terminal, install app.wasm.gz first; or a module alone; "
        "- reads stdin, @NAME is a ready one, @ lists them.",
    ),
]
ShowOption = Annotated[
    bool, typer.Option("--show", help="Print the workload, and end: > FILE keeps it.")
]
CanisterOption = Annotated[
    list[str] | None,
    typer.Option(
        "--canister",
        metavar="NAME=MODULE",
        help="A further canister beside it, installed first; NAME.METHOD calls it. With what its "
        "init takes: 'NAME=MODULE (…)'.",
    ),
]
DidOption = Annotated[
    Path | None,
    typer.Option(
        "--did",
        metavar="FILE.did",
        help="The interface of the first module. [default: what the module says of itself, or a "
        ".did file beside it]",
        show_default=False,
    ),
]
StartImageOption = Annotated[
    Path | None,
    typer.Option(
        "--image",
        metavar="IMAGE",
        help="Keep the first canister's stable memory in a file; or begin with that of a folder "
        "which dfx or icp-cli has downloaded a snapshot to, and leave the folder as it is.",
    ),
]
CompareOption = Annotated[
    Path | None,
    typer.Option("--compare", metavar="OLD.trace", help="Show what changed since an earlier run."),
]
TrackOption = Annotated[
    bool | None,
    typer.Option(
        "--track-heap/--no-track-heap",
        help="Whether to watch and charge the heap. [default: as the prices of the limits' date "
        "do]",
        show_default=False,
    ),
]
TimeOption = Annotated[
    str | None,
    typer.Option(
        "--time",
        metavar="DATETIME",
        help="The time at the beginning, UTC; it stands still until a step advances it. "
        "[default: 2026-01-01 00:00:00]",
        show_default=False,
    ),
]
RandomOption = Annotated[
    int, typer.Option("--seed", metavar="NUMBER", help="Of the randomness that raw_rand gives.")
]
ProfileOption = Annotated[
    Path | None,
    typer.Option(
        "--profile",
        metavar="FILE",
        help="Count function by function, and write that for speedscope.app (.json) or as "
        "collapsed stacks for flame graphs; the functions that used most stand below the report.",
    ),
]
OsPageOption = Annotated[
    Literal["4", "16"],
    typer.Option(
        "--os-page",
        metavar="4|16",
        help="KiB of the OS pages that are charged; 16 for figures from computers of Apple.",
    ),
]


def run_workload(  # noqa: PLR0913  each is an option
    *,
    workload: WorkloadArgument,
    show: ShowOption = False,
    canister: CanisterOption = None,
    did: DidOption = None,
    image: StartImageOption = None,
    limits: LimitsOption = LATEST,
    prices: PricesOption = None,
    assume: AssumeOption = None,
    track_heap: TrackOption = None,
    time: TimeOption = None,
    seed: RandomOption = 0,
    os_page: OsPageOption = "4",
    keep_going: KeepGoingOption = False,
    profile: ProfileOption = None,
    trace: TraceOption = None,
    compare: CompareOption = None,
    html: HtmlOption = None,
    picture: PictureOption = None,
    output: OutputOption = None,
    force: ForceOption = False,
    output_format: FormatOption = "table",
    by: ViewOption = "statement",
    is_map: MapOption = False,
    map_by: MapByOption = None,
    all_settings: SettingsOption = False,
) -> None:
    """Run a canister's own module, and report what each call took and touched."""
    if lists_ready_steps(workload) or shows_steps(workload, is_asked=show):
        return
    view, drawn = chosen_map(by, is_map=is_map, by=map_by)
    look = Look(settings=all_settings, map=drawn)
    shown = Output(
        trace,
        output_format,
        view,
        look,
        Pictures(picture, output),
        rows=False,
        page=html,
        force=force,
    )
    _check_output(shown, compare)
    _check_profile(profile, force=force)
    if did is not None and not did.is_file():
        raise UsageError(f"there is no file {did}; --did takes the interface, a .did file")
    held = chosen_limits(limits)
    run_canister(
        CanisterRun(
            workload,
            canisters=_canisters(canister or []),
            did=did,
            image=image,
            limits=held,
            prices=chosen_prices(prices, assume, held),
            track_heap=track_heap,
            time=_time(time),
            seed=seed,
            os_page_bytes=int(os_page) * KIB,
            profile=profile,
            keep_going=keep_going,
        ),
        shown,
        compare,
    )


def _check_profile(profile: Path | None, *, force: bool) -> None:
    if profile is None:
        return
    check_regular(profile)
    if not profile.resolve().parent.is_dir():
        raise UsageError(f"the folder of {profile} is not there; make it first")
    if profile.exists() and not force:
        raise UsageError(
            f"{profile} exists already; choose another file, or add --force if it is an old profile"
        )


def _canisters(given: list[str]) -> list[str]:
    """Return the steps that install further canisters."""
    for text in given:
        name, equals, module = text.partition("=")
        if not (name and equals and module):
            raise UsageError(f"--canister {text[:80]} is not NAME=MODULE, as in ledger=ledger.wasm")
    return [f"install {text}" for text in given]


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"--time {text[:80]} is no date and time; write 2026-07-01 or '2026-07-01 12:00:00'"
        ) from None


def _check_output(shown: Output, compare: Path | None) -> None:
    """Refuse what does not go together, before anything is touched."""
    if compare is not None:
        check_regular(compare)
        if not compare.exists():
            raise UsageError(
                f"there is no trace {compare} to compare with; an earlier run keeps one with "
                f"--trace {compare}"
            )
        if shown.view != "statement":
            raise UsageError("--compare goes call by call; leave --by and --map out")
    if shown.trace is not None:
        check_regular(shown.trace)
        if shown.trace == compare:
            raise UsageError("--trace and --compare name the same file; give each its own")
        if shown.trace.exists() and not shown.force:
            raise UsageError(
                f"{shown.trace} exists already; choose another file, or add --force if it is an "
                "old trace"
            )
    check_pictures(*shown.pictures, force=shown.force)
    check_place(shown.page, force=shown.force)
    if shown.page == STDOUT:
        raise UsageError("--html - would mix the page with the report; give the page a file")
