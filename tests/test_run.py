"""Scripts on a canister: each directive, each kind of failure, and that looking changes nothing."""

from dataclasses import replace

import apsw
import pytest

from sqlstable import Canister, MessageError, latest_limits
from sqlstable.engine.native.native_engine import is_complete
from sqlstable.workload.execution import TRAP_TEXT, RunOutcome, run_steps
from sqlstable.workload.script import parse_script


class Ran:
    """What a script did: the outcome, the trace's messages and statements, and the rows."""

    def __init__(
        self,
        script,
        *,
        folder=None,
        cache="cold",
        canister=None,
        look=True,
        engine="native",
        **options,
    ):
        steps = parse_script(script, is_complete=is_complete, base_folder=folder)
        self.results = []
        self.steps = []
        with canister or Canister(trace=":memory:", limits=None, engine=engine) as used:
            self.outcome = run_steps(
                used,
                steps,
                cache=cache,
                name="work.sql",
                on_step=lambda step, done: self.steps.append((step.line, done)),
                on_rows=self._on_rows if look else None,
                **options,
            )
            self.image = used.image()
            self.trace = used.trace()
        self.messages = self.trace.messages
        self.statements = self.trace.statements
        self.trace.close()

    def _on_rows(self, step, statement, found):
        self.results.append((statement.line, found.columns, found.rows))

    @property
    def rows(self):
        return [rows for _, _, rows in self.results]

    @property
    def kinds(self):
        return [message.kind for message in self.messages[1:]]


def test_a_statement_alone_is_a_query_if_it_only_reads_else_an_update():
    ran = Ran(
        "CREATE TABLE t (x); INSERT INTO t VALUES (1); SELECT x FROM t;"
        "WITH w AS (SELECT 1) SELECT * FROM w; WITH w AS (SELECT 2) INSERT INTO t SELECT * FROM w;"
        "EXPLAIN DELETE FROM t; VALUES (1); ANALYZE; UPDATE t SET x = 3 RETURNING x"
    )
    assert ran.kinds == [
        *("update", "update", "query", "query", "update", "query", "query", "update", "update")
    ]
    assert ran.outcome == RunOutcome(9, 0, None, None)


def test_a_pragma_that_looks_at_the_database_is_a_query_and_any_other_an_update():
    looking = (
        *("PRAGMA table_info(t)", "PRAGMA integrity_check", "PRAGMA main.index_list('t')"),
        *("PRAGMA user_version", "PRAGMA page_count", "PRAGMA foreign_key_check"),
    )
    setting = (
        *(
            "PRAGMA user_version = 4",
            "PRAGMA cache_size",
            "PRAGMA cache_size(7)",
            "PRAGMA optimize",
        ),
        *("PRAGMA foreign_keys = on", "PRAGMA encoding = 'UTF-8'", "PRAGMA no_such_pragma"),
    )
    with Canister() as canister:
        canister.update("CREATE TABLE t (x)")
        assert all(map(canister.engine.is_readonly, looking))
        assert not any(map(canister.engine.is_readonly, setting))


@pytest.mark.parametrize(
    "sql",
    ["BEGIN", "COMMIT", "SAVEPOINT a", "RELEASE a", "ATTACH ':memory:' AS b", "DETACH b"],
)
def test_what_changes_the_connection_is_not_readonly(sql):
    with Canister() as canister:
        assert not canister.engine.is_readonly(sql)


def test_what_cannot_be_prepared_is_not_readonly():
    with Canister() as canister:
        engine = canister.engine
        for sql in ("SELECT * FROM missing", "SELEKT", "SELECT ?", "SELECT '\ud800'", "DROP TABLE"):
            assert not engine.is_readonly(sql)
        assert engine.is_readonly("SELECT ?", (1,))


def test_readonly_follows_the_schema_and_the_functions_of_the_connection():
    with Canister() as canister:
        assert not canister.engine.is_readonly("SELECT x FROM t")
        canister.update("CREATE TABLE t (x)")
        assert canister.engine.is_readonly("SELECT x FROM t")
        assert not canister.engine.is_readonly("SELECT twice(x) FROM t")
        canister.on_connect(lambda db: db.create_scalar_function("twice", lambda x: 2 * x, 1))
        assert canister.engine.is_readonly("SELECT twice(x) FROM t")
        canister.upgrade()
        assert canister.engine.is_readonly("SELECT twice(x) FROM t")
        canister.reinstall()
        assert not canister.engine.is_readonly("SELECT x FROM t")


