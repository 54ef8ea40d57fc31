"""HistoryPostgres and StoragePostgres behind poolers, in networks that swallow and cut, and with defaults of a role."""

import contextlib
import os
import pickle
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from dotflow import Config, Context, Control, DotFlow, action, clock
from dotflow.abc.history import HistoryUnavailable
from dotflow.abc.operations import Ending, Firing, Schedule, Submission
from dotflow.core.approval import QuestionId
from dotflow.core.events import AttemptOutput, RunEnded, TaskCompleted
from dotflow.core.types.attempt_state import TypeAttemptState
from dotflow.core.types.run_state import TypeRunState
from dotflow.core.types.status import TypeStatus
from dotflow.engine import orders, publisher
from dotflow.errors import HistoryError, InvalidArgument
from dotflow.providers import ExecutorThread, HistoryPostgres, LogDefault, StoragePostgres
from dotflow.providers.histories.postgres import database as database_module
from dotflow.providers.histories.postgres import late, link
from dotflow.providers.histories.sql.queue import SQLQueueServer
from dotflow.providers.histories.sql.rows import HANDLERS
from dotflow.serving import duties, serve
from tests.clouds.pgbouncer import BINARY, PgBouncer, PoolMode
from tests.clouds.postgres import Database, PostgresProcess
from tests.clouds.tcp_proxy import TcpProxy
from tests.histories import begin, quick, take

POOL_MODES: tuple[PoolMode, ...] = ("session", "transaction") if BINARY else ()
#: What administrators give a role: www.postgresql.org/docs/current/runtime-config-client.html
DEFAULTS = {
    "default_transaction_isolation": "repeatable read",
    "statement_timeout": "2s",
    "lock_timeout": "100ms",
    "idle_in_transaction_session_timeout": "1s",
    "synchronous_commit": "off",
    "standard_conforming_strings": "on",
    "search_path": "pg_catalog",
    "DateStyle": "German",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Asia/Kathmandu",
    "bytea_output": "escape",
    "extra_float_digits": "0",
}


@action
def one() -> list[int]:
    return [1]


@action
def two(previous_context: Context) -> list[int]:
    return [*previous_context.storage, 2]


def flow(history: HistoryPostgres | None, storage: StoragePostgres | None = None, **given: object) -> DotFlow:
    made = DotFlow(config=Config(history=history, storage=storage), workflow_id="report", **given)
    made.task.add(one)
    made.task.add(two)
    return made


