"""submit(connection=...): a run that is queued by a transaction of the program's own."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, DotFlow, action, serve
from dotflow.control import Control
from dotflow.core.types.run_state import TypeRunState
from dotflow.errors import InvalidArgument, OrderRefused
from dotflow.providers import ExecutorThread, HistoryPostgres, HistorySQLite, LogDefault, StorageFile
from tests.clouds.postgres import PostgresProcess

psycopg = pytest.importorskip("psycopg")

WAITS_FOR_ANOTHER = "SELECT COUNT(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"


@action
def double(customer: int) -> int:
    return 2 * customer


@pytest.fixture
def workflow(postgres_history: str, tmp_path: Path) -> Iterator[DotFlow]:
    with closing(HistoryPostgres(postgres_history)) as history:
        config = Config(
            history=history,
            storage=StorageFile(tmp_path / "values"),
            executor=ExecutorThread(),
            log=LogDefault(output="none"),
        )
        made = DotFlow(config, workflow_id="report", params={"customer": 1})
        made.task.add(double)
        yield made


def ids(workflow: DotFlow) -> list[str]:
    assert isinstance(workflow.config.history, HistoryPostgres)
    return [run.run_id for run in workflow.config.history.runs()]


def test_a_run_is_there_when_the_transaction_commits_and_gone_when_it_is_rolled_back(
    workflow: DotFlow, postgres_history: str
) -> None:
    """No other process sees it before. A server gives it its name, and runs it."""
    with psycopg.connect(postgres_history) as connection:
        run = workflow.submit(params={"customer": 7}, connection=connection)
        assert ids(workflow) == []
        connection.commit()
        assert ids(workflow) == [run]
        Control(workflow).submit("report", {"customer": 8}, connection=connection, by="anna")
        connection.rollback()
    assert ids(workflow) == [run]

    serve(workflow, once=True)
    found = Control(workflow).run(run)
    assert (found.state, found.workflow_id) == (TypeRunState.COMPLETED, "report@customer=7")
    assert workflow.value(run, "double") == 14


def test_a_program_that_is_killed_before_its_commit_has_submitted_nothing(
    workflow: DotFlow, postgres_history: str
) -> None:
    """The server rolls its transaction back."""
    connection = psycopg.connect(postgres_history)
    workflow.submit(connection=connection)
    with psycopg.connect(postgres_history, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", (connection.info.backend_pid,))
    with closing(connection), pytest.raises(psycopg.OperationalError):
        connection.commit()
    assert ids(workflow) == []


def test_it_merges_with_no_queued_run_and_waits_until_that_has_begun(workflow: DotFlow, postgres_history: str) -> None:
    """To merge would make others wait for the commit. Two that have the same parameters run one after the other."""
    first = workflow.submit()
    with psycopg.connect(postgres_history) as connection:
        second = workflow.submit(connection=connection)
        assert workflow.submit() == first, "another one waits for no lock of the transaction"
    assert second != first

    summaries = serve(workflow, once=True)
    assert [(run.run_id, run.state) for run in summaries] == [
        (first, TypeRunState.COMPLETED),
        (second, TypeRunState.COMPLETED),
    ]


def test_a_known_key_is_the_run_of_that_key(workflow: DotFlow, postgres_history: str) -> None:
    """With other parameters it is refused, and the transaction can go on."""
    run = workflow.submit(params={"customer": 7}, key="click")
    with psycopg.connect(postgres_history) as connection:
        assert workflow.submit(params={"customer": 7}, key="click", connection=connection) == run
        with pytest.raises(OrderRefused, match="used with other parameters"):
            workflow.submit(params={"customer": 8}, key="click", connection=connection)
        another = workflow.submit(params={"customer": 8}, key="another", connection=connection)
    assert sorted(ids(workflow)) == sorted([run, another])
    assert workflow.submit(params={"customer": 8}, key="another") == another


def test_two_transactions_with_one_new_key_wait_for_each_other(workflow: DotFlow, postgres_history: str) -> None:
    """The second one gets the run of the first one, and leaves nothing behind."""
    with (
        psycopg.connect(postgres_history) as first,
        psycopg.connect(postgres_history) as second,
        psycopg.connect(postgres_history, autocommit=True) as looking,
        ThreadPoolExecutor(1) as pool,
    ):
        run = workflow.submit(key="click", connection=first)
        waiting = pool.submit(workflow.submit, key="click", connection=second)
        while looking.execute(WAITS_FOR_ANOTHER).fetchone() == (0,):
            assert not waiting.done()
        first.commit()
        assert waiting.result() == run
    assert ids(workflow) == [run]


def test_rows_and_texts_are_as_dotflow_needs_them_and_the_connection_stays_as_it_is(
    workflow: DotFlow, postgres_history: str
) -> None:
    """Whatever its row factory, its cursors and its adapters are."""
    factories: dict[str, Any] = {"row_factory": psycopg.rows.dict_row, "cursor_factory": psycopg.ClientCursor}
    with psycopg.connect(postgres_history, **factories) as connection:
        run = Control(workflow).submit("report", {"customer": 7, "note": "a\0b"}, key="k\0", connection=connection)
        assert connection.execute("SELECT 1 AS one").fetchone() == {"one": 1}
        with pytest.raises(psycopg.DataError):
            connection.execute("SELECT %s", ("a\0b",))
        connection.rollback()
        run = Control(workflow).submit("other", {"note": "a\0b"}, key="k\0", connection=connection)
    assert Control(workflow).submit("other", {"note": "a\0b"}, key="k\0") == run


def test_outside_of_a_transaction_it_is_a_plain_submission(workflow: DotFlow, postgres_history: str) -> None:
    """In autocommit it merges; within `connection.transaction()` it does not."""
    with psycopg.connect(postgres_history, autocommit=True) as connection:
        run = workflow.submit(connection=connection)
        assert workflow.submit(connection=connection) == run
        with connection.transaction():
            assert workflow.submit(connection=connection) != run


def test_other_connections_are_refused_in_words(
    workflow: DotFlow, postgres_history: str, postgres_server: PostgresProcess, tmp_path: Path
) -> None:
    """Of another database, of another kind, one of coroutines; and any by a history in a file."""

    async def in_coroutine() -> None:
        async with await psycopg.AsyncConnection.connect(postgres_history) as connection:
            workflow.submit(connection=connection)

    with psycopg.connect(postgres_server.dsn()) as connection:
        with pytest.raises(InvalidArgument, match=r"one to the database of .*'histories'"):
            workflow.submit(connection=connection)
        assert connection.execute("SELECT 1").fetchone() == (1,), "the transaction can go on"
    with pytest.raises(InvalidArgument, match=r"psycopg.Connection, which has the transaction.*driver_connection"):
        workflow.submit(connection=object())  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match=r"an AsyncConnection can't be used"):
        asyncio.run(in_coroutine())
    with (
        closing(HistorySQLite(tmp_path / "history.db")) as history,
        psycopg.connect(postgres_history) as connection,
        pytest.raises(InvalidArgument, match="only HistoryPostgres"),
    ):
        Control(history).submit("report", connection=connection)