def test_a_setup_that_refuses_readers_does_not_keep_from_asking():
    def setup(db):
        if db.readonly("main"):
            raise apsw.ReadOnlyError

    with Canister() as canister:
        canister.on_connect(setup)
        assert canister.engine.is_readonly("SELECT 1")


@pytest.mark.parametrize("cache", ["fresh", "cold", "warm"])
def test_looking_at_rows_and_kinds_changes_no_count(cache):
    script = """
    CREATE VIRTUAL TABLE found USING fts5(body);
    INSERT INTO found VALUES ('one two'), ('two three');
    SELECT body FROM found WHERE found MATCH 'two';
    BEGIN; CREATE TABLE t (x); INSERT INTO t VALUES (1) RETURNING x; SELECT x FROM t; COMMIT;
    SELECT x FROM t;
    PRAGMA table_info(t);
    --@ upgrade
    SELECT x FROM t ORDER BY x;
    """
    explicit = """
    --@ update
    CREATE VIRTUAL TABLE found USING fts5(body);
    --@ update
    INSERT INTO found VALUES ('one two'), ('two three');
    --@ query
    SELECT body FROM found WHERE found MATCH 'two';
    --@ update
    BEGIN; CREATE TABLE t (x); INSERT INTO t VALUES (1) RETURNING x; SELECT x FROM t; COMMIT;
    --@ query
    SELECT x FROM t;
    --@ query
    PRAGMA table_info(t);
    --@ upgrade
    --@ query
    SELECT x FROM t ORDER BY x;
    """
    asked = Ran(script, cache=cache)
    told = Ran(explicit, cache=cache, look=False)
    assert asked.outcome.failure is None
    assert asked.statements == told.statements
    assert asked.messages == told.messages
    assert asked.image == told.image


def test_rows_come_with_the_names_of_their_columns():
    ran = Ran(
        "CREATE TABLE t (x, y);\nINSERT INTO t VALUES (1, 'a'), (2, NULL) RETURNING x AS n;\n"
        "SELECT x AS number, y FROM t;\nSELECT x FROM t WHERE x > 9;\nUPDATE t SET x = x + 1;"
    )
    assert ran.results == [
        (2, ("n",), [(1,), (2,)]),
        (3, ("number", "y"), [(1, "a"), (2, None)]),
        (4, ("x",), []),
    ]


def test_a_transaction_is_one_update_message():
    ran = Ran("CREATE TABLE t (x); BEGIN; INSERT INTO t VALUES (1); SELECT x FROM t; COMMIT;")
    assert ran.kinds == ["update", "update"]
    assert len(ran.messages[2].statements) == 4
    assert ran.rows == [[(1,)]]


def test_an_update_directive_makes_one_message_of_several_statements():
    ran = Ran("--@ update\nCREATE TABLE t (x);\nINSERT INTO t VALUES (1);\nSELECT x FROM t;")
    assert ran.kinds == ["update"]
    assert ran.messages[1].outcome == "committed"
    assert ran.rows == [[(1,)]]


def test_a_query_that_writes_runs_is_discarded_and_marked():
    ran = Ran(
        "CREATE TABLE t (x);\n--@ query\nINSERT INTO t VALUES (1);\nSELECT count(*) FROM t;\n"
        "--@ query\nSELECT count(*) FROM t;"
    )
    assert ran.outcome.failure is None
    assert ran.kinds == ["update", "query", "query"]
    assert [message.discarded_writes for message in ran.messages[1:]] == [False, True, False]
    assert ran.messages[2].outcome == "discarded"
    assert ran.rows == [[(1,)], [(0,)]]


@pytest.mark.parametrize("cache", ["fresh", "cold", "warm"])
def test_queries_begin_in_the_cache_state_asked_for(cache):
    ran = Ran("CREATE TABLE t (x); SELECT x FROM t; --\n--@ query\nSELECT x FROM t;", cache=cache)
    assert [message.cache for message in ran.messages] == [None, "warm", cache, cache]