@pytest.fixture
def history(database: Database) -> Iterator[HistoryPostgres]:
    with contextlib.closing(HistoryPostgres(database.dsn())) as made:
        yield made


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call is tried again for 0.3 seconds in place of 15, and what a server does, each 0.3 seconds in place of 5."""
    monkeypatch.setattr(duties, "RETRY", 0.3)
    repeat = link.Link._repeat
    monkeypatch.setattr(
        link.Link,
        "_repeat",
        staticmethod(lambda attempt, patience: repeat(attempt, 0.3 if patience is None else min(patience, 0.3))),
    )


class TestNetwork:
    """The proxy of these tests, with a client of psycopg alone."""

    def test_it_forwards_and_delays(self, database: Database, proxy: TcpProxy) -> None:
        with psycopg.connect(database.dsn(proxy.port), autocommit=True) as connection:
            proxy.delay = 0.02
            before = database.run("SELECT clock_timestamp()")
            assert connection.execute("SELECT clock_timestamp() - %s > '0.02s'", before[0]).fetchone() == (True,)
        assert proxy.accepted == 1

    def test_it_swallows(self, database: Database, proxy: TcpProxy) -> None:
        """A statement gets no answer, neither a new connection."""
        with psycopg.connect(database.dsn(proxy.port), autocommit=True) as connection:
            proxy.mode = "swallow"

            def wait() -> None:
                with pytest.raises(psycopg.Error):
                    connection.execute("SELECT 1")

            waiting = threading.Thread(target=wait)
            waiting.start()
            with pytest.raises(psycopg.OperationalError, match="timeout"):
                psycopg.connect(database.dsn(proxy.port, connect_timeout="2"))
            assert waiting.is_alive()
            proxy.cut()
            waiting.join()

    def test_it_cuts_behind_a_commit(self, database: Database, proxy: TcpProxy) -> None:
        """What was committed is there, and the client has no answer. The next connection works."""
        with psycopg.connect(database.dsn(proxy.port), autocommit=True) as connection:
            connection.execute("CREATE TABLE rows (number INTEGER)")
            connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
            connection.execute("INSERT INTO rows VALUES (1)")
            proxy.mode = "cut behind commit"
            with pytest.raises(psycopg.OperationalError):
                connection.execute("COMMIT")
        assert database.run("SELECT number FROM rows") == [(1,)]
        assert proxy.cuts == 1
        with psycopg.connect(database.dsn(proxy.port)) as connection:
            assert connection.execute("SELECT number FROM rows").fetchall() == [(1,)]


@pytest.mark.parametrize("mode", POOL_MODES)
class TestPoolers:
    """pgbouncer, in both modes that can be used."""

    @pytest.fixture
    def pooled(self, postgres_server: PostgresProcess, database: Database, mode: PoolMode) -> Iterator[str]:
        with PgBouncer(postgres_server, mode) as pooler:
            pooler.admit(database.name, database.name)
            yield database.dsn(pooler.port)

    def test_a_storage_and_a_history_keep_a_run(self, pooled: str) -> None:
        with (
            contextlib.closing(HistoryPostgres(pooled)) as history,
            contextlib.closing(StoragePostgres(pooled)) as storage,
        ):
            flow(history, storage).start()
            flow(history, storage).start(resume=True)
            first, second = history.runs()[::-1]
            assert [task.name for task in history.load(first.run_id).steps] == ["one", "two"]
            assert [task.name for task in history.load(second.run_id).steps] == ["one", "two"]

    def test_twelve_submissions_at_once_are_twelve_runs(self, pooled: str) -> None:
        def submit(number: int) -> None:
            with contextlib.closing(HistoryPostgres(pooled)) as history:
                flow(history, params={"number": 0}).submit(params={"number": number})

        threads = [threading.Thread(target=submit, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with contextlib.closing(HistoryPostgres(pooled)) as history:
            assert len(history.runs()) == 12


@pytest.mark.parametrize("mode", ("statement",) if BINARY else ())
def test_a_pooler_in_statement_mode_is_refused(
    postgres_server: PostgresProcess, database: Database, mode: PoolMode
) -> None:
    """In words that name the mode."""
    with PgBouncer(postgres_server, mode) as pooler:
        pooler.admit(database.name, database.name)
        history = HistoryPostgres(database.dsn(pooler.port))
        with contextlib.closing(history), pytest.raises(HistoryError, match="a pooler in statement mode"):
            flow(history).submit()


def test_defaults_of_the_role_change_nothing(postgres_server: PostgresProcess) -> None:
    """Isolation, timeouts, search path and formats."""
    with (
        postgres_server.database(**DEFAULTS) as database,
        contextlib.closing(HistoryPostgres(database.dsn())) as history,
    ):
        submitted = flow(history).submit()
        flow(history).start()
        assert {run.run_id for run in history.runs()} >= {submitted}
        ended = next(run for run in history.runs() if run.run_id != submitted)
        assert [task.name for task in history.load(ended.run_id).steps] == ["one", "two"]


class TestLostAnswers:
    """After a lost answer it looks before it repeats."""

    @pytest.fixture
    def far(self, database: Database, proxy: TcpProxy) -> Iterator[HistoryPostgres]:
        with contextlib.closing(HistoryPostgres(database.dsn(proxy.port))) as made:
            made.database.transact(lambda connection: None)
            yield made

    def test_a_submission_whose_answer_is_lost_is_there_once(self, far: HistoryPostgres, proxy: TcpProxy) -> None:
        proxy.mode = "cut behind commit"
        submitted = flow(far).submit()
        assert proxy.cuts == 1
        assert [run.run_id for run in far.runs()] == [submitted]

    @pytest.fixture
    def server(self, far: HistoryPostgres) -> Iterator[SQLQueueServer]:
        """A server that sends no beats meanwhile."""
        with contextlib.closing(far.operations().open_server(["report"])) as opened:
            far.database.presence._stop.set()
            assert isinstance(opened, SQLQueueServer)
            yield opened

    def test_orders_and_resumes_are_done_once(self, far: HistoryPostgres, proxy: TcpProxy) -> None:
        """An order is found by its id, and what it has done is not refused since it is done."""
        control, run = Control(far), flow(far).submit()
        proxy.mode = "cut behind commit"
        assert control.cancel(run).state is TypeRunState.CANCELLED
        proxy.mode = "cut behind commit"
        resumed = control.resume(run)
        assert (resumed.state, resumed.continues) == (TypeRunState.QUEUED, run)
        proxy.mode = "cut behind commit"
        control.pause_workflow("report", by="anna")
        proxy.mode = "cut behind commit"
        ended = control.resume_workflow("report", by="anna")
        assert ended is not None
        assert ended.by == "anna"
        assert proxy.cuts == 4
        assert far.database.run("SELECT what FROM orders ORDER BY rowid") == [("cancel",), ("resume",)]
        assert len(far.runs()) == 2

    def test_a_claimed_run_begins_goes_back_and_ends_once(
        self, far: HistoryPostgres, server: SQLQueueServer, proxy: TcpProxy
    ) -> None:
        """A server that hears no answer does not take its run for that of another one."""
        run = flow(far).submit()
        claim = take(server, "report")
        assert claim is not None
        proxy.mode = "cut behind commit"
        server.put_back(claim, 0)
        assert Control(far).run(run).state is TypeRunState.QUEUED
        claim = take(server, "report")
        assert claim is not None
        proxy.mode = "cut behind commit"
        server.supersede(claim)
        proxy.mode = "cut behind commit"
        server.begin(claim)
        proxy.mode = "cut behind commit"
        assert server.end(claim, Ending(TypeRunState.INTERRUPTED, goes_on=True)) is TypeRunState.INTERRUPTED
        assert proxy.cuts == 4
        assert [one.state for one in far.runs()] == [TypeRunState.QUEUED, TypeRunState.INTERRUPTED]

    def test_a_claim_whose_answer_is_lost_is_taken_over_by_its_server_once(
        self, far: HistoryPostgres, server: SQLQueueServer, proxy: TcpProxy
    ) -> None:
        """And a take-over whose answer is lost is reported."""
        run = flow(far).submit()
        proxy.mode = "cut behind commit"
        with pytest.raises(HistoryError):
            take(server, "report")
        proxy.mode = "cut behind commit"
        (taken,) = server.take_over(list)
        assert (taken.run_id, taken.state) == (run, TypeRunState.CRASHED)
        assert proxy.cuts == 2
        assert [one.run_id for one in far.runs()] == [taken.continued_by, run]

    def test_a_question_its_answer_and_a_scheduled_run_are_written_once(
        self, far: HistoryPostgres, server: SQLQueueServer, proxy: TcpProxy
    ) -> None:
        """Neither refused nor repeated."""
        run = flow(far).submit()
        claim = take(server, "report")
        assert claim is not None
        asked = QuestionId(run, "publish", "", 0)
        queue = far.operations()
        proxy.mode = "cut behind commit"
        queue.ask(asked, "Publish?", "", None)
        server.end(claim, Ending(TypeRunState.PAUSED, asked=[asked]))
        proxy.mode = "cut behind commit"
        assert queue.answer(run, None, True, "anna", "").state is TypeRunState.QUEUED
        schedule = Schedule("nightly", "report", "0 1 * * *", "UTC")
        proxy.mode = "cut behind commit"
        server.serve_schedules([schedule])
        schedule, settled = server.settled(schedule)
        planned = queue.now()
        wanted = Submission("report", "{}", "report#nightly", due=planned)
        proxy.mode = "cut behind commit"
        assert server.fire(schedule, settled, planned, [Firing(planned, wanted)]) == []
        assert proxy.cuts == 4
        assert far.database.run("SELECT COUNT(*) FROM wanted WHERE planned IS NOT NULL") == [(1,)]
        assert len(far.runs()) == 3

    def test_a_run_whose_commits_are_cut_is_recorded_once(self, far: HistoryPostgres, proxy: TcpProxy) -> None:
        proxy.mode = "cut behind commit"
        flow(far).start()
        (run,) = far.runs()
        assert [task.name for task in far.load(run.run_id).steps] == ["one", "two"]
        assert proxy.cuts == 1

    def test_a_network_that_never_answers_is_an_error_in_time(
        self, database: Database, proxy: TcpProxy, patience: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with contextlib.closing(HistoryPostgres(database.dsn(proxy.port, connect_timeout="1"))) as history:
            history.upgrade()
            history.close()
            monkeypatch.setattr(link, "PATIENCE", 0.3)  # of the next connection, for an answer
            history.database.transact(lambda connection: None)
            proxy.mode = "swallow"
            with pytest.raises(HistoryError, match="can't be used"):
                flow(history).submit()
            monkeypatch.undo()
            proxy.mode = "forward"
            proxy.cut()
            assert flow(history).submit() in [run.run_id for run in history.runs()]

    def test_connections_that_are_cut_are_opened_again(self, far: HistoryPostgres, proxy: TcpProxy) -> None:
        submitted = [flow(far).submit()]
        proxy.cut()
        submitted.append(flow(far, params={"number": 0}).submit(params={"number": 1}))
        assert sorted(run.run_id for run in far.runs()) == sorted(submitted)


class TestRefusals:
    """What a server refuses, with what to do."""

    def test_a_read_only_server(self, history: HistoryPostgres, database: Database) -> None:
        history.database.transact(lambda connection: None)
        history.close()
        database.alter("DATABASE SET default_transaction_read_only = on")
        assert history.runs() == []

    def test_too_many_connections(self, history: HistoryPostgres, database: Database, patience: None) -> None:
        database.alter("ROLE CONNECTION LIMIT 0")
        with pytest.raises(HistoryError, match="Raise the server's limit of connections, or close some"):
            flow(history).submit()
        database.alter("ROLE CONNECTION LIMIT 10")
        flow(history).submit()

    def test_a_role_without_rights(self, history: HistoryPostgres, database: Database) -> None:
        database.server.run(f"ALTER DATABASE {database.name} OWNER TO postgres")
        with pytest.raises(HistoryError, match="Grant the role USAGE"):
            flow(history).submit()

    def test_dropped_tables(self, history: HistoryPostgres, database: Database) -> None:
        """Its process does not make new ones: what it knew would be gone without a word."""
        flow(history).submit()
        database.run("DROP SCHEMA dotflow CASCADE")
        with pytest.raises(HistoryError, match="Its tables were dropped while they were in use"):
            flow(history).submit()

    def test_another_history_of_the_same_name(self, history: HistoryPostgres, database: Database) -> None:
        flow(history).submit()
        database.run("UPDATE dotflow.meta SET id = 'another'")
        database.cut()
        with pytest.raises(HistoryError, match="is another history than at the start"):
            flow(history).submit()


class TestValues:
    """Texts that Postgres can't keep as they are."""

    def test_a_key_of_3000_bytes_is_refused(self, history: HistoryPostgres) -> None:
        """An index takes less. It is no fault of the server."""
        with pytest.raises(InvalidArgument, match="bytes"):
            flow(history).submit(key="k" * 3000)
        assert history.runs() == []

    @pytest.mark.parametrize("text", ["a\0b", "\ud800", "\uffff"], ids=["NUL", "surrogate", "U+FFFF"])
    def test_what_is_no_text_of_postgres_is_kept(self, history: HistoryPostgres, text: str) -> None:
        made = flow(history, params={"text": ""})
        submitted = made.submit(params={"text": text})
        assert made.submit(params={"text": text}) == submitted, "the same text is the same name"
        assert made.submit(params={"text": f"{text}."}) != submitted
        assert len(history.runs()) == 2


