"""StoragePostgres: a server that restarts or refuses, many writers, forks, a lease that is gone, and secrets."""

import contextlib
import copy
import logging
import os
import pickle
import random
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from dotflow import Context, DotFlow, action
from dotflow.errors import CheckpointUnreadable, InvalidArgument, StorageError
from dotflow.providers import StoragePostgres, optional
from tests.clouds.postgres import PASSWORD, PostgresProcess
from tests.integration.children import Scripts

MakeWorkflow = Callable[..., DotFlow]
NARROW = "narrow_role"  # a role of the tests' own
PIECES = ("s3cr3t", "w:rd", "rd?'s", "p%40ss", "p@ss")  # of the password, raw and as it stands in a URL


@pytest.fixture
def storage(postgres: str) -> Iterator[StoragePostgres]:
    made = StoragePostgres(postgres)
    with contextlib.closing(made):
        yield made


@pytest.fixture
def role(postgres: str, postgres_server: PostgresProcess) -> Iterator[str]:
    """The DSN of a role that may use the schema, and nothing else."""
    schema = schema_of(postgres)
    postgres_server.run(f"CREATE ROLE {NARROW} LOGIN PASSWORD 'narrow'")
    postgres_server.run(f"GRANT USAGE ON SCHEMA {schema} TO {NARROW}")
    yield postgres_server.dsn("narrow", user=NARROW, options=f"-csearch_path={schema}")
    postgres_server.run(f"DROP OWNED BY {NARROW}")
    postgres_server.run(f"DROP ROLE {NARROW}")


def schema_of(dsn: str) -> str:
    return dsn.rpartition("%3D")[2]


def holds(condition: Callable[[], object], within: float = 10.0) -> bool:
    """Whether it comes true before *within* seconds are over."""
    until = time.monotonic() + within
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