def test_a_label_names_messages_and_life_cycle_steps():
    ran = Ran(
        "--@ label setup\nCREATE TABLE t (x);\n--@ label new code\n--@ upgrade\n"
        "--@ label wipe\n--@ reinstall\nSELECT 1;"
    )
    labels = [(message.kind, message.label) for message in ran.messages[1:]]
    assert labels == [
        ("update", "setup"),
        ("upgrade", "new code"),
        ("reinstall", "wipe"),
        ("query", None),
    ]


def test_an_upgrade_keeps_the_data_and_a_reinstall_does_not():
    ran = Ran(
        "CREATE TABLE t (x); INSERT INTO t VALUES (7);\n--@ upgrade\nSELECT x FROM t;\n"
        "--@ reinstall\nSELECT count(*) FROM sqlite_schema;"
    )
    assert ran.rows == [[(7,)], [(0,)]]


def test_what_lives_in_the_heap_ends_with_an_upgrade():
    script = "CREATE TEMP TABLE gone (x);\nSELECT count(*) FROM gone;\n--@ upgrade\n"
    ran = Ran(f"{script}SELECT count(*) FROM gone;")
    assert ran.rows == [[(0,)]]
    assert ran.outcome.failure.startswith("work.sql, line 4: no such table: gone")


def test_repeat_sends_a_message_again_and_again():
    ran = Ran(
        "CREATE TABLE t (x);\n--@ repeat 3\nINSERT INTO t VALUES (1);\nSELECT count(*) FROM t;"
    )
    assert ran.kinds == ["update", "update", "update", "update", "query"]
    assert ran.rows == [[(3,)]]
    assert [done for _, done in ran.steps] == [1, 2, 3, 4, 5]


def test_repeated_rows_are_handed_over_each_time():
    ran = Ran("--@ repeat 2\nSELECT 1 AS one;")
    assert ran.results == [(2, ("one",), [(1,)])] * 2


def test_params_of_a_statement_that_writes_are_one_statement_with_many_runs(tmp_path):
    (tmp_path / "rows.csv").write_text("1,a\n2,\n3,c\n")
    ran = Ran(
        "CREATE TABLE t (x, y);\n--@ params rows.csv\nINSERT INTO t VALUES (?, ?) RETURNING x;\n"
        "SELECT y FROM t;",
        folder=tmp_path,
    )
    insert = ran.statements[1]
    assert (insert.runs, insert.row_count) == (3, 3)
    assert len(ran.messages[2].statements) == 1
    assert ran.rows == [[(1,), (2,), (3,)], [("a",), (None,), ("c",)]]


@pytest.mark.parametrize("engine", ["native", "wasm"])
@pytest.mark.parametrize("sql", ["INSERT INTO t VALUES (:a, json(:b))", "SELECT :a, json(:b)"])
def test_a_row_that_is_refused_is_named_by_its_line_in_the_csv_file(engine, sql, tmp_path):
    """Lines are those of an editor: there is a heading, and a field may have several."""
    (tmp_path / "rows.csv").write_text('a,b\n1,"[1,\n2]"\n2,3\n4,{\n5,6\n')
    canister = Canister(trace=":memory:", limits=None, engine=engine)
    script = f"CREATE TABLE t (x, y);\n--@ params rows.csv\n{sql};\n"
    ran = Ran(script, folder=tmp_path, canister=canister)
    assert ran.outcome.failure == (f"work.sql, line 3: rows.csv, line 5: malformed JSON; in: {sql}")
    assert len(ran.messages) == 3, "all rows are one message"


def test_params_of_a_statement_that_reads_are_a_statement_each(tmp_path):
    (tmp_path / "rows.csv").write_text("1\n2\n9\n")
    ran = Ran(
        "CREATE TABLE t (x);INSERT INTO t VALUES (1), (2);\n--@ params rows.csv\n"
        "SELECT x FROM t WHERE x = ?;",
        folder=tmp_path,
    )
    assert ran.kinds == ["update", "update", "query"]
    assert [ran.statements[index].runs for index in ran.messages[3].statements] == [1, 1, 1]
    assert ran.rows == [[(1,), (2,)]]