#: Mounts a small file system in memory, and gives up the rights that it needs, since Postgres refuses to run as root.
SMALL = """mount -t tmpfs -o size=24m tmpfs small
exec unshare --user --map-user=65534 --map-group=65534 "$0" "$@\""""


class TestFullDisk:
    """The database is on a disk of 24 MB, in a namespace of the server's own."""

    @pytest.fixture
    def small(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresProcess]:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "small").mkdir()
        within = ("unshare", "--map-root-user", "--mount", "sh", "-ec", SMALL)
        with contextlib.closing(PostgresProcess(within=within)) as server:
            server.run(f"CREATE TABLESPACE small LOCATION '{tmp_path / 'small'}'")
            server.run("CREATE DATABASE small TABLESPACE small")
            yield server

    @staticmethod
    def fill(dsn: str) -> None:
        """Fills the disk, to the last page."""
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE filler (text TEXT)")
            for rows in (1_000, 100, 10, 1):
                with contextlib.suppress(psycopg.errors.DiskFull):
                    while True:
                        connection.execute(
                            "INSERT INTO filler SELECT repeat('x', 2000) FROM generate_series(1, %s)", [rows]
                        )

    @staticmethod
    def submit_many(workflow: DotFlow) -> None:
        """Submits runs, of which the pages that there are take some."""
        for _ in range(500):
            workflow.submit(at="1h", key=uuid.uuid4().hex)

    def test_who_submits_hears_it_and_a_server_goes_on_when_there_is_room(self, small: PostgresProcess) -> None:
        """What runs meanwhile completes, and its rows are written later."""
        dsn = small.dsn(database="small")
        full, room = threading.Event(), threading.Event()

        @action
        def fill() -> list[int]:
            self.fill(dsn)
            full.set()
            assert room.wait(30)
            return [1]

        with contextlib.closing(HistoryPostgres(dsn)) as history:
            config = Config(history=history, executor=ExecutorThread(), log=LogDefault(output="none"))
            made = DotFlow(config, workflow_id="report", params={"number": 0})
            made.task.add(fill)
            made.task.add(two)
            with serve(made, wait=False):
                first = made.submit()
                assert full.wait(30)
                other = quick(history, name="other")
                with pytest.raises(HistoryError, match=r"No space left.*Free some space on the server's disk"):
                    self.submit_many(other)
                small.run("DROP TABLE filler", dsn=dsn)
                room.set()
                assert Control(made).wait(first, timeout=30).state is TypeRunState.COMPLETED
                second = made.submit(params={"number": 1})
                assert Control(made).wait(second, timeout=30).state is TypeRunState.COMPLETED
            assert [task.name for task in history.load(first).steps] == ["fill", "two"]