class TestServer:
    """A server that goes away, and comes back or not."""

    def test_a_restart_between_two_steps_loses_nothing(
        self, storage: StoragePostgres, postgres_server: PostgresProcess, make_workflow: MakeWorkflow
    ) -> None:
        """The run waits for it, and goes on; its lease is still its own."""
        starting: list[threading.Thread] = []

        @action
        def first() -> list[int]:
            return [1]

        @action
        def second() -> list[int]:
            postgres_server.order("stop")
            starting.append(threading.Thread(target=postgres_server.order, args=("start",)))
            starting[0].start()
            return [2]

        @action
        def third() -> list[int]:
            return [3]

        workflow = make_workflow(storage=storage, workflow_id="nightly")
        workflow.task.add([first, second, third])
        run = workflow.start()
        starting[0].join()

        assert str(run.status) == "Completed", [task.errors for task in run.tasks]
        assert [storage.get(f"nightly/{number}").storage for number in range(3)] == [[1], [2], [3]]

    @pytest.mark.parametrize("end", ["stop", "crash"])
    def test_a_statement_that_was_cut_off_is_repeated(
        self, storage: StoragePostgres, postgres: str, postgres_server: PostgresProcess, end: str
    ) -> None:
        """The statement may have been executed or not, so it is run again."""
        storage.post("w/0", Context("before", task_id=0))
        waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'dotflow'"
        with contextlib.closing(psycopg.connect(postgres)) as blocking:
            blocking.execute("SELECT 1 FROM dotflow_checkpoints FOR UPDATE")
            post = threading.Thread(target=storage.post, args=("w/0", Context("after", task_id=0)))
            post.start()
            assert holds(lambda: postgres_server.run(waiting))
            postgres_server.order(end)
            postgres_server.order("start")
        post.join()

        assert storage.get("w/0").storage == "after"

    def test_one_that_does_not_come_back_is_an_error(
        self, storage: StoragePostgres, postgres_server: PostgresProcess, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After the timeout, with advice. Once the server is back, the storage works again."""
        storage.post("w/0", Context(1))
        run = storage._tables.pool.run
        monkeypatch.setattr(storage._tables.pool, "run", lambda statement, values, timeout: run(statement, values, 0.3))
        postgres_server.order("stop")

        with pytest.raises(StorageError, match=r"127\.0\.0\.1, port \d+, database 'postgres'.*resume=True"):
            storage.get("w/0")
        postgres_server.order("start")
        assert storage.get("w/0").storage == 1

    def test_no_session_is_needed(self, storage: StoragePostgres) -> None:
        """As behind a pooler, which runs each transaction in another session."""
        with storage.lock("w"):
            for number in range(8):
                storage.post(f"w/{number}", Context(number))
                storage._tables.pool.run("DISCARD ALL")
                assert storage.get(f"w/{number}").storage == number
                held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
                assert storage._tables.pool.run(held) == [(0,)]
                assert storage._tables.pool.run("SELECT count(*) FROM pg_prepared_statements") == [(0,)]

    def test_connections_are_closed(self, postgres: str, postgres_server: PostgresProcess) -> None:
        """Those that threads have needed, too: two are kept, and none after close(), nor when it is no longer used."""
        storage = StoragePostgres(postgres.replace("?", "?application_name=counted&"))
        count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'counted'"
        _post_from_six_threads(storage)
        assert holds(lambda: postgres_server.run(count)[0][0] <= 2)
        storage.close()
        assert holds(lambda: postgres_server.run(count) == [(0,)])
        storage.get("w/0")
        assert postgres_server.run(count) == [(1,)]
        del storage
        assert holds(lambda: postgres_server.run(count) == [(0,)])


class TestLease:
    """Writes that are made only while the lease is the writer's."""

    def test_nothing_is_written_after_losing_it(
        self, storage: StoragePostgres, postgres: str, postgres_server: PostgresProcess
    ) -> None:
        """However sure the process is: the row counts, in one with the write."""
        with storage.lock("w"):
            storage.post("w/0", Context("ours"))
            postgres_server.run(
                "UPDATE dotflow_checkpoints_leases SET token = 'x', version = 'y', "
                'note = replace(note, \'"token": "\', \'"token": "x\')',
                dsn=postgres,
            )
            for write in (
                lambda: storage.post("w/0", Context("late")),
                lambda: storage.delete("w/0"),
                lambda: storage.clear("w"),
            ):
                with pytest.raises(StorageError, match=r"'w' lost its lease.*nothing was written"):
                    write()

        assert storage.get("w/0").storage == "ours"

    def test_it_can_not_be_taken_over_during_a_write(
        self, storage: StoragePostgres, postgres: str, postgres_server: PostgresProcess
    ) -> None:
        """However long the write waits: until it is done, the row of the lease is not changed."""
        waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'dotflow'"
        take_over = "SET lock_timeout = '100ms'; UPDATE dotflow_checkpoints_leases SET token = 'x'"
        with storage.lock("w"):
            storage.post("w/0", Context("before"))
            with contextlib.closing(psycopg.connect(postgres)) as blocking:
                blocking.execute("SELECT 1 FROM dotflow_checkpoints FOR UPDATE")
                post = threading.Thread(target=storage.post, args=("w/0", Context("after")))
                post.start()
                assert holds(lambda: postgres_server.run(waiting))
                with pytest.raises(psycopg.errors.LockNotAvailable):
                    postgres_server.run(take_over, dsn=postgres)
            post.join()

        assert storage.get("w/0").storage == "after"

    def test_a_lease_that_was_deleted_is_lost(
        self, storage: StoragePostgres, postgres: str, postgres_server: PostgresProcess
    ) -> None:
        """Deleted by hand, for example: nothing is written."""
        with storage.lock("w"):
            postgres_server.run("DELETE FROM dotflow_checkpoints_leases", dsn=postgres)
            with pytest.raises(StorageError, match=r"lost its lease.*entry was deleted"):
                storage.post("w/0", Context(1))

        assert not storage.contains("w/0")
        with storage.lock("w"):
            storage.post("w/0", Context(2))

    def test_two_ways_to_one_place_share_it(self, storage: StoragePostgres, postgres: str) -> None:
        """Runs of one process share the lock, however their DSNs are written."""
        other = StoragePostgres(
            postgres.replace("127.0.0.1", "localhost"), table=f"{schema_of(postgres)}.dotflow_checkpoints"
        )
        with storage.lock("w") as name, other.lock("w") as same:
            assert name == same


class TestTables:
    """Where the rows are."""

    def test_a_value_is_a_readable_row(
        self, storage: StoragePostgres, postgres: str, postgres_server: PostgresProcess
    ) -> None:
        """By the query in the docs."""
        storage.post("nightly/3", Context({"rows": 3}, task_id=3))
        found = "SELECT key, document::json -> 'value' FROM dotflow_checkpoints"

        assert postgres_server.run(found, dsn=postgres) == [("nightly/3", {"rows": 3})]

    def test_a_damaged_document_is_named(
        self, storage: StoragePostgres, postgres: str, postgres_server: PostgresProcess
    ) -> None:
        """By table and key; it is contained."""
        storage.post("w/0", Context(1))
        postgres_server.run("UPDATE dotflow_checkpoints SET document = 'garbage'", dsn=postgres)

        with pytest.raises(CheckpointUnreadable, match="table dotflow_checkpoints, key 'w/0'"):
            storage.get("w/0")
        assert storage.contains("w/0")

    def test_long_keys_that_can_t_be_compressed(self, storage: StoragePostgres) -> None:
        """An index takes up to 2,704 bytes, and they are longer: of other scripts, and in both parts."""
        dice = random.Random(7)
        keys = ["".join(chr(dice.randrange(0x4E00, 0x9FFF)) for _ in range(4_000)) for _ in range(2)]
        keys = [f"{keys[0]}/0", f"{keys[0]}/{keys[1]}", f"{keys[0]}/{keys[1]}x", f"w/{keys[0]}", keys[0]]
        for number, key in enumerate(keys):
            storage.post(key, Context(number))

        assert [storage.get(key).storage for key in keys] == [0, 1, 2, 3, 4]
        assert list(storage.list_keys()) == sorted(keys)
        storage.clear(keys[4])
        assert list(storage.list_keys()) == sorted(keys[3:])

    def test_a_table_of_one_s_own(self, postgres: str) -> None:
        """With its schema and in capitals; two of them share nothing."""
        one, other = StoragePostgres(postgres), StoragePostgres(postgres, table=f"{schema_of(postgres)}.Own")
        other.post("w/0", Context(1))

        assert not one.contains("w/0")
        assert StoragePostgres(postgres, table="Own").get("w/0").storage == 1
        assert not StoragePostgres(postgres, table="own").contains("w/0")

    def test_reading_makes_nothing(
        self, storage: StoragePostgres, postgres: str, postgres_server: PostgresProcess
    ) -> None:
        """Nor does deleting."""
        assert storage.get("w/0").storage is None
        assert not storage.contains("w/0")
        assert list(storage.list_keys()) == []
        storage.delete("w/0")

        assert postgres_server.run("SELECT to_regclass('dotflow_checkpoints')", dsn=postgres) == [(None,)]

    def test_a_role_that_may_not_create_uses_existing_tables(
        self, storage: StoragePostgres, role: str, postgres: str, postgres_server: PostgresProcess
    ) -> None:
        """Without the tables, or without rights on them, the error names the rights."""
        narrow = StoragePostgres(role)
        with pytest.raises(StorageError, match=r"permission denied.*SELECT, INSERT, UPDATE and DELETE"):
            narrow.lock("w")
        storage.post("w/0", Context(1))
        with pytest.raises(StorageError, match=r"permission denied.*SELECT, INSERT, UPDATE and DELETE"):
            narrow.get("w/0")
        tables = "dotflow_checkpoints, dotflow_checkpoints_leases"
        postgres_server.run(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO {NARROW}", dsn=postgres)

        with narrow.lock("w"):
            assert narrow.get("w/0").storage == 1
            narrow.post("w/0", Context(2))
            narrow.clear("w")
        narrow.close()

    def test_a_run_without_an_id_fails_before_its_first_step(self, role: str, make_workflow: MakeWorkflow) -> None:
        """A role that may not create: nothing runs whose value could not be kept."""
        ran: list[int] = []
        workflow = make_workflow(storage=StoragePostgres(role))
        workflow.task.add(action(lambda: ran.append(1)))

        with pytest.raises(StorageError, match=r"permission denied.*SELECT, INSERT, UPDATE and DELETE"):
            workflow.start()

        assert ran == []

    def test_another_program_s_table_is_left_alone(
        self, storage: StoragePostgres, postgres: str, postgres_server: PostgresProcess
    ) -> None:
        """The error names the way out."""
        postgres_server.run("CREATE TABLE dotflow_checkpoints (id int)", dsn=postgres)

        with pytest.raises(StorageError, match=r"StoragePostgres\(table="):
            storage.post("w/0", Context(1))

    def test_a_database_that_can_t_hold_every_text(self, postgres_server: PostgresProcess) -> None:
        """The error names the encoding."""
        postgres_server.run("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
        storage = StoragePostgres(postgres_server.dsn(database="latin"))
        with contextlib.closing(storage):
            storage.post("w/0", Context("plain"))
            with pytest.raises(StorageError, match="encoding UTF8"):
                storage.post("w/0", Context("😀"))
            assert storage.get("w/0").storage == "plain"
        postgres_server.run("DROP DATABASE latin")


class TestRefusals:
    """One error before the first step, with the server and advice."""

    def test_a_server_that_closes_the_connection(self, make_workflow: MakeWorkflow) -> None:
        """Of libpq's three lines, the last one goes on with the second: they are two sentences."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            closer = threading.Thread(target=lambda: server.accept()[0].close())
            closer.start()
            workflow = make_workflow(storage=StoragePostgres(f"host=127.0.0.1 port={server.getsockname()[1]} user=x"))
            workflow.task.add(action(lambda: 1))

            with pytest.raises(StorageError, match=r"unexpectedly\. This .* abnormally before or"):
                workflow.start(resume=True)
            closer.join()

    @pytest.mark.parametrize(
        ("given", "said", "cure"),
        [
            ({"password": f"wrong{PASSWORD}"}, "password authentication failed", "user and password"),
            ({"password": ""}, "no password", "PGPASSWORD"),
            ({"database": "nowhere"}, "nowhere", "database, user and password"),
            ({"port": "1"}, "refused", "the server runs"),
            ({"options": "-cdefault_transaction_read_only=on"}, "read-only", "target_session_attrs"),
            ({"options": "-csearch_path=nowhere"}, "no schema", "Create the schema"),
            ({"sslmode": "require"}, "SSL", "the server runs"),
        ],
        ids=["password", "no password", "database", "port", "read only", "schema", "TLS"],
    )
    def test_start_raises_it_and_shows_no_secret(
        self,
        postgres_server: PostgresProcess,
        make_workflow: MakeWorkflow,
        caplog: pytest.LogCaptureFixture,
        given: dict[str, str],
        said: str,
        cure: str,
    ) -> None:
        """In no message, traceback, log or repr."""
        postgres_server.order("start")
        caplog.set_level(logging.DEBUG)
        storage = StoragePostgres(postgres_server.dsn(**given))
        ran: list[int] = []
        workflow = make_workflow(storage=storage, workflow_id="nightly")
        workflow.task.add(action(lambda: ran.append(1)))

        with pytest.raises(StorageError) as raised:
            workflow.start(resume=True)

        text = str(raised.value)
        assert said in text
        assert cure in text
        assert f"127.0.0.1, port {given.get('port', postgres_server.port)}, database" in text
        assert ran == []
        shown = (
            "".join(traceback.format_exception(raised.value))
            + caplog.text
            + repr(storage)
            + repr(storage._tables.pool.dsn)
        )
        assert [piece for piece in PIECES if piece in shown] == []
        assert str(pickle.loads(pickle.dumps(raised.value))) == text
        storage.close()

    def test_too_many_connections(self, role: str, postgres_server: PostgresProcess) -> None:
        """With the server's message."""
        postgres_server.run(f"ALTER ROLE {NARROW} CONNECTION LIMIT 0")

        with pytest.raises(StorageError, match="too many connections"):
            StoragePostgres(role).lock("w")

    @pytest.mark.parametrize(
        "dsn",
        [
            "postgresql://user:p@ss@host/db",
            "postgresql://user:s3/cr3t@host/db",
            "postgresql://user:12/34@host/db",
            "postgresql://user:%zz@host/db",
            "host=h password=my s3cr3t",
            "s3cr3t",
            "host=h\0password=s3cr3t",
            "host=h password=\ud800",
        ],
    )
    def test_a_dsn_that_is_none_is_not_repeated(self, dsn: str) -> None:
        """A part of the password may have ended up anywhere in it."""
        with pytest.raises(InvalidArgument, match=r"^dsn='…'.*percent-encoded") as raised:
            StoragePostgres(dsn)

        assert [piece for piece in ("s3", "cr3t", "@ss", "34@") if piece in str(raised.value)] == []

    @pytest.mark.parametrize(
        "given",
        [
            {"dsn": None},
            {"dsn": b"host=h"},
            {"table": ""},
            {"table": 'a"b'},
            {"table": "a.b.c"},
            {"table": "x" * 57},
            {"lease": 0},
            {"lease": "30"},
            {"pickle": 1},
        ],
        ids=str,
    )
    def test_a_wrong_argument_is_named(self, given: dict[str, object]) -> None:
        """With what is accepted."""
        with pytest.raises(InvalidArgument, match=f"^{next(iter(given))}="):
            StoragePostgres(**{"dsn": "", **given})  # type: ignore[arg-type]

    def test_a_missing_extra_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """When the storage is made."""
        monkeypatch.setattr(optional, "find_spec", lambda name: None)
        with pytest.raises(ImportError, match=r"pip install 'dotflow\[postgres\]'"):
            StoragePostgres("")


class TestTravel:
    """Copies, forks and other processes."""

    def test_a_password_does_not_travel(self, storage: StoragePostgres, monkeypatch: pytest.MonkeyPatch) -> None:
        """A pickled copy takes it from the environment; without one, the error says why."""
        storage.post("w/0", Context(1))
        packed = pickle.dumps(storage)
        assert [piece for piece in (PASSWORD, *PIECES) if piece.encode() in packed] == []
        monkeypatch.setenv("PGPASSFILE", os.devnull)
        for text in (packed, pickle.dumps(pickle.loads(packed))):
            with pytest.raises(StorageError, match=r"Set PGPASSWORD.*pickled storages carry none"):
                pickle.loads(text).get("w/0")
        monkeypatch.setenv("PGPASSWORD", PASSWORD)
        with contextlib.closing(pickle.loads(packed)) as found:
            assert found.get("w/0").storage == 1

    @pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
    def test_a_copy_here_keeps_it(
        self, storage: StoragePostgres, copied: Callable[[StoragePostgres], StoragePostgres]
    ) -> None:
        """It is the same process's."""
        storage.post("w/0", Context(1))
        with contextlib.closing(copied(storage)) as found:
            assert found.get("w/0").storage == 1

    @pytest.mark.exhaustive(keep_every=2)
    @pytest.mark.parametrize("ends", ["os._exit(7)", "sys.exit(7)"])
    def test_a_forked_process_connects_for_itself(self, scripts: Scripts, postgres: str, ends: str) -> None:
        """Its end sends nothing on the parent's connection, whose session goes on."""
        source = f"""
from dotflow.providers import StoragePostgres

storage = StoragePostgres({postgres!r})
storage.post("w/0", Context([1]))
session = lambda: storage._tables.pool.run("SELECT pg_backend_pid()")[0][0]
before = session()
child = os.fork()
if not child:
    storage.close()
    assert storage.get("w/0").storage == [1] and session() != before
    {ends}
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
say(code=code, same=session() == before)
"""
        assert scripts.run(source).facts == {"code": 7, "same": True}

    @pytest.mark.exhaustive
    @pytest.mark.slow
    def test_eight_processes_write_at_once(
        self, scripts: Scripts, storage: StoragePostgres, postgres: str, tmp_path: Path
    ) -> None:
        """All start together without tables: none fails, and nothing is lost."""
        source = f"""
from dotflow.providers import StoragePostgres

storage = StoragePostgres({postgres!r})
say(here=1)
while not (HERE / "go").exists():
    time.sleep(0.0005)
for number in range(50):
    storage.post(f"{{sys.argv[1]}}/{{number}}", Context([sys.argv[1], number]))
    storage.post("shared/0", Context(sys.argv[1] * 1000))
say(done=1)
"""
        started = [scripts.start(source, f"w{number}") for number in range(8)]
        for script in started:
            assert "here" in script.line()
        (tmp_path / "go").touch()
        ends = [script.end() for script in started]

        assert [(end.code, end.err) for end in ends] == [(0, "")] * 8
        for number in range(8):
            assert [storage.get(f"w{number}/{task}").storage for task in range(50)] == [
                [f"w{number}", t] for t in range(50)
            ]
        assert storage.get("shared/0").storage in {f"w{number}" * 1000 for number in range(8)}
        assert len(list(storage.list_keys())) == 401


def test_an_interrupt_gives_no_connection_back(storage: StoragePostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """After Ctrl-C during a statement, the next one does not read its result."""
    storage.post("w/0", Context(1))
    taken = storage._tables.pool._check_out()

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(taken, "execute", interrupted)
    storage._tables.pool._idle.append(taken)
    with pytest.raises(KeyboardInterrupt):
        storage.get("w/0")

    assert taken.closed
    assert storage.get("w/0").storage == 1


def _post_from_six_threads(storage: StoragePostgres) -> None:
    together = threading.Barrier(6)

    def post(number: int) -> None:
        together.wait()
        storage.post(f"w/{number}", Context(number))

    threads = [threading.Thread(target=post, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