def test_params_that_do_not_fit_fail_with_the_line_of_the_statement(tmp_path):
    (tmp_path / "rows.csv").write_text("1,2\n")
    ran = Ran(
        "CREATE TABLE t (x);\n--@ params rows.csv\nINSERT INTO t VALUES (?);", folder=tmp_path
    )
    assert "work.sql, line 3: rows.csv, line 1: the statement has" in ran.outcome.failure


def test_a_parameter_without_params_fails():
    ran = Ran("SELECT ?;")
    assert ran.kinds == ["update"]
    assert "line 1: the statement has 1 parameters, and no values are given" in ran.outcome.failure


def test_an_intended_trap_leaves_nothing_and_is_no_failure():
    ran = Ran(
        "CREATE TABLE t (x);\n--@ update\nINSERT INTO t VALUES (1);\nSELECT x FROM t;\n--@ trap\n"
        "SELECT count(*) FROM t;"
    )
    assert ran.outcome == RunOutcome(3, 1, None, None)
    trapped = ran.messages[2]
    assert (trapped.outcome, trapped.trap) == ("trapped", TRAP_TEXT)
    assert ran.rows == [[(0,)]], "a message that traps answers nothing"


def test_a_trap_asked_for_beforehand_can_be_repeated():
    ran = Ran("CREATE TABLE t (x);\n--@ trap\n--@ repeat 2\nINSERT INTO t VALUES (1);\nSELECT 1;")
    assert [message.outcome for message in ran.messages[2:]] == ["trapped", "trapped", "discarded"]
    assert ran.outcome.intended_traps == 2


def test_a_message_that_fails_before_its_trap_has_failed():
    ran = Ran("--@ trap\nINSERT INTO missing VALUES (1);\nSELECT 1;")
    assert ran.outcome.failure.startswith("work.sql, line 2: no such table: missing")
    assert ran.outcome.intended_traps == 0


def test_an_await_ends_the_message():
    ran = Ran(
        "--@ update\nCREATE TABLE t (x);\n--@ await\nINSERT INTO t VALUES (1);\n"
        "--@ query\nSELECT 1;"
    )
    assert ran.kinds == ["update", "update", "query"]
    assert ran.outcome.failure is None


def test_an_await_inside_of_a_transaction_is_refused_with_the_reason():
    ran = Ran(
        "CREATE TABLE t (x);\n--@ update\nBEGIN;\nINSERT INTO t VALUES (1);\n--@ await\nCOMMIT;"
    )
    assert "work.sql, line 2: the message cannot await with an open SQL" in ran.outcome.failure
    assert "; it was rolled back. " in ran.outcome.failure
    assert "--allow-open-transaction of sqlstable run and %%stable" in ran.outcome.failure
    assert ran.messages[-1].outcome == "trapped"


AWAITS = """
CREATE TABLE t (x);
--@ label call
--@ update
BEGIN; INSERT INTO t VALUES ('before');
--@ await allow-open-transaction
--@ update
INSERT INTO t VALUES ('between');
--@ continue call
INSERT INTO t VALUES ('behind'); COMMIT;
--@ query
SELECT count(*) FROM t;
"""


@pytest.mark.parametrize("engine", ["native", "wasm"])
def test_other_messages_run_at_an_await(engine):
    ran = Ran(AWAITS, engine=engine)
    assert ran.outcome.failure is None
    assert [it.continues for it in ran.messages] == [None, None, None, None, 2, None]
    assert ran.rows[-1] == [(3,)]


def test_what_goes_on_from_a_failed_message_is_left_out():
    ran = Ran(
        "CREATE TABLE t (x);\n--@ update\nINSERT INTO missing VALUES (1);\n--@ await\n"
        "INSERT INTO t VALUES (1);\n--@ await\nINSERT INTO t VALUES (2);\n"
        "--@ query\nSELECT count(*) FROM t;",
        keep_going=True,
    )
    assert (ran.outcome.failures, ran.outcome.left_out) == (1, 2)
    assert ran.rows[-1] == [(0,)]


def test_a_transaction_may_stay_open_everywhere_on_request():
    text = "CREATE TABLE t (x);\n--@ update\nBEGIN; INSERT INTO t VALUES (1);\n--@ update\nCOMMIT;"
    assert "stay open with allow_open_transaction=True; in" in Ran(text).outcome.failure
    assert Ran(text, allow_open_transaction=True).outcome.failure is None