class Lines(LogDefault):
    """What a server says."""

    def __init__(self) -> None:
        super().__init__(output="none")
        self.said: list[str] = []

    def report(self, message: str) -> None:
        self.said.append(message)


class TestServers:
    """A server whose database is harmed while it serves."""

    @pytest.fixture
    def lines(self) -> Lines:
        return Lines()

    @pytest.fixture
    def made(self, history: HistoryPostgres, lines: Lines) -> DotFlow:
        config = Config(history=history, executor=ExecutorThread(), log=lines)
        made = DotFlow(config, workflow_id="report", params={"number": 0})
        made.task.add(one)
        return made

    @pytest.mark.parametrize(
        ("harm", "pause"),
        [
            pytest.param("DROP SCHEMA dotflow CASCADE", 0.05, id="dropped"),
            pytest.param("DROP SCHEMA dotflow CASCADE", 3600.0, id="dropped, and another duty than the look finds it"),
            pytest.param("UPDATE dotflow.meta SET id = 'another'", 0.05, id="replaced"),
        ],
    )
    def test_it_ends_where_the_history_is_another_one(
        self, made: DotFlow, database: Database, monkeypatch: pytest.MonkeyPatch, harm: str, pause: float
    ) -> None:
        """Dropped tables, or another database behind the name: what it knows is not there, whatever finds it first."""
        monkeypatch.setattr("dotflow.providers.histories.postgres.presence.SELDOM", pause)
        monkeypatch.setattr("dotflow.providers.histories.postgres.presence.OFTEN", pause)
        monkeypatch.setattr("dotflow.providers.histories.sql.queue.REST", 0.05)
        server = serve(made, wait=False)
        Control(made).wait(made.submit(), timeout=30)
        database.run(harm)
        assert server._thread is not None
        server._thread.join(30)
        with pytest.raises(HistoryError, match="it is another history than at the start"):
            server.stop()

    @pytest.mark.parametrize(
        ("harm", "heal", "advice"),
        [
            ("ROLE CONNECTION LIMIT 0", "ROLE CONNECTION LIMIT 10", "Raise the server's limit of connections"),
            ("ROLE NOLOGIN", "ROLE LOGIN", "role .* is not permitted to log in"),
        ],
    )
    def test_it_goes_on_when_the_database_can_be_used_again(
        self, made: DotFlow, lines: Lines, database: Database, patience: None, harm: str, heal: str, advice: str
    ) -> None:
        """What the administrator took, and gave back."""
        with serve(made, wait=False):
            Control(made).wait(made.submit(), timeout=30)
            database.alter(harm)
            database.cut()
            while not any(re.search(advice, line) for line in lines.said):
                time.sleep(0.01)
            database.alter(heal)
            run = made.submit(params={"number": 1})
            assert Control(made).wait(run, timeout=30).state is TypeRunState.COMPLETED

    def test_it_goes_on_when_its_role_has_its_rights_back(
        self, made: DotFlow, lines: Lines, database: Database, patience: None
    ) -> None:
        """Server and submission say what is missing."""
        with serve(made, wait=False):
            Control(made).wait(made.submit(), timeout=30)
            database.run(f"REVOKE SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA dotflow FROM {database.name}")
            with pytest.raises(HistoryError, match="Grant the role USAGE"):
                made.submit(params={"number": 1})
            while not any("Grant the role USAGE" in line for line in lines.said):
                time.sleep(0.01)
            database.run(f"GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA dotflow TO {database.name}")
            run = made.submit(params={"number": 2})
            assert Control(made).wait(run, timeout=30).state is TypeRunState.COMPLETED

    @pytest.mark.parametrize("away", [2, pytest.param(300, marks=[pytest.mark.exhaustive, pytest.mark.timeout(400)])])
    def test_an_outage_kills_nobody_and_holds_up_what_waits(
        self,
        request: pytest.FixtureRequest,
        made: DotFlow,
        lines: Lines,
        history: HistoryPostgres,
        postgres_server: PostgresProcess,
        away: float,
    ) -> None:
        """Running steps go on, nothing is taken over, and each run completes once when it is over. It is reported."""
        if away < link.PATIENCE:
            request.getfixturevalue("patience")
        ran: list[int] = []

        @action
        def step(number: int) -> list[int]:
            if number == 1:
                postgres_server.order("stop")
                began.set()
                assert over.wait(away + 30)
            ran.append(number)
            return [number]

        began, over = threading.Event(), threading.Event()
        made = DotFlow(made.config, workflow_id="report", params={"number": 0})
        made.task.add(step)
        made.task.add(two, name="two")
        runs = [made.submit(params={"number": number}) for number in (1, 2)]
        with serve(made, wait=False, max_runs=1):
            assert began.wait(30)
            time.sleep(away)
            over.set()
            postgres_server.order("start")
            control = Control(made)
            states = [control.wait(run, timeout=60).state for run in runs]
        assert states == [TypeRunState.COMPLETED] * 2
        assert ran == [1, 2]
        given_up = away > 45  # the run gives its name up then, and its continuation restores the step
        assert len(history.runs()) == 2 + given_up
        begins = [line for line in lines.said if line.endswith("Nothing new begins until it can.")]
        assert begins
        assert all(line.startswith("The history at ") for line in begins)
        assert len(begins) == len({*begins}), "each cause is reported once"
        (ends,) = [line for line in lines.said if "can be used again (away for " in line]
        assert not any("can't be used" in line for line in lines.said[lines.said.index(ends) :]), "it is over"
        assert away < 20 or re.search(r"away for (5|4) m", ends), ends


