"""Record the stories of the demo as casts, in the format of asciinema, for the site.

    python docs/casts.py            # writes docs/casts/
    python docs/casts.py --check    # says which are not what a story shows now

A cast has the lines that ``sqlstable demo STORY --slow`` shows on a terminal of 80 columns, and its
times are those of that pace, not of a clock: so it is the same each time. Format: asciinema, cast
file format version 2.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlstable.cli.demo import passage_lines, passages
from sqlstable.cli.output import Screen
from sqlstable.cli.pace import BLOCK_S, pause_s
from sqlstable.cli.stories import StoryName, find_story
from sqlstable.cli.story import Stage

FOLDER = Path(__file__).parent / "casts"
CASTS: tuple[StoryName, ...] = ("survival", "await")
WIDTH, HEIGHT = 80, 36


def cast(name: StoryName) -> str:
    """Tell a story, and return its cast."""
    header = {
        "version": 2,
        "width": WIDTH,
        "height": HEIGHT,
        "title": f"sqlstable demo {name}",
        "env": {"TERM": "xterm-256color"},
    }
    rows = [header, *events(name)]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def events(name: StoryName) -> Iterator[list[object]]:
    """Yield seconds, kind and text of what is shown."""
    at_s = 0.0
    yield [at_s, "o", f"$ sqlstable demo {name}\r\n"]
    at_s += BLOCK_S
    story = find_story(name)
    with TemporaryDirectory() as folder:
        stage, target = Stage(story.engine, Path(folder)), Screen(WIDTH, "truecolor")
        with closing(passages(story, stage, target)) as told:
            for passage in told:
                for written, read in passage_lines(passage.lines, target):
                    yield [round(at_s, 3), "o", written.replace("\n", "\r\n")]
                    at_s += pause_s(read)
    assert stage.checks_hold, f"{name} does not hold"


def main() -> None:
    """Write all casts, or compare them."""
    is_check = sys.argv[1:] == ["--check"]
    for name in CASTS:
        path = FOLDER / f"{name}.cast"
        text = cast(name)
        if not is_check:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            sys.exit(f"{path.name} is not what the story shows: run python docs/casts.py")


if __name__ == "__main__":
    main()