def test_a_trap_behind_an_await_undoes_what_came_behind_it():
    ran = Ran(
        "CREATE TABLE t (x);\n--@ update\nINSERT INTO t VALUES (1);\n--@ await\n"
        "INSERT INTO t VALUES (2);\n--@ trap\nSELECT count(*) FROM t;"
    )
    assert ran.outcome.intended_traps == 1
    assert ran.rows[-1] == [(1,)]


def test_nothing_goes_on_over_an_upgrade():
    ran = Ran(
        "CREATE TABLE t (x);\n--@ update\nINSERT INTO t VALUES (1);\n--@ await\n--@ upgrade\n"
        "--@ continue\nINSERT INTO t VALUES (2);"
    )
    assert "got other code or another heap while message 2 awaited" in ran.outcome.failure


def test_a_failing_statement_stops_the_run_and_leaves_nothing_of_its_message():
    ran = Ran(
        "CREATE TABLE t (x UNIQUE);\n"
        "BEGIN;\nINSERT INTO t VALUES (1);\nINSERT INTO t VALUES (1);\nCOMMIT;\n"
        "INSERT INTO t VALUES (2);"
    )
    outcome = ran.outcome
    assert outcome.failure.startswith("work.sql, line 4: UNIQUE constraint failed: t.x; in: INSERT")
    assert (outcome.messages, outcome.failed_message) == (2, 2)
    assert ran.messages[outcome.failed_message].outcome == "trapped"
    assert len(ran.messages) == 3


def test_a_limit_crossed_is_a_failure_in_the_words_of_the_internet_computer():
    limits = latest_limits()
    few = replace(limits, update=replace(limits.update, os_pages_dirty_max=3))
    ran = Ran(
        "CREATE TABLE t (x);\nINSERT INTO t VALUES (zeroblob(90000));",
        canister=Canister(limits=few, trace=":memory:"),
    )
    assert "work.sql, line 2: Canister exceeded memory access limits" in ran.outcome.failure
    assert ran.messages[ran.outcome.failed_message].outcome == "trapped"


def test_text_that_is_not_utf8_is_a_failure_that_says_what_to_do():
    ran = Ran("SELECT CAST(x'ff' AS TEXT);")
    assert "work.sql, line 1: a text in the result is not UTF-8" in ran.outcome.failure
    assert "ask for CAST(… AS BLOB)" in ran.outcome.failure


def test_a_database_made_unreadable_is_a_failure_and_not_an_exception():
    for ending in ("--@ upgrade", "--@ trap\nDROP TABLE t;\nSELECT 1;"):
        ran = Ran(
            "CREATE TABLE t (x);\nPRAGMA writable_schema = on;\n"
            f"UPDATE sqlite_schema SET sql = 'garbage';\n{ending}"
        )
        assert "the database in stable memory cannot be opened" in ran.outcome.failure
        assert ran.outcome.failed_message is None


def test_nothing_to_run_is_a_run():
    assert Ran("-- nothing here\n").outcome == RunOutcome(0, 0, None, None)


def test_errors_of_the_callbacks_are_raised():
    def refuse(*_arguments):
        raise BrokenPipeError

    steps = parse_script("SELECT 1;", is_complete=apsw.complete)
    with Canister() as canister:
        with pytest.raises(BrokenPipeError):
            run_steps(canister, steps, on_rows=refuse)
        with pytest.raises(BrokenPipeError):
            run_steps(canister, steps, on_step=refuse)
        assert canister.query("SELECT 1").rows == [(1,)]


def test_an_imported_database_brings_its_settings_into_the_trace(tmp_path):
    path = tmp_path / "small.db"
    with apsw.Connection(str(path)) as db:
        db.execute("PRAGMA page_size = 1024; CREATE TABLE t (x)")
    db.close()
    with Canister(trace=":memory:") as canister:
        canister.import_database(path.read_bytes())
        with canister.trace() as trace:
            assert trace.settings["page_size"] == 1024


def test_a_canister_without_a_trace_says_how_to_get_one():
    with Canister() as canister, pytest.raises(MessageError, match="make it with trace="):
        canister.trace()
