"""A forum with full-text search: what a search touches, and what keeping the index costs.

FTS5 is a virtual table whose index lies in ordinary tables beside it: ``post_text_data`` holds
the words, ``post_text_docsize`` the lengths of the posts, and so on. They lie in stable memory like
all others, so the trace of a run can tell them apart. Triggers keep the index up to date.

    python examples/forum_search.py
"""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from textwrap import fill

import sqlstable

POSTS = 4_000
POSTS_LATER = 100
WORDS_PER_POST = 40
RARE, COMMON = "canister", "memory"
RARE_EVERY, COMMON_EVERY = 250, 4
FOUND_MAX = 10

SCHEMA = """
CREATE TABLE post (post_id INTEGER PRIMARY KEY, author TEXT NOT NULL, body TEXT NOT NULL)
"""

SEARCH_INDEX = """
CREATE VIRTUAL TABLE post_text USING fts5 (body, content = 'post', content_rowid = 'post_id');
CREATE TRIGGER post_added AFTER INSERT ON post BEGIN
  INSERT INTO post_text (rowid, body) VALUES (new.post_id, new.body);
END;
CREATE TRIGGER post_removed AFTER DELETE ON post BEGIN
  INSERT INTO post_text (post_text, rowid, body) VALUES ('delete', old.post_id, old.body);
END;
CREATE TRIGGER post_edited AFTER UPDATE OF body ON post BEGIN
  INSERT INTO post_text (post_text, rowid, body) VALUES ('delete', old.post_id, old.body);
  INSERT INTO post_text (rowid, body) VALUES (new.post_id, new.body);
END;
INSERT INTO post_text (post_text) VALUES ('rebuild');
"""

SCAN = "SELECT post_id, author FROM post WHERE body LIKE '%' || ? || '%'"
SEARCH = """
SELECT post_id, author FROM post JOIN post_text ON post_text.rowid = post_id
WHERE post_text MATCH ?
"""
SEARCHES = {
    "LIKE": SCAN,
    "MATCH": SEARCH,
    "MATCH, best 10": f"{SEARCH} ORDER BY rank LIMIT {FOUND_MAX}",
    "MATCH, newest 10": f"{SEARCH} ORDER BY post_text.rowid DESC LIMIT {FOUND_MAX}",
}

OPTIMIZE = "INSERT INTO post_text (post_text) VALUES ('optimize')"
CHECK = "INSERT INTO post_text (post_text, rank) VALUES ('integrity-check', 1)"

SYLLABLES = ("ba", "ce", "di", "fo", "gu", "la", "me", "ni", "po", "ru", "sa", "te", "vi", "zo")


@dataclass(frozen=True)
class Look:
    """What the messages of one label did."""

    rows: int
    os_pages_accessed: tuple[int, ...]
    "Of each message."
    os_pages_dirty: tuple[int, ...]
    owners: dict[str, int]
    "OS pages that the costliest of them accessed, by table, most first."


@dataclass(frozen=True)
class Forum:
    """All numbers of the story."""

    looks: dict[str, Look]
    "By the label of the messages."
    os_pages_before: int
    "OS pages of the database without the search index."
    os_pages_after: int
    found_equal: bool
    "Whether LIKE and MATCH find the same posts after posting, editing and deleting."


def scattered(number: int, size: int) -> int:
    """Return a whole number below ``size`` that looks random, the same in every run."""
    return number * 2_654_435_761 % 2**32 * size // 2**32


