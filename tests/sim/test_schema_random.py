"""Random pairs of schemas, and databases of the first: what is promised holds."""

import random
from collections import Counter

import apsw
import pytest

from sqlstable.errors import SchemaError
from sqlstable.schema.schema_check import check_schemas
from sqlstable.schema.schema_model import Schema
from tests.pair_world import VALUES, content, described, fill, made, problems, works_alike

pytestmark = pytest.mark.sim

NAMES = ("a", "b", "c", "Select", "x y", "d'e", "ä")
TYPES = ("INTEGER", "TEXT", "REAL", "BLOB", "NUMERIC", "", "VARCHAR(9)", "INT")
STRICT_TYPES = ("INTEGER", "TEXT", "REAL", "BLOB", "ANY", "INT")
DEFAULTS = ("0", "'x'", "-1.5", "NULL", "(1 + 1)", "x'00'")
CHECKS = ("{0} <> 7", "{0} IN (1, 2, 'a', 'b')", "{0} IN (1, 2, 'a')", "{0} > 0", "{0} >= 0")
RULES = ("UNIQUE ({0})", "UNIQUE ({0}, {1})", "CHECK ({0} IS NOT {1})")

ROUNDS = 1000


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


class Chance:
    """Makes schemas and changes them, by one seed."""

    def __init__(self, seed):
        self.rng = random.Random(seed)

    def often(self, share):
        return self.rng.random() < share

    def column(self, name, *, is_strict):
        rng = self.rng
        return {
            "name": name,
            "type": rng.choice(STRICT_TYPES if is_strict else TYPES),
            "not null": self.often(0.2),
            "default": rng.choice(DEFAULTS) if self.often(0.3) else None,
            "collate": "NOCASE" if self.often(0.15) else None,
            "unique": self.often(0.1),
            "check": rng.choice(CHECKS) if self.often(0.15) else None,
            "as": rng.choice(("VIRTUAL", "STORED")) if self.often(0.1) else None,
        }

    def table(self, name):
        is_strict = self.often(0.2)
        names = self.rng.sample(NAMES, self.rng.randrange(1, 5))
        table = {
            "name": name,
            "strict": is_strict,
            "key": self.rng.choice(("rowid", "rowid", "auto", "columns", "without", "none")),
            "columns": [self.column(it, is_strict=is_strict) for it in names],
            "rules": [self.rng.choice(RULES)] if self.often(0.2) else [],
            "parent": None,
            "action": self.rng.choice(("", " ON DELETE CASCADE", " ON DELETE SET NULL")),
        }
        table["columns"][0]["as"] = None
        return table

    def schema(self):
        tables = [self.table(name) for name in ("t", "u", "V 1")[: self.rng.randrange(1, 4)]]
        if len(tables) > 1 and self.often(0.5):
            tables[0]["parent"] = self.rng.choice(tables)["name"]
        return {
            "tables": tables,
            "indexes": [self.index(tables, number) for number in range(self.rng.randrange(3))],
            "views": self.often(0.4),
            "trigger": self.often(0.3),
        }

    def index(self, tables, number):
        table = self.rng.choice(tables)
        columns = self.rng.sample(
            table["columns"], self.rng.randrange(1, len(table["columns"]) + 1)
        )
        return {
            "name": f"i{number}",
            "table": table["name"],
            "columns": [it["name"] for it in columns],
            "unique": self.often(0.3),
            "lower": self.often(0.2),
            "where": self.often(0.2),
        }

    def change(self, schema):  # noqa: PLR0912  one for each kind of change
        """Change one thing of a schema, and return it."""
        rng = self.rng
        table = rng.choice(schema["tables"])
        column = rng.choice(table["columns"])
        fresh = [it for it in NAMES if it not in [one["name"] for one in table["columns"]]]
        match rng.randrange(15):
            case 0 | 1 if fresh:
                new = self.column(rng.choice(fresh), is_strict=table["strict"])
                at = rng.choice((len(table["columns"]), rng.randrange(len(table["columns"]) + 1)))
                table["columns"].insert(at, new)
            case 2 if len(table["columns"]) > 1:
                table["columns"].remove(column)
            case 3:
                column["type"] = rng.choice(STRICT_TYPES if table["strict"] else TYPES)
            case 4:
                column["not null"] = not column["not null"]
            case 5:
                column["default"] = rng.choice((None, *DEFAULTS))
            case 6:
                column["collate"] = None if column["collate"] else "NOCASE"
            case 7:
                column["unique"] = not column["unique"]
            case 8:
                column["check"] = rng.choice((None, *CHECKS))
            case 9:
                column["as"] = rng.choice((None, "VIRTUAL", "STORED"))
            case 10:
                table["key"] = rng.choice(("rowid", "auto", "columns", "without", "none"))
            case 11:
                names = [it["name"] for it in schema["tables"]]
                table["parent"] = rng.choice((None, *names))
            case 12:
                schema["indexes"] = [
                    self.index(schema["tables"], number) for number in range(rng.randrange(3))
                ]
            case 13:
                schema["views"] = not schema["views"]
                table["action"] = rng.choice(("", " ON DELETE CASCADE"))
            case _:
                rng.shuffle(table["columns"])
                table["rules"] = [rng.choice(RULES)] if self.often(0.5) else []
        return schema


