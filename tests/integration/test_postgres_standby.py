"""HistoryPostgres on a primary with a standby: what is read-only, and what goes on behind a failover."""

import contextlib
import re
import threading
from collections.abc import Iterator

import pytest

from dotflow import Config, Control, DotFlow, action, serve
from dotflow.core.types.run_state import TypeRunState
from dotflow.errors import HistoryError
from dotflow.providers import ExecutorThread, HistoryPostgres, LogDefault
from dotflow.providers.histories.postgres.link import ON_PRIMARY
from tests.clouds.postgres import PostgresProcess
from tests.clouds.tcp_proxy import TcpProxy
from tests.histories import quick

pytestmark = pytest.mark.slow


@pytest.fixture
def primary() -> Iterator[PostgresProcess]:
    with contextlib.closing(PostgresProcess()) as server:
        yield server


@pytest.fixture
def standby(primary: PostgresProcess) -> Iterator[PostgresProcess]:
    """Follows the primary."""
    with contextlib.closing(PostgresProcess(standby=primary)) as server:
        yield server


@pytest.fixture
def both(primary: PostgresProcess, standby: PostgresProcess) -> Iterator[HistoryPostgres]:
    """A history whose DSN names both hosts, the standby first."""
    hosts = f"127.0.0.1:{standby.port},127.0.0.1:{primary.port}"
    with contextlib.closing(HistoryPostgres(primary.dsn().replace(f"127.0.0.1:{primary.port}", hosts))) as history:
        yield history


def fail_over(primary: PostgresProcess, standby: PostgresProcess) -> None:
    """Ends the primary, which waits until the standby has all, and promotes that one."""
    primary.order("stop")
    assert standby.run("SELECT pg_promote()") == [(True,)]


def catch_up(primary: PostgresProcess, standby: PostgresProcess) -> None:
    """Waits until the standby has what the primary has."""
    ((written,),) = primary.run("SELECT pg_current_wal_lsn()::TEXT")
    while standby.run(f"SELECT pg_last_wal_replay_lsn() < '{written}'") != [(False,)]:
        pass


def test_a_run_and_a_server_go_on_behind_a_failover(
    both: HistoryPostgres, primary: PostgresProcess, standby: PostgresProcess
) -> None:
    """With both hosts in the DSN each connection finds the primary. No row is lost, and nothing runs twice."""
    done: list[int] = []

    @action
    def fetch(number: int) -> int:
        if number == 1:
            catch_up(primary, standby)
            fail_over(primary, standby)
        done.append(number)
        return number

    @action
    def last() -> str:
        return "last"

    config = Config(history=both, executor=ExecutorThread(), log=LogDefault(output="none"))
    made = DotFlow(config, workflow_id="report", params={"number": 0})
    made.task.add(fetch)
    made.task.add(last)
    runs = [made.submit(params={"number": one}) for one in (1, 2)]
    serve(made, once=True, max_runs=1)

    runs.append(made.submit(params={"number": 3}))
    serve(made, once=True)
    assert done == [1, 2, 3]
    assert {both.summary(run).state for run in runs} == {TypeRunState.COMPLETED}
    assert [[task.name for task in both.load(run).steps] for run in runs] == [["fetch", "last"]] * 3
    assert standby.run("SELECT COUNT(*) FROM dotflow.runs WHERE state = 'Completed'") == [(3,)]


def test_a_standby_is_read_and_refuses_what_writes(primary: PostgresProcess, standby: PostgresProcess) -> None:
    """At once, and with what to do: it is no fault that passes. Tables can't be made there, either."""
    words = re.escape(ON_PRIMARY)
    with contextlib.closing(HistoryPostgres(standby.dsn())) as history:
        assert history.runs() == []
        with pytest.raises(HistoryError, match=words):
            quick(history).submit()
    with contextlib.closing(HistoryPostgres(primary.dsn())) as history:
        run = quick(history).submit()
    catch_up(primary, standby)
    with contextlib.closing(HistoryPostgres(standby.dsn())) as history:
        assert [found.run_id for found in history.runs()] == [run]
        assert history.load(run).state is TypeRunState.QUEUED
        with pytest.raises(HistoryError, match=words):
            quick(history).submit()
        with pytest.raises(HistoryError, match=words):
            Control(history).cancel(run)
        with pytest.raises(HistoryError, match=words):
            serve(quick(history), once=True)


@pytest.mark.exhaustive
def test_a_call_waits_until_the_standby_behind_the_same_address_is_promoted(
    primary: PostgresProcess, standby: PostgresProcess
) -> None:
    """A process that has written before throws a read-only connection away, and tries again."""
    with (
        TcpProxy(primary.port) as proxy,
        contextlib.closing(HistoryPostgres(primary.dsn(port=str(proxy.port)))) as history,
    ):
        before = quick(history).submit()
        catch_up(primary, standby)
        primary.order("stop")
        proxy.server = standby.port
        submitted: list[str] = []
        waiting = threading.Thread(target=lambda: submitted.append(quick(history, name="other").submit()))
        waiting.start()
        refused = proxy.accepted + 3
        while proxy.accepted < refused:
            assert not submitted
        standby.run("SELECT pg_promote()")
        waiting.join()
        assert sorted(run.run_id for run in history.runs()) == sorted([before, *submitted])