def word(number: int) -> str:
    """Return a word of three syllables; low numbers come far more often than high ones."""
    base = len(SYLLABLES)
    rank = scattered(number, 1_000) ** 3 * base**3 // 1_000**3
    return "".join(SYLLABLES[rank // base**place % base] for place in range(3))


def post(number: int) -> tuple[int, str, str]:
    """Return the row of a post."""
    words = [word(number * WORDS_PER_POST + place) for place in range(WORDS_PER_POST)]
    if number % RARE_EVERY == 0:
        words[7] = RARE
    if number % COMMON_EVERY == 0:
        words[3] = COMMON
    return number, f"author {number % 97}", " ".join(words)


def post_one_by_one(canister: sqlstable.Canister, numbers: Iterable[int], *, label: str) -> None:
    """Send each post as a message of its own."""
    for number in numbers:
        canister.update("INSERT INTO post VALUES (?, ?, ?)", post(number), label=label)


def open_forum() -> sqlstable.Canister:
    """Return a canister with posts, and without a search index."""
    canister = sqlstable.Canister(trace=":memory:")
    canister.update(SCHEMA, label="schema")
    with canister.message(label="load") as message:
        message.execute("BEGIN")
        message.executemany(
            "INSERT INTO post VALUES (?, ?, ?)", [post(number) for number in range(1, POSTS + 1)]
        )
        message.execute("COMMIT")
    return canister


def search(canister: sqlstable.Canister) -> None:
    """Look for a rare and for a common word, in every way."""
    for text in (RARE, COMMON):
        for way, sql in SEARCHES.items():
            canister.query(sql, (text,), label=f"{way}: {text}")


def edit(canister: sqlstable.Canister) -> None:
    """Change one post, which then has the rare word, and delete another one, which had it."""
    text = f"I meant to say {RARE}"
    canister.update("UPDATE post SET body = ? WHERE post_id = ?", (text, 17), label="edit")
    canister.update("DELETE FROM post WHERE post_id = ?", (RARE_EVERY,), label="delete")


def look(trace: sqlstable.Trace) -> dict[str, Look]:
    """Return what a trace says of the messages of each label."""
    labels = dict.fromkeys(message.label for message in trace.messages if message.label)
    return {label: look_at(trace, label) for label in labels}


def look_at(trace: sqlstable.Trace, label: str) -> Look:
    """Return what a trace says of the messages of one label."""
    messages = [message for message in trace.messages if message.label == label]
    costliest = max(messages, key=lambda message: message.stable.os_pages_accessed)
    statements = [trace.statements[index] for index in costliest.statements]
    owners: dict[str, int] = {}
    for use in (use for statement in statements for use in statement.owners):
        owners[use.name] = owners.get(use.name, 0) + use.os_pages_accessed
    return Look(
        rows=sum(statement.row_count for statement in statements),
        os_pages_accessed=tuple(message.stable.os_pages_accessed for message in messages),
        os_pages_dirty=tuple(message.stable.os_pages_dirty for message in messages),
        owners=owners,
    )


def database_os_pages(canister: sqlstable.Canister) -> int:
    """Return how many OS pages the database fills."""
    return canister.status().database_size_bytes // 4096


def measure() -> Forum:
    """Run the forum, and return its numbers."""
    with open_forum() as canister:
        first, later = POSTS + 1, POSTS + 1 + POSTS_LATER
        post_one_by_one(canister, range(first, later), label="post, no index")
        os_pages_before = database_os_pages(canister)
        canister.update(SEARCH_INDEX, label="index")
        os_pages_after = database_os_pages(canister)
        search(canister)
        post_one_by_one(canister, range(later, later + POSTS_LATER), label="post, index")
        edit(canister)
        canister.update(CHECK, label="check")
        found = [sorted(canister.query(sql, (RARE,)).rows) for sql in (SCAN, SEARCH)]
        canister.query(SEARCH, (RARE,), label="in pieces")
        canister.update(OPTIMIZE, label="optimize")
        canister.query(SEARCH, (RARE,), label="optimized")
        with canister.trace() as trace:
            looks = look(trace)
    return Forum(looks, os_pages_before, os_pages_after, found[0] == found[1])


def search_line(way: str, look: Look) -> str:
    """Spell one row of the table of searches."""
    (os_pages,) = look.os_pages_accessed
    posts, words, lengths = (
        look.owners.get(name, 0) for name in ("post", "post_text_data", "post_text_docsize")
    )
    others = os_pages - posts - words - lengths
    return f"  {way:17}{look.rows:6,}{os_pages:10}{posts:9}{words:16}{lengths:19}{others:8}"


def cost_line(name: str, look: Look) -> str:
    """Spell one row of the table of posting."""
    dirty = look.os_pages_dirty
    return f"  {name:17}{median(dirty):6.0f}{max(dirty):9}{sum(dirty):9,}"


def story(forum: Forum) -> str:
    """Tell what was measured."""
    looks = forum.looks
    rare, common = (
        "\n".join(search_line(way, looks[f"{way}: {text}"]) for way in SEARCHES)
        for text in (RARE, COMMON)
    )
    indexed = looks["post, index"]
    whose = ", ".join(f"{name} {count}" for name, count in indexed.owners.items())
    pieces, optimized = (looks[label].os_pages_accessed[0] for label in ("in pieces", "optimized"))
    edited, deleted, merged = (
        looks[label].os_pages_dirty[0] for label in ("edit", "delete", "optimize")
    )
    before, after = forum.os_pages_before, forum.os_pages_after
    return f"""\
1. A search, cold: OS pages accessed, and whose they are

                     rows     total     post  post_text_data  post_text_docsize  others
  "{RARE}", in one of {RARE_EVERY} posts
{rare}
  "{COMMON}", in one of {COMMON_EVERY} posts
{common}

  LIKE reads every post. MATCH finds the word at once, and then reads the posts that have it; those
  with a common word lie on all OS pages again, so ask for a few. Ranking them also reads their
  lengths, in post_text_docsize.

2. The price: OS pages that a message with one post dirties

                   median     most    {POSTS_LATER} posts
{cost_line("without index", looks["post, no index"])}
{cost_line("with index", indexed)}

  Most posts add a little to the index. Now and then FTS5 merges what has come together, and one
  post has to pay for it. Whose OS pages the costliest post touched:
{fill(whose, 94, initial_indent="  ", subsequent_indent="  ")}

  The database has {before} OS pages without the index, {after} with it.

3. Triggers keep the index right

  editing a post dirties {edited} OS pages, deleting one {deleted}
  afterwards LIKE and MATCH find {"the same" if forum.found_equal else "DIFFERENT"} posts
  MATCH for "{RARE}" accesses {pieces} OS pages by now, and {optimized} after an 'optimize', \
which dirties {merged}
"""


def main() -> Forum:
    """Measure, tell, and return the numbers."""
    forum = measure()
    print(story(forum), end="")
    return forum


if __name__ == "__main__":
    main()
