"""``python -m sqlstable`` is the command ``sqlstable``; it begins here, with nothing imported."""

import sys


def main() -> None:
    """Run the program with the arguments of the command line."""
    try:
        from sqlstable.cli import main as run  # noqa: PLC0415  Ctrl-C may come while it is imported

        run()
    except KeyboardInterrupt:
        sys.stderr.write("Error: interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
