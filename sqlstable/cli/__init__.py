"""The command line: one module for each command, and what they share.

``failures`` turns errors into messages and exit statuses, ``output`` knows the terminal. The module
of a command is imported when the command is asked for: help and version need none of them.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any, Final

import typer

from sqlstable.cli.failures import SafeGroup, run_program
from sqlstable.cli.version import print_version


@dataclass(frozen=True, slots=True)
class Listed:
    """A command that has not been imported."""

    place: str
    "Its module and function."
    summary: str
    "First line of the function's docstring, for the help that lists all commands."


COMMANDS: Final = {
    "demo": Listed(
        "demo.show_demo",
        "See in a few seconds which OS pages SQL touches, and an upgrade that loses nothing.",
    ),
    "run": Listed(
        "run.run_script",
        "Run a workload script and report the OS pages that each statement touched.",
    ),
    "report": Listed(
        "report.report_trace", "Show a trace file: what was touched, and whose it was."
    ),
    "bill": Listed(
        "bill.bill_month", "Say what a month of the calls in a trace costs, in cycles and money."
    ),
    "canister": Listed(
        "run_canister.run_workload",
        "Run a canister's own module, and report what each call took and touched.",
    ),
    "bench": Listed(
        "bench.bench_module",
        "Run the canbench benchmarks of a module, and show the pages that each touches, too.",
    ),
    "check": Listed(
        "check.check_costs",
        "Hold a run to budgets, and compare it with a baseline; exits with 1 where it costs more.",
    ),
    "prices": Listed(
        "show_prices.show_prices",
        "Show the price lists: dates, formulas, sources, and what they assume.",
    ),
    "scale": Listed(
        "scale.scale_script", "Run a script at several sizes, and say how far it scales."
    ),
    "sweep": Listed(
        "sweep.sweep_script",
        "Run a script under every combination of settings, and say which serve it best.",
    ),
    "schema migrate": Listed(
        "schema_migrate.migrate_image",
        "Take the database in an image to another schema, by as many messages as it takes.",
    ),
    "schema status": Listed(
        "schema_standing.show_status",
        "Say which migrations an image has had, where its tables stand, and how far one is.",
    ),
    "schema rollback": Listed(
        "schema_life.roll_back",
        "Take back the last migration of an image, by the way back that its ledger keeps.",
    ),
    "schema deprecate": Listed(
        "schema_life.deprecate_table",
        "Refuse writes to a table of an image from now on; it can be read.",
    ),
    "schema restore": Listed(
        "schema_life.restore_table",
        "Let a deprecated or unused table of an image be live again, with all its rows.",
    ),
    "schema remove": Listed(
        "schema_life.remove_table",
        "Drop an unused table of an image, with its rows; nothing else drops one.",
    ),
    "reclaim": Listed(
        "reclaim.reclaim_space",
        "Say what a database has free, what gives it back at what cost, and what stays to be paid.",
    ),
    "schema check": Listed(
        "schema_checking.check_schema",
        "Say whether a schema can become another one and come back, with the SQL and what it "
        "costs.",
    ),
    "upgrade compare": Listed(
        "upgrade.compare_ways",
        "Measure serialising the heap at every upgrade beside staying in stable memory.",
    ),
    "import": Listed(
        "import_.import_database",
        "Make an image of stable memory that holds a database, for run --image and canisters.",
    ),
    "extract": Listed(
        "extract.extract_to_file",
        "Take a database out of an image of stable memory, as a plain SQLite file.",
    ),
    "inspect": Listed(
        "inspect.inspect_path",
        "Say what an image, a snapshot or a database is, what it holds, and what to type next.",
    ),
    "status": Listed(
        "image_status.show_status",
        "Say what dfx canister status would: memory, idle burn, and how long a balance lasts.",
    ),
    "snapshot take": Listed(
        "snapshot.take",
        "Take a snapshot of an image: a copy of what has changed since the last.",
    ),
    "snapshot list": Listed(
        "snapshot.list_all", "List the snapshots of an image, with what they cost."
    ),
    "snapshot load": Listed(
        "snapshot.load", "Put a snapshot in the place of what an image holds now."
    ),
    "snapshot delete": Listed("snapshot.delete", "Delete a snapshot of an image."),
    "snapshot download": Listed(
        "snapshot.download", "Write a snapshot as the folder that dfx and icp-cli upload."
    ),
    "snapshot upload": Listed(
        "snapshot.upload", "Take in the folder that dfx or icp-cli has downloaded a snapshot to."
    ),
}
"""The commands by name; one of two words, as in ``upgrade compare``, is in a group."""

SETTINGS: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Commands(SafeGroup):
    """The commands, each made when somebody asks for it; those of two words in a group."""

    prefix = ""
    "What the names in `COMMANDS` begin with that belong to this group."

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401  typer's own types moved
        """Return the names of all commands, of a group its own."""
        return list(dict.fromkeys(name.partition(" ")[0] for name, _ in self._listed()))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401  likewise
        """Import and make a command, or a group; None where there is none of that name."""
        name = self.prefix + cmd_name
        listed = COMMANDS.get(name)
        if listed is None:
            return _group(name) if any(it.startswith(f"{name} ") for it in COMMANDS) else None
        module, _, function = listed.place.partition(".")
        single = _typer()
        single.command(cmd_name)(getattr(import_module(f"sqlstable.cli.{module}"), function))
        return typer.main.get_command(single)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401  likewise
        """List all commands without making any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, it.summary) for name, it in self._listed()])

    def _listed(self) -> list[tuple[str, Listed]]:
        """Return the commands of this group, by what is behind its own name."""
        prefix = self.prefix
        return [(it.removeprefix(prefix), COMMANDS[it]) for it in COMMANDS if it.startswith(prefix)]


def _group(name: str) -> Any:  # noqa: ANN401  likewise
    """Make the group of the commands that begin with a word."""
    app = _typer(name=name, cls=Commands, no_args_is_help=True)
    app.callback(help=f"Commands of {name}; each has its own --help.")(lambda: None)
    group = typer.main.get_command(app)
    assert isinstance(group, Commands)
    group.prefix = f"{name} "
    return group


def _typer(**options: Any) -> typer.Typer:  # noqa: ANN401  typer's options are many
    return typer.Typer(
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings=SETTINGS,
        **options,
    )


app = _typer(name="sqlstable", cls=Commands)


@app.callback(invoke_without_command=True)
def commands(
    context: typer.Context,
    *,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Run SQLite on simulated Internet Computer stable memory.

    See for each SQL statement which 4 KiB OS pages it touches, and whose they are.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> None:
    """Run the program with the arguments of the command line."""
    run_program(app)