def column_sql(table, column):
    words = [quoted(column["name"]), column["type"]]
    first = quoted(table["columns"][0]["name"])
    if column["as"] and column is not table["columns"][0]:
        words.append(f"AS (typeof({first})) {column['as']}")
    elif column["default"]:
        words.append(f"DEFAULT {column['default']}")
    if column["not null"]:
        words.append("NOT NULL")
    if column["collate"]:
        words.append("COLLATE NOCASE")
    if column["unique"]:
        words.append("UNIQUE")
    if column["check"]:
        words.append(f"CHECK ({column['check'].format(quoted(column['name']))})")
    return " ".join(words)


def table_sql(table):
    parts = [column_sql(table, it) for it in table["columns"]]
    first = quoted(table["columns"][0]["name"])
    last = quoted(table["columns"][-1]["name"])
    key = {"rowid": ["id INTEGER PRIMARY KEY"], "auto": ["id INTEGER PRIMARY KEY AUTOINCREMENT"]}
    parts = [*key.get(table["key"], ()), *parts]
    if table["key"] in ("columns", "without"):
        parts.append(f"PRIMARY KEY ({first})")
    parts += [rule.format(first, last) for rule in table["rules"]]
    if table["parent"]:
        parts.append(f"FOREIGN KEY ({last}) REFERENCES {quoted(table['parent'])}{table['action']}")
    options = [
        *(["WITHOUT ROWID"] if table["key"] == "without" else []),
        *(["STRICT"] if table["strict"] else []),
    ]
    return f"CREATE TABLE {quoted(table['name'])} ({', '.join(parts)}) {', '.join(options)};"


def index_sql(index):
    terms = [quoted(it) for it in index["columns"]]
    if index["lower"]:
        terms[0] = f"lower({terms[0]})"
    where = f" WHERE {quoted(index['columns'][-1])} IS NOT NULL" if index["where"] else ""
    unique = "UNIQUE " if index["unique"] else ""
    table = quoted(index["table"])
    return f"CREATE {unique}INDEX {index['name']} ON {table} ({', '.join(terms)}){where};"


def sql_of(schema):
    lines = [table_sql(it) for it in schema["tables"]]
    lines += [index_sql(it) for it in schema["indexes"]]
    table = schema["tables"][-1]
    first = quoted(table["columns"][0]["name"])
    if schema["views"]:
        lines.append(f"CREATE VIEW w AS SELECT {first} AS shown FROM {quoted(table['name'])};")
        lines.append("CREATE VIEW w2 AS SELECT shown FROM w WHERE shown IS NOT NULL;")
    if schema["trigger"]:
        other = quoted(schema["tables"][0]["name"])
        lines.append(
            f"CREATE TRIGGER r AFTER DELETE ON {quoted(table['name'])} WHEN OLD.{first} = 'a' "
            f"BEGIN DELETE FROM {other} WHERE 0; END;"
        )
    return "\n".join(lines)


