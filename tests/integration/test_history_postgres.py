"""HistoryPostgres: what names it, what it hides, and what goes wrong with a server."""

import contextlib
import copy
import os
import pickle
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dotflow import Control, clock
from dotflow.cli.main import main
from dotflow.core import masks
from dotflow.core.context import Context
from dotflow.core.events import AttemptStarted, Planned, RunEnded, RunStarted, TaskCompleted, TaskFailed
from dotflow.core.failure import Failure
from dotflow.core.types.run_state import TypeRunState
from dotflow.core.types.status import TypeStatus
from dotflow.errors import HistoryError, InvalidArgument
from dotflow.providers import HistoryPostgres, HistorySQLite
from dotflow.providers.histories.default import history_at
from dotflow.providers.histories.postgres import link
from dotflow.providers.histories.sql.output_rows import SAVE_OUTPUT
from dotflow.providers.histories.sql.writer import SAVE_ERROR
from tests.clouds.postgres import PASSWORD, PostgresProcess
from tests.histories import nightly, quick

PGBOUNCER = shutil.which("pgbouncer", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def history(postgres_history: str) -> Iterator[HistoryPostgres]:
    with contextlib.closing(HistoryPostgres(postgres_history)) as history:
        yield history


@pytest.fixture(autouse=True)
def _same_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The passwords of a test are masks in it alone."""
    monkeypatch.setattr(masks, "hidden", set(masks.hidden))


def begin(history: HistoryPostgres, run_id: str = "4f0c9a21", workflow_id: str = "shop") -> None:
    """Begins a run of one step."""
    steps = [Planned("extract", "default", identity="shop:extract")]
    history.record(run_id, RunStarted(workflow_id, run_id, 1, clock.now(), steps=steps, is_named=True))
    history.record(run_id, AttemptStarted(0, 1, Context(), clock.now(), clock.monotonic()))


def end(history: HistoryPostgres, run_id: str = "4f0c9a21", workflow_id: str = "shop") -> None:
    """Ends it."""
    history.record(run_id, TaskCompleted(0, Context(7), clock.monotonic()))
    ended = RunEnded(workflow_id, run_id, TypeStatus.COMPLETED, clock.now(), TypeRunState.COMPLETED, "")
    history.record(run_id, ended)


class TestNames:
    """A text names a history in the same way everywhere."""

    def test_a_dsn_is_a_database_and_another_text_a_file(
        self, postgres_history: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`postgres` is that of the environment, unless it has a slash."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("DOTFLOW_POSTGRES_DSN", postgres_history)

        assert isinstance(history_at("postgres"), HistoryPostgres)
        assert history_at("postgres") is history_at(postgres_history)
        file = history_at("./postgres")
        assert isinstance(file, HistorySQLite)
        assert file.path == tmp_path / "postgres"

    def test_each_command_reads_it(
        self,
        postgres_history: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """Runs, show, diff and report by the option, Control and Config by the variable."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("DOTFLOW_POSTGRES_DSN", postgres_history)
        monkeypatch.setenv("DOTFLOW_HISTORY", "postgres")
        for _ in range(2):
            nightly(None).start()

        assert main(["runs", "--history", "postgres", "--json"]) == 0
        assert capsys.readouterr().out.count('"nightly"') >= 2
        assert main(["show", "last", "--history", "postgres"]) == 0
        shown = capsys.readouterr().out
        assert "is refused" in shown
        assert "--history postgres" in shown
        assert Control().schedules() == []
        runs = history_at("postgres").runs()
        assert main(["diff", runs[0].run_id, runs[1].run_id, "--history", "postgres"]) in (0, 1)
        assert main(["report", "last", "-o", "run.html", "--history", "postgres"]) == 0
        assert main(["forget", "--all", "--yes", "--history", "postgres"]) == 0
        written = capsys.readouterr().out
        assert "runs deleted. The database reuses the space." in written
        assert PASSWORD not in written + Path("run.html").read_text()
        assert history_at("postgres").runs() == []

    @pytest.mark.parametrize("command", [("runs",), ("show",), ("start", "--step", "jobs.extract")])
    def test_a_password_on_the_command_line_is_refused(
        self, command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Other users see the command line; the error does not repeat it."""
        assert main([*command, "--history", "postgresql://shop:hunter22@db/shop"]) == 2

        error = capsys.readouterr().err
        assert "--history has a password, which every user of this machine can see." in error
        assert "DOTFLOW_POSTGRES_DSN, PGPASSWORD or ~/.pgpass" in error
        assert "hunter22" not in error

    def test_the_option_in_a_command_has_no_password(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is a URL that names the same database, or `postgres` for that of the environment."""
        monkeypatch.delenv("DOTFLOW_POSTGRES_DSN", raising=False)
        history = HistoryPostgres("host=db port=5433 dbname=shop user=me password=hunter22 application_name='a b'")

        assert history.option == "postgresql://me@db:5433/shop?application_name=a%20b"
        assert history_at(history.option).option == history.option
        monkeypatch.setenv("DOTFLOW_POSTGRES_DSN", f"{history.option}&password=hunter22")
        assert history.option == "postgres"

    def test_a_password_is_in_no_pickle_and_a_mask(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A worker finds it in its environment."""
        monkeypatch.delenv("DOTFLOW_POSTGRES_DSN", raising=False)
        dsn = "postgresql://me:hunter22@db/shop"
        history = HistoryPostgres(dsn, late=0.05)

        pickled = pickle.dumps(history)
        assert b"hunter22" not in pickled
        assert "hunter22" not in repr(history)
        assert masks.environment_masks().mask("it is hunter22") == "it is ***"
        assert not pickle.loads(pickled)._dsn.has_password
        monkeypatch.setenv("DOTFLOW_POSTGRES_DSN", dsn)
        assert pickle.loads(pickled)._dsn.has_password
        assert copy.deepcopy(history).late == history.late

    @pytest.mark.parametrize("schema", ["public", "Shop", "pg_shop", "a b", "", 'x"', None])
    def test_a_schema_is_of_the_history_alone(self, schema: object) -> None:
        """There may be tables of users in `public`, called orders."""
        with pytest.raises(InvalidArgument, match="schema"):
            HistoryPostgres("", schema=schema)  # type: ignore[arg-type]

    @pytest.mark.parametrize("late", [-0.1, 0.3, float("nan"), True, "1"])
    def test_events_are_at_most_so_late(self, late: object) -> None:
        """It is a number of seconds."""
        with pytest.raises(InvalidArgument, match="late"):
            HistoryPostgres("", late=late)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["host=db dbname=runs", "dbname = runs", "service=runs", " password=s3cret host=db"])
def test_options_in_place_of_a_url_are_refused(name: str) -> None:
    """They would be the name of a file, with the password in it."""
    with pytest.raises(InvalidArgument, match=r"Pass the URL of a database, postgresql://user@host/name") as caught:
        history_at(name)
    assert "s3cret" not in str(caught.value)


class TestTables:
    """The first writer makes the tables."""

    def test_a_database_without_tables_has_no_runs(self, postgres_server: PostgresProcess) -> None:
        """Reading makes nothing."""
        with contextlib.closing(HistoryPostgres(postgres_server.dsn(), schema="nothing_there")) as history:
            assert history.runs() == []
            assert history.revision() == ""
        found = postgres_server.run("SELECT 1 FROM pg_namespace WHERE nspname = 'nothing_there'")
        assert found == []

    def test_two_first_writers_make_one_history(self, postgres_server: PostgresProcess) -> None:
        """Both write their runs there. The views can be read by any tool."""
        histories = [HistoryPostgres(postgres_server.dsn(), schema="made_twice", keep=None) for _ in range(4)]
        threads = [threading.Thread(target=quick(history, name=f"w{n}").start) for n, history in enumerate(histories)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert {run.workflow_id for run in histories[0].runs()} == {"w0", "w1", "w2", "w3"}
        for history in histories:
            history.close()
        rows = postgres_server.run("SELECT began, seconds FROM made_twice.run_list")
        assert all(began.endswith("Z") and seconds >= 0 for began, seconds in rows)
        for view in ("attempt_list", "error_list", "note_list"):
            postgres_server.run(f"SELECT * FROM made_twice.{view}")
        postgres_server.run("DROP SCHEMA made_twice CASCADE")

    def test_the_owner_makes_them_by_the_printed_statements(
        self,
        postgres_server: PostgresProcess,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """A role without the right to do so is advised to."""
        postgres_server.run(f"CREATE ROLE guest LOGIN PASSWORD '{PASSWORD.replace(chr(39), chr(39) * 2)}'")
        postgres_server.run("CREATE DATABASE owned")
        dsn = postgres_server.dsn(user="guest", database="owned")
        monkeypatch.setenv("DOTFLOW_POSTGRES_DSN", dsn)

        assert main(["history", "upgrade", "--history", "postgres"]) != 0
        assert "dotflow history upgrade --sql" in capsys.readouterr().err
        assert main(["history", "upgrade", "--history", "postgres", "--sql"]) == 0
        owner = postgres_server.dsn(database="owned")
        postgres_server.run(capsys.readouterr().out, dsn=owner)
        postgres_server.run("GRANT USAGE ON SCHEMA dotflow TO guest", dsn=owner)
        postgres_server.run("GRANT ALL ON ALL TABLES IN SCHEMA dotflow TO guest", dsn=owner)
        with contextlib.closing(HistoryPostgres(dsn)) as history:
            quick(history).start()
            assert [run.state for run in history.runs()] == ["Completed"]
        assert main(["history", "upgrade", "--history", "postgres"]) == 0
        assert "newest format" in capsys.readouterr().out

    def test_a_newer_format_is_refused(self, history: HistoryPostgres, postgres_server: PostgresProcess) -> None:
        """It says so, and the tables are left alone."""
        dsn = postgres_server.dsn(database="histories")
        try:
            postgres_server.run("UPDATE dotflow.meta SET format = 9, read_from = 9", dsn=dsn)
            with pytest.raises(HistoryError, match="it has format 9, and needs a newer dotflow"):
                history.runs()
        finally:
            postgres_server.run("UPDATE dotflow.meta SET format = 8, read_from = 6", dsn=dsn)

    def test_a_newer_format_that_this_one_may_read_is_not_written(
        self, history: HistoryPostgres, postgres_server: PostgresProcess
    ) -> None:
        """During a deploy, old code shows the runs. What it would write, newer code could take for its own."""
        quick(history).start()
        dsn = postgres_server.dsn(database="histories")
        try:
            postgres_server.run("UPDATE dotflow.meta SET format = 9, write_from = 9", dsn=dsn)
            with contextlib.closing(HistoryPostgres(dsn)) as older:
                assert [run.state for run in older.runs()] == ["Completed"]
                with pytest.raises(HistoryError, match="this one can read but not write"):
                    quick(older).submit()
                with pytest.raises(HistoryError, match="this one can read but not write"):
                    begin(older)
            assert len(history.runs()) == 1
        finally:
            postgres_server.run("UPDATE dotflow.meta SET format = 8, write_from = 6", dsn=dsn)

    def test_an_older_format_names_the_command_that_upgrades_it(
        self, history: HistoryPostgres, postgres_server: PostgresProcess
    ) -> None:
        """Nothing changes the tables unasked."""
        dsn = postgres_server.dsn(database="histories")
        try:
            postgres_server.run("UPDATE dotflow.meta SET format = 5, read_from = 5", dsn=dsn)
            with pytest.raises(HistoryError, match=r"format 5, .* uses 8\. Run `dotflow history upgrade`"):
                history.runs()
        finally:
            postgres_server.run("UPDATE dotflow.meta SET format = 8, read_from = 6", dsn=dsn)

    def test_the_sixth_format_is_upgraded_by_the_command(
        self,
        history: HistoryPostgres,
        postgres_server: PostgresProcess,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """It adds the tables of calls and limits, once, also by its statements; older code goes on."""
        import psycopg

        run = quick(history).start().run_id
        dsn = postgres_server.dsn(database="histories")
        monkeypatch.setenv("DOTFLOW_POSTGRES_DSN", dsn)
        tables = ", ".join(
            f"dotflow.{table}" for table in ("calls", "slots", "holds", "waits", "closed", "texts", "told")
        )
        older = f"DROP VIEW dotflow.call_list; DROP TABLE {tables}; UPDATE dotflow.meta SET format = 6"
        for by_owner in (False, True):
            history.close()
            postgres_server.run(older, dsn=dsn)
            with pytest.raises(HistoryError, match=r"format 6, .* uses 8\. Run `dotflow history upgrade`"):
                history.runs()

            assert main(["history", "upgrade", "--history", "postgres", *(["--sql"] if by_owner else [])]) == 0
            if by_owner:
                postgres_server.run(capsys.readouterr().out, dsn=dsn)
            else:
                assert "The tables are made" in capsys.readouterr().out
            assert main(["history", "upgrade", "--history", "postgres"]) == 0
            assert "newest format" in capsys.readouterr().out
            assert history.all_calls(run) == {}
            with psycopg.connect(dsn) as connection:
                assert connection.execute("SELECT * FROM dotflow.call_list").fetchall() == []
                found = connection.execute("SELECT format, read_from, write_from FROM dotflow.meta").fetchall()
            assert found == [(8, 6, 6)]
        quick(history).start()
        assert len(history.runs()) == 2


class TestFaults:
    """What goes wrong with the server reaches no run."""

    def test_a_run_goes_on_while_the_server_is_away(
        self, history: HistoryPostgres, postgres_server: PostgresProcess
    ) -> None:
        """What it has collected is written when the server is back."""
        begin(history)
        postgres_server.order("crash")
        writer = history._late.get("4f0c9a21")
        assert writer is not None
        for _ in range(2):
            writer.write()
        with pytest.raises(HistoryError, match="can't be written, and the run goes on without it"):
            writer.raise_error()
        postgres_server.order("start")
        end(history)

        run = history.load("4f0c9a21")
        assert (run.state, [len(task.attempts) for task in run.steps]) == ("Completed", [1])

    def test_the_end_of_a_run_does_not_wait_for_ever(
        self, history: HistoryPostgres, postgres_server: PostgresProcess, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It says how many rows are missing, and they are written when the server is back."""
        from dotflow.providers.histories.postgres import late

        monkeypatch.setattr(late, "LAST_PATIENCE", 0.3)
        begin(history)
        writer = history._late.get("4f0c9a21")
        assert writer is not None
        postgres_server.order("stop")
        try:
            with contextlib.suppress(HistoryError):  # of the other thread, if it has tried meanwhile
                history.record("4f0c9a21", TaskCompleted(0, Context(7), clock.monotonic()))
            ended = RunEnded("shop", "4f0c9a21", TypeStatus.COMPLETED, clock.now(), TypeRunState.COMPLETED, "")
            began = clock.ticks()
            with pytest.raises(HistoryError, match=r"rows of the run 4f0c9a21 are not in 127\.0\.0\.1") as raised:
                history.record("4f0c9a21", ended)
            assert clock.ticks() - began < 10, "nor for what retention would delete"
            assert PASSWORD not in str(raised.value)
        finally:
            postgres_server.order("start")
        with history._late._written:
            assert history._late._written.wait_for(lambda: writer.is_over, 30)
        assert history.load("4f0c9a21").state == "Completed"

    def test_dropped_tables_are_another_history(self, postgres_server: PostgresProcess) -> None:
        """Nothing is made anew unasked."""
        with contextlib.closing(HistoryPostgres(postgres_server.dsn(), schema="dropped")) as history:
            quick(history).start()
            postgres_server.run("DROP SCHEMA dropped CASCADE")
            with pytest.raises(HistoryError, match="it is another history than at the start"):
                history.runs()

    def test_another_database_behind_the_name(self, history: HistoryPostgres, postgres_server: PostgresProcess) -> None:
        """Its id differs."""
        quick(history).start()
        dsn = postgres_server.dsn(database="histories")
        ((before,),) = postgres_server.run("SELECT id FROM dotflow.meta", dsn=dsn)
        try:
            postgres_server.run("UPDATE dotflow.meta SET id = 'another'", dsn=dsn)
            with pytest.raises(HistoryError, match="it is another history than at the start"):
                history.runs()
        finally:
            postgres_server.run("UPDATE dotflow.meta SET id = %s", before, dsn=dsn)

    @pytest.mark.parametrize(
        ("code", "advice"),
        [
            ("53100", "Free some space on the server's disk"),
            ("53400", "Look that up in Postgres' documentation"),
        ],
    )
    def test_what_the_server_refuses_is_said_once_with_advice(
        self, history: HistoryPostgres, postgres_server: PostgresProcess, code: str, advice: str
    ) -> None:
        """Also what dotflow does not know."""
        dsn = postgres_server.dsn(database="histories")
        postgres_server.run(
            f"""CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = '{code}'; END $$;
            CREATE TRIGGER refused BEFORE INSERT ON dotflow.attempts EXECUTE FUNCTION refuse()""",
            dsn=dsn,
        )
        try:
            begin(history)
            with pytest.raises(HistoryError, match=advice):
                end(history)
        finally:
            postgres_server.run("DROP TRIGGER refused ON dotflow.attempts; DROP FUNCTION refuse()", dsn=dsn)

    def test_too_many_connections(self, postgres_history: str, postgres_server: PostgresProcess) -> None:
        """The role has none left."""
        quoted = PASSWORD.replace("'", "''")
        postgres_server.run(f"CREATE ROLE crowd LOGIN CONNECTION LIMIT 0 PASSWORD '{quoted}'")
        dsn = postgres_server.dsn(user="crowd", database="histories")

        with pytest.raises(HistoryError, match="Raise the server's limit of connections, or close some"):
            HistoryPostgres(dsn).runs()

    def test_defaults_of_the_role_change_nothing(
        self, postgres_history: str, postgres_server: PostgresProcess, tmp_path: Path
    ) -> None:
        """Its isolation, timeouts and read-only transactions are set by each transaction."""
        for name, value in {
            "default_transaction_isolation": "'serializable'",
            "default_transaction_read_only": "on",
            "lock_timeout": "1",
            "synchronous_commit": "off",
            "search_path": "nothing",
            "standard_conforming_strings": "on",
            "timezone": "'Asia/Kathmandu'",
        }.items():
            postgres_server.run(f"ALTER ROLE postgres IN DATABASE histories SET {name} = {value}")
        try:
            with contextlib.closing(HistoryPostgres(postgres_history)) as history:
                quick(history).start()
                (run,) = history.runs()
                assert run.state == "Completed"
        finally:
            postgres_server.run("ALTER ROLE postgres IN DATABASE histories RESET ALL")

    def test_any_text_is_found_again(self, history: HistoryPostgres) -> None:
        """NUL, lone surrogates and U+FFFF, in names and in errors."""
        text = "a\0b\uffffc\ud800é"
        run_id = "4f0c9a21"
        begin(history, run_id)
        history.record(run_id, TaskFailed(0, 1, Failure("Error", text, text), clock.now(), clock.monotonic()))
        ended = RunEnded("shop", run_id, TypeStatus.FAILED, clock.now(), TypeRunState.FAILED, "")
        history.record(run_id, ended)

        (error,) = history.load(run_id).steps[0].attempts[0].errors
        assert error.message == "a\0b\uffffc\\ud800é"

    def test_many_rows_go_in_few_statements(self, history: HistoryPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
        """A hundred each, with any text and bytes; of two rows with one key the later one counts."""
        begin(history)
        end(history)
        texts = ["a\0b", "\uffffc", "\ufffd", '"', "\\", "{a,b}", ",", "", "NULL", " c ", "d\n", "é", None]
        errors = [(7, task, -1, 1, 0, "Error", texts[task % 12], "", None, texts[task % 13]) for task in range(250)]
        chunks = [(7, task, -1, 1, 0, 5, 1, data, 0) for task, data in enumerate((b"", b'\0\xff"\\{},NULL', b"x"))]
        sent: list[tuple[int, int]] = []
        send = link._execute

        def note(raw: Any, waiting: list[Any]) -> None:
            sent.append((threading.get_ident(), len(waiting)))
            send(raw, waiting)

        monkeypatch.setattr(link, "_execute", note)

        def work(connection: Any) -> list[list[Any]]:
            connection.executemany(SAVE_ERROR, [(*errors[0][:-1], "older"), *errors])
            connection.executemany(SAVE_OUTPUT, chunks)
            connection.executemany(SAVE_OUTPUT, [])
            found = [connection.execute(f"SELECT * FROM {table} ORDER BY task") for table in ("errors", "output")]
            return [[*rows.fetchall()] for rows in found]

        assert history.database.events.transact(work, None, durable=False) == [errors, chunks]
        # Those of errors, of output, the two that read, and the commit; the history's own threads look meanwhile.
        assert sum(count for thread, count in sent if thread == threading.get_ident()) == 3 + 1 + 2 + 1

    def test_the_clock_of_the_database_says_what_is_old(
        self, postgres_history: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """That of the machine may be wrong by months."""
        with contextlib.closing(HistoryPostgres(postgres_history, keep="30 days")) as history:
            for _ in range(2):
                quick(history).start()
            history.database.run("UPDATE meta SET swept = 0")
            right = clock.now
            monkeypatch.setattr(clock, "now", lambda: right() + timedelta(days=100))
            history.sweep()
            assert history.overdue() == 0
            assert len(history.runs()) == 2

    def test_a_name_that_no_index_takes(self, history: HistoryPostgres) -> None:
        """The run goes on unrecorded, which is said once."""
        name = "".join(chr(0x4E00 + n * 7919 % 20000) for n in range(1000))
        with pytest.raises(HistoryError, match="shorten it"):
            begin(history, "4f0c9a21", name)
        with pytest.raises(HistoryError):
            end(history, "4f0c9a21", name)

        begin(history, "5f0c9a21")
        end(history, "5f0c9a21")
        assert [run.run_id for run in history.runs()] == ["5f0c9a21"]

    def test_a_poisoned_row_fails_alone(self, history: HistoryPostgres, postgres_server: PostgresProcess) -> None:
        """Another run can be read."""
        for run_id in ("4f0c9a21", "5f0c9a21"):
            begin(history, run_id)
            end(history, run_id)
        statement = "UPDATE dotflow.runs SET state = 'Weird' WHERE run_id = '4f0c9a21'"
        postgres_server.run(statement, dsn=postgres_server.dsn(database="histories"))

        with pytest.raises(HistoryError, match="it is damaged, or dotflow did not write it"):
            history.load("4f0c9a21")
        assert history.load("5f0c9a21").state == "Completed"

    def test_a_call_that_does_not_return_is_cut(
        self, postgres_history: str, postgres_server: PostgresProcess, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A network that swallows all is no reason to wait for ever."""
        monkeypatch.setattr(link, "PATIENCE", 0.5)
        with Swallowing(postgres_server.port) as proxy:
            dsn = postgres_server.dsn(database="histories", port=str(proxy.port), connect_timeout="2")
            with contextlib.closing(HistoryPostgres(dsn)) as history:
                assert history.runs() == []
                proxy.swallow.set()
                began = clock.ticks()
                with pytest.raises(HistoryError, match="can't be used"):
                    history.runs()
                assert clock.ticks() - began < 10


@pytest.mark.skipif(PGBOUNCER is None, reason="PgBouncer is not installed")
@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_a_pooler_may_be_between(
    mode: str, postgres_history: str, postgres_server: PostgresProcess, tmp_path: Path
) -> None:
    """No state of a session is used."""
    with pooler(postgres_server, mode) as port, contextlib.ExitStack() as stack:
        dsn = postgres_server.dsn(database="histories", port=str(port))
        histories = [stack.enter_context(contextlib.closing(HistoryPostgres(dsn))) for _ in range(3)]
        for number, history in enumerate(histories):
            quick(history, name=f"w{number}").start()
            history.note("last", "read")

        assert [run.state for run in histories[0].runs()] == ["Completed"] * 3
        assert [text for _, text in histories[1].load("last").notes] == ["read"]


@contextlib.contextmanager
def pooler(server: PostgresProcess, mode: str) -> Iterator[int]:
    """A PgBouncer in front of the server. Yields its port."""
    assert PGBOUNCER is not None
    with tempfile.TemporaryDirectory(prefix="dotflow-pgbouncer-") as folder:
        with socket.create_server(("127.0.0.1", 0)) as found:
            port = int(found.getsockname()[1])
        users, settings = Path(folder, "users"), Path(folder, "settings")
        users.write_text(f'"postgres" "{PASSWORD}"\n')
        settings.write_text(
            f"[databases]\n* = host=127.0.0.1 port={server.port}\n[pgbouncer]\nlisten_addr=127.0.0.1\n"
            f"listen_port={port}\nauth_type=scram-sha-256\nauth_file={users}\npool_mode={mode}\nunix_socket_dir=\n"
        )
        given: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        if os.geteuid() == 0:  # it refuses to run as root
            given |= {"user": 65534, "group": 65534, "extra_groups": []}
            Path(folder).chmod(0o755)
            os.chown(users, 65534, 65534)
        process = subprocess.Popen([PGBOUNCER, "-q", str(settings)], **given)
        try:
            while process.poll() is None:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                except OSError:
                    time.sleep(0.02)  # there is no signal that it is ready
                else:
                    break
            yield port
        finally:
            process.terminate()
            process.wait()


class Swallowing:
    """A proxy in front of the server, which swallows what is sent when it is asked to."""

    def __init__(self, port: int) -> None:
        self.swallow = threading.Event()
        self._target = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._sockets = [self._listening]

    def __enter__(self) -> "Swallowing":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *args: object) -> None:
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [client, server]
                for source, target in ((client, server), (server, client)):
                    threading.Thread(target=self._copy, args=(source, target), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if not self.swallow.is_set():
                    target.sendall(data)
            if not self.swallow.is_set():
                target.shutdown(socket.SHUT_WR)


def test_no_text_is_compared_by_the_collation_of_the_database(postgres_history: str) -> None:
    """Order and prefixes are those of bytes, as in SQLite, also where the database has en_US.UTF-8."""
    with contextlib.closing(HistoryPostgres(postgres_history)) as history:
        columns = history.database.run(
            """SELECT relname, attname, collname FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
            JOIN pg_namespace ON pg_namespace.oid = relnamespace JOIN pg_collation ON pg_collation.oid = attcollation
            WHERE nspname = 'dotflow' AND relkind = 'r' AND attnum > 0 AND NOT attisdropped"""
        )

    assert ("runs", "name", "C") in columns
    assert [column for column in columns if column[2] != "C"] == []