class TestReports:
    """What a run reports of an outage: its begin and its end."""

    @pytest.fixture(autouse=True)
    def soon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Looks and retries follow each other closely."""
        monkeypatch.setattr(orders, "INTERVAL", 0.05)
        monkeypatch.setattr(late, "RETRY_DELAY", 0.05)
        monkeypatch.setattr(publisher, "AGAIN", 0.05)

    @pytest.fixture
    def lines(self) -> Lines:
        return Lines()

    @staticmethod
    def workflow(history: HistoryPostgres, lines: Lines, *steps: Callable[[], None]) -> DotFlow:
        made = DotFlow(Config(history=history, log=lines), workflow_id="report")
        for step in steps:
            made.task.add(action(step))
        return made

    @staticmethod
    def wait_for(lines: Lines, text: str, count: int) -> None:
        while sum(text in line for line in lines.said) < count:
            time.sleep(0.01)

    def test_a_run_reports_each_outage_once(
        self, history: HistoryPostgres, lines: Lines, postgres_server: PostgresProcess
    ) -> None:
        """Whatever the causes are that its events and its looks for orders meet. Its steps begin meanwhile."""
        ran: list[str] = []

        def leaves() -> None:
            postgres_server.order("stop")

        def misses() -> None:
            ran.append("while it was away")
            time.sleep(0.3)

        def returns() -> None:
            postgres_server.order("start")

        def rests() -> None:
            time.sleep(0.3)

        steps = [leaves, misses, misses, returns, rests, rests]
        self.workflow(history, lines, *steps, *steps).start()

        assert ran == ["while it was away"] * 4
        begins, ends = lines.said[::2], lines.said[1::2]
        assert len(lines.said) == 4, lines.said
        assert all(line.startswith("The history at 127.0.0.1") for line in begins)
        assert all(re.fullmatch(r"The history can be used again \(away for [0-9.]+ s\)\.", line) for line in ends)
        (run,) = history.runs()
        assert {task.state for task in history.load(run.run_id).steps} == {TypeAttemptState.COMPLETED}

    def test_a_look_without_an_answer_holds_up_no_step(
        self, database: Database, lines: Lines, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A network that swallows all answers nothing for seconds."""
        monkeypatch.setattr(database_module, "GLANCE", 0.1)
        began: list[float] = []

        def swallows() -> None:
            began.append(time.monotonic())
            proxy.mode = "swallow"

        def rests() -> None:
            time.sleep(0.1)

        def forwards() -> None:
            began.append(time.monotonic())
            proxy.mode = "forward"
            proxy.cut()

        with contextlib.closing(HistoryPostgres(database.dsn(proxy.port))) as history:
            self.workflow(history, lines, rests, swallows, *[rests] * 10, forwards, *[rests] * 5).start()
            (run,) = history.runs()
        assert began[1] - began[0] < link.PATIENCE / 2
        assert run.state is TypeRunState.COMPLETED
        first, last = lines.said
        assert "it does not answer" in first
        assert "can be used again" in last

    def test_runs_of_a_server_report_it_once_each(
        self, history: HistoryPostgres, lines: Lines, postgres_server: PostgresProcess, patience: None
    ) -> None:
        """Beside the server, which begins nothing new meanwhile."""
        running = threading.Barrier(3)
        over = threading.Event()

        def waits() -> None:
            running.wait(30)
            assert over.wait(30)

        def rests() -> None:
            time.sleep(0.5)

        config = Config(history=history, log=lines, executor=ExecutorThread())
        made = DotFlow(config, workflow_id="report", params={"number": 0})
        for step in (waits, rests, rests):
            made.task.add(action(step))
        runs = [made.submit(params={"number": number}) for number in range(2)]
        with serve(made, wait=False):
            running.wait(30)
            postgres_server.order("stop")
            self.wait_for(lines, "Nothing new begins", 1)
            time.sleep(0.3)
            postgres_server.order("start")
            self.wait_for(lines, "can be used again", 3)
            over.set()
            assert all(Control(made).wait(run, timeout=30).state is TypeRunState.COMPLETED for run in runs)
        of_runs = [line for line in lines.said if "can't be " in line and "Nothing new begins" not in line]
        assert len(of_runs) == 2, lines.said
        assert sum("can be used again" in line for line in lines.said) == 3, lines.said

    def test_output_of_an_outage_is_kept_and_saved_later(
        self,
        history: HistoryPostgres,
        database: Database,
        postgres_server: PostgresProcess,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """By the process that captures it, which has a copy of the history, and leaves the report to the run."""
        begin(history, "4f0c9a21", "step")
        monkeypatch.setenv("PGPASSWORD", database.name)
        copy = pickle.loads(pickle.dumps(history))
        with contextlib.closing(copy):
            copy.record("4f0c9a21", AttemptOutput(0, 1, 1, b"zeroth ", clock.now()))
            postgres_server.order("stop")
            for data in (b"first ", b"second"):
                with pytest.raises(HistoryUnavailable):
                    copy.record("4f0c9a21", AttemptOutput(0, 1, 1, data, clock.now()))
            postgres_server.order("start")
            copy.settle("4f0c9a21", begins=True)
        assert b"".join(piece.data for piece in history.output("4f0c9a21")) == b"zeroth first second"


@pytest.mark.parametrize(("limit", "most"), [("MAX_ROWS", 3), ("MAX_BYTES", 1_000)])
def test_rows_of_an_outage_have_a_limit(
    history: HistoryPostgres, postgres_server: PostgresProcess, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    """Memory does not grow for ever: beyond it they are dropped, and the end of the run reports how many."""
    monkeypatch.setattr(late, limit, most)
    monkeypatch.setattr(late, "LAST_PATIENCE", 0.2)
    quick(history, name="before").start()
    begin(history, "4f0c9a21", *(f"step{number}" for number in range(6)))
    writer = history._late.get("4f0c9a21")
    assert writer is not None
    postgres_server.order("stop")
    for task in range(6):
        writer.add(HANDLERS[AttemptOutput], AttemptOutput(task, 1, 1, b"x" * 200, clock.now()))
        writer.add(HANDLERS[TaskCompleted], TaskCompleted(task, Context(task), clock.monotonic()))
    while not writer._missing:
        writer._retry_at = 0.0
        writer.write()
    assert not any(map(len, writer._waiting))
    ended = RunEnded("shop", "4f0c9a21", TypeStatus.COMPLETED, clock.now(), TypeRunState.COMPLETED, "")
    with pytest.raises(HistoryError, match=r"\d+ rows of the run 4f0c9a21 are not in 127\.0\.0\.1"):
        history.record("4f0c9a21", ended)
    postgres_server.order("start")


class TestConnections:
    """How many a process has."""

    @staticmethod
    def count(database: Database) -> int:
        """The connections to the database but that of the question, and those of its own workers."""
        others = "datname = %s AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        return int(database.run(f"SELECT COUNT(*) FROM pg_stat_activity WHERE {others}", database.name)[0][0])

    def test_a_short_run_has_one(
        self, history: HistoryPostgres, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One that ends before it looks for orders, after a second."""
        monkeypatch.setattr(orders, "INTERVAL", 60.0)
        counts: list[int] = []

        @action
        def count() -> None:
            counts.append(self.count(database))

        quick(history, count).start()
        assert counts == [1]

    def test_a_run_that_beats_has_two(self, history: HistoryPostgres, database: Database) -> None:
        counts: list[int] = []

        @action
        def count() -> None:
            history.database.presence.beat()
            counts.append(self.count(database))

        quick(history, count).start()
        assert counts == [2]

    def test_a_web_process_has_one(self, history: HistoryPostgres, database: Database) -> None:
        """However many submissions and orders it makes."""
        made = flow(history, params={"number": 0})
        runs = [made.submit(params={"number": number}) for number in range(3)]
        Control(made).cancel(runs[0])
        assert self.count(database) <= 2  # one more while it reads

    def test_a_server_has_one_for_each_use(self, history: HistoryPostgres, database: Database) -> None:
        """Queue and looks, beats, and events. That of its reads ends with the next beat."""
        counts: list[int] = []

        @action
        def count() -> None:
            history.database.presence.beat()
            counts.append(self.count(database))

        made = DotFlow(
            Config(history=history, executor=ExecutorThread(), log=LogDefault(output="none")), workflow_id="report"
        )
        made.task.add(count)
        made.submit()
        serve(made, once=True)
        assert counts[0] <= 3, counts

    def test_an_idle_server_asks_nothing_but_whether_there_is_news(
        self, history: HistoryPostgres, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One statement a second, by default. The beats of another process are no news."""
        monkeypatch.setattr("dotflow.providers.histories.postgres.presence.SELDOM", 0.01)
        monkeypatch.setattr("dotflow.providers.histories.postgres.presence.BETWEEN_LOOKS", 0.01)
        monkeypatch.setattr("dotflow.providers.histories.postgres.presence.BUSY", 0.0)
        monkeypatch.setattr("dotflow.providers.histories.postgres.presence.OFTEN", 0.01)
        monkeypatch.setattr("dotflow.serving.server.TAKE_OVER", 0.01)
        monkeypatch.setattr("dotflow.serving.server.POLL", 0.01)
        sent: list[bytes] = []
        execute = link._execute

        def count(raw: psycopg.Connection, waiting: list[tuple[psycopg.Cursor, bytes, object]]) -> None:
            sent.extend(text for _, text, _ in waiting)
            execute(raw, waiting)

        monkeypatch.setattr(link, "_execute", count)

        def is_quiet(looks: int) -> bool:
            """Returns whether it asks nothing else while it looks some times."""
            before = len(sent)
            while sum(b"pg_current_snapshot" in text for text in sent[before:]) < looks:
                time.sleep(0.01)
            return not [text for text in sent[before:] if b".beats" not in text and text != b"COMMIT"]

        made = flow(history, params={"number": 0})
        with contextlib.closing(HistoryPostgres(database.dsn())) as other, serve(made, wait=False):
            beats = other.database.presence
            lock = beats.hold()
            assert lock is not None
            Control(made).wait(made.submit(), timeout=30)
            while not is_quiet(30):
                pass
            beats.beat()
            while not is_quiet(30):  # where Postgres has analyzed a table meanwhile
                beats.beat()
            run = made.submit(params={"number": 1})
            assert Control(made).wait(run, timeout=30).state is TypeRunState.COMPLETED
            beats.release(lock)


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_fork_of_a_process_with_an_open_history_leaves_it_its_connections(
    history: HistoryPostgres, database: Database
) -> None:
    """The child opens its own, and ends without a word to the parent's."""
    submitted = [flow(history).submit()]
    others = "datname = %s AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    sessions = f"SELECT pid FROM pg_stat_activity WHERE {others}"
    before = database.run(sessions, database.name)
    child = os.fork()
    if not child:
        code = 1
        try:
            flow(history, params={"number": 0}).submit(params={"number": 1})
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    submitted.append(flow(history, params={"number": 0}).submit(params={"number": 2}))
    assert len(history.runs()) == 3
    assert {*before} <= {*database.run(sessions, database.name)}


@pytest.mark.parametrize(
    "poison",
    ["params = '{'", "params = '[1]'", "params = NULL", "state = 'Weird'", "workflow = NULL", "origin = NULL"],
)
def test_a_poisoned_row_of_the_queue_fails_alone(history: HistoryPostgres, database: Database, poison: str) -> None:
    """The rest is served."""
    made = DotFlow(
        Config(history=history, executor=ExecutorThread(), log=LogDefault(output="none")),
        workflow_id="report",
        params={"number": 0},
    )
    made.task.add(one)
    bad, good = (made.submit(params={"number": number}) for number in range(2))
    database.run(f"UPDATE dotflow.runs SET {poison} WHERE run_id = %s", bad)
    serve(made, once=True)
    assert history.summary(good).state is TypeRunState.COMPLETED


def test_a_restart_of_the_server_loses_no_row(history: HistoryPostgres, postgres_server: PostgresProcess) -> None:
    """Its steps go on while it is away, and what they did is written when it is back."""
    starting: list[threading.Thread] = []

    @action
    def restart() -> list[int]:
        postgres_server.order("stop")
        starting.append(threading.Thread(target=postgres_server.order, args=("start",)))
        starting[0].start()
        return [1]

    made = DotFlow(config=Config(history=history), workflow_id="report")
    made.task.add(restart)
    made.task.add(two)
    made.start()
    starting[0].join()
    (run,) = history.runs()
    states = [(task.name, task.state) for task in history.load(run.run_id).steps]
    assert states == [("restart", TypeAttemptState.COMPLETED), ("two", TypeAttemptState.COMPLETED)]