def pair_of(seed):
    """Return a random pair of schemas that SQLite accepts, or None."""
    chance = Chance(seed)
    schema = chance.schema()
    old = sql_of(schema)
    for _ in range(chance.rng.randrange(1, 5)):
        schema = chance.change(schema)
    new = sql_of(chance.schema() if chance.often(0.1) else schema)
    try:
        return old, new, Schema.from_sql(old), Schema.from_sql(new)
    except SchemaError:
        return None


def without_texts(found):
    return {name: it for name, it in found.items() if name[0] != "table"}


def state(connection):
    return content(connection), described(connection), problems(connection)


def migrated(connection, migration):
    """Run a migration; returns whether it went through, after which nothing is half done."""
    try:
        connection.execute(migration.script).fetchall()
    except apsw.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        return False
    return True


def dropped_names(old):
    """Return all names, so that no pair is a question of names."""
    return [
        name
        for table in old.tables
        for name in (table.name, *(f"{table.name}.{it.name}" for it in table.columns))
    ]


def try_pair(seed, seen):
    pair = pair_of(seed)
    if pair is None:
        seen["refused by SQLite"] += 1
        return
    old_sql, new_sql, old, new = pair
    found = check_schemas(old, new, dropped=dropped_names(old))
    seen[found.verdict] += 1
    assert (found.migration is None) == (found.verdict == "incompatible")
    if any(it.name == "the whole" for it in found.changes):
        raise AssertionError(found.changes)
    connection = made(":memory:", old_sql)
    fill(connection, seed, row_count=15)
    before = state(connection)
    by_rows = check_schemas(old, new, dropped=dropped_names(old), data=connection)
    assert state(connection) == before
    seen[f"{found.verdict}, by rows {by_rows.verdict}"] += 1
    if found.verdict in ("same", "both ways"):
        assert by_rows.verdict == found.verdict, by_rows.changes
    migration = found.migration or by_rows.migration
    if migration is None:
        return
    is_through = migrated(connection, migration)
    assert is_through == (by_rows.verdict != "incompatible"), by_rows.changes
    if not is_through:
        assert state(connection) == before
        return
    wanted = described(made(":memory:", new_sql))
    assert without_texts(described(connection)) == without_texts(wanted)
    assert problems(connection)[0] == [("ok",)]
    if by_rows.verdict in ("same", "both ways"):
        assert by_rows.rollback is not None
        assert migrated(connection, by_rows.rollback)
        after = state(connection)
        assert after[0] == before[0]
        assert without_texts(after[1]) == without_texts(before[1])
        assert after[2] == before[2]


def try_old_code(seed, seen):
    """Carry out statements of the old code where it is said that they work as they did."""
    pair = pair_of(seed)
    if pair is None:
        return
    old_sql, _, old, new = pair
    found = check_schemas(old, new, dropped=dropped_names(old))
    if found.old_code != "works" or found.migration is None or found.verdict == "same":
        return
    twins = [made(":memory:", old_sql) for _ in range(2)]
    for connection in twins:
        # Behind the largest rowid SQLite gives random ones.
        fill(connection, seed, row_count=15, values=[it for it in VALUES if it != 2**63 - 1])
    if migrated(twins[1], found.migration):
        seen["works"] += 1
        works_alike(*twins, seed)


@pytest.mark.parametrize("part", range(10))
def test_random_pairs(part):
    seen = Counter()
    for seed in range(part * ROUNDS // 10, (part + 1) * ROUNDS // 10):
        try:
            try_pair(seed, seen)
            try_old_code(seed, seen)
        except Exception as error:
            pair = pair_of(seed)
            raise AssertionError(f"seed {seed}\n{pair[0]}\n--\n{pair[1]}\n{error}") from error
    assert min(seen[it] for it in ("both ways", "forward only", "incompatible")) > 5, seen
    assert seen["works"] > 0
