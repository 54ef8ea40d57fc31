"""What all tests share: quiet workflows, and the start method that the command line asks for."""

import asyncio
import contextlib
import gc
import queue
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dotflow import Config, DotFlow, atomic_file
from dotflow.abc.executor import Executor
from dotflow.providers import ExecutorDask, ExecutorRay, LogDefault
from tests.clouds.process import ServerProcess
from tests.clouds.settings import set_up_gcs, set_up_s3

if TYPE_CHECKING:  # what only some tests need, their fixtures import: unit tests begin without any of it
    from distributed import Client
    from xdist.scheduler import LoadScopeScheduling

    from tests.clouds.postgres import Database, PostgresProcess
    from tests.clouds.tcp_proxy import TcpProxy
    from tests.clusters.dask import DaskProcesses
    from tests.clusters.ray import RayProcesses
    from tests.histories import Histories
    from tests.integration.children import Command, End
    from tests.integration.terminals import Terminal

#: www.postgresql.org/docs/current/libpq-envars.html
LIBPQ = {
    "PGHOST": "host",
    "PGPORT": "port",
    "PGUSER": "user",
    "PGPASSWORD": "password",
    "PGDATABASE": "dbname",
    "PGOPTIONS": "options",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--start-method",
        choices=("fork", "forkserver"),
        default=None,
        help="how worker processes start; the library's own choice unless given",
    )
    parser.addoption(
        "--cluster", choices=("dask", "ray"), default=None, help="where tests marked `processes` make their attempts"
    )
    parser.addoption(
        "--exhaustive",
        action="store_true",
        help="run the tests marked `exhaustive`, too, kill at every moment, and run the documentation's programs in "
        "each way",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Properties are tested with few examples, the same each time; with --exhaustive, with many and others.

    Ctrl-C raises KeyboardInterrupt, also where the tests run as a shell's background job, which ignores it.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if find_spec("hypothesis") is None:
        return
    from hypothesis import HealthCheck, settings

    is_exhaustive: bool = config.getoption("--exhaustive")
    settings.register_profile(
        "dotflow",
        max_examples=200 if is_exhaustive else 40,
        derandomize=not is_exhaustive,
        deadline=None,  # a busy machine makes no test wrong
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("dotflow")


#: Tests that import libraries which start threads, and keep them.
STARTS_THREADS = re.compile(r"numpy|pandas|polars|arrow|floats|numbers_of_any_kind|test_dask_remote", re.IGNORECASE)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselects the tests marked `exhaustive`, unless they were asked for, and begins with those marked `slow`.

    Of a test that is marked `exhaustive(keep_every=4)`, each fourth case stays, beginning with the first, of those that
    are not marked `exhaustive` themselves.
    A slow test at the end would run alone, while the other workers have nothing left to do.
    What starts threads comes last: from then on, no test's worker processes are forks of its process.
    """
    items.sort(key=lambda item: (STARTS_THREADS.search(item.nodeid) is not None, not item.get_closest_marker("slow")))
    if config.getoption("--exhaustive"):
        return
    cases: Counter[str] = Counter()
    kept, left_out = [], []
    for item in items:
        marks = [mark.kwargs.get("keep_every", 0) for mark in item.iter_markers("exhaustive")]
        test = item.nodeid.partition("[")[0]
        is_kept = all(marks) and all(cases[test] % every == 0 for every in marks)
        cases[test] += bool(marks) and all(marks)
        (kept if is_kept else left_out).append(item)
    if left_out:
        items[:] = kept
        config.hook.pytest_deselected(items=left_out)


def pytest_collection_finish() -> None:
    """Takes what is loaded out of the garbage collector's sight, which each forked worker would copy when it looks."""
    gc.collect()
    gc.freeze()


#: What the tests of one name share is made once: the packages, the environment and the servers.
SHARED = re.compile(r"test_packaging\.py|s3|gcs|postgres", re.IGNORECASE)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> "LoadScopeScheduling | None":
    """Gives all tests that share something to one process. xdist's own groups are lost with pytest 9.2."""
    if config.getoption("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Shared(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            found = SHARED.search(nodeid)
            return found[0].lower() if found else nodeid

    return Shared(config, log)


@pytest.fixture(autouse=True)
def no_notes() -> None:
    """Forgets the lines about permissions that the next run of an earlier test would have logged."""
    atomic_file.tightened.clear()


@pytest.fixture(autouse=True)
def no_modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Forgets the modules that a test has written and imported, so that the next one may use their names."""
    path, known = sys.path[:], set(sys.modules)
    yield
    sys.path[:] = path
    folder = str(tmp_path_factory.getbasetemp())
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(folder):
            del sys.modules[name]


@pytest.fixture(autouse=True)
def no_open_loop() -> Iterator[None]:
    """Fails a test that leaves its event loop open, which only a later test's would replace: that one would fail."""
    yield
    loop = asyncio.get_event_loop_policy()._local._loop  # type: ignore[attr-defined]
    assert loop is None or loop.is_closed()


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Command":
    """Runs the command in this process, from the test's folder. It takes a tenth of the time of a process."""
    from dotflow.cli.main import main
    from tests.integration.children import End

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DOTFLOW_HISTORY", raising=False)

    def run(*arguments: str) -> "End":
        capfd.readouterr()
        began = time.monotonic()
        code = main(arguments)
        out, err = capfd.readouterr()
        return End(code, out, err, time.monotonic() - began, time.time())

    return run


@pytest.fixture
def terminal(request: pytest.FixtureRequest) -> "Iterator[Terminal]":
    """A terminal of 80 columns and 24 lines, or of the test's parameter."""
    from tests.integration.terminals import Terminal  # few tests need its emulator

    terminal = Terminal(*getattr(request, "param", (80, 24)))
    yield terminal
    terminal.close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs the tests marked `databases` once on each one that it names."""
    marker = metafunc.definition.get_closest_marker("databases")
    if marker is not None and "histories" in metafunc.fixturenames:
        seldom = [pytest.mark.exhaustive] if marker.kwargs.get("exhaustive") else []
        kinds = [pytest.param(kind, marks=seldom if kind == "postgres" else []) for kind in marker.args]
        metafunc.parametrize("histories", kinds, indirect=True)


@pytest.fixture
def histories(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Iterator[Histories]":
    """Histories on SQLite, or on the database of the test's mark."""
    from tests.histories import Histories

    kind = getattr(request, "param", "sqlite")
    dsn = request.getfixturevalue("postgres_history") if kind == "postgres" else ""
    with contextlib.closing(Histories(kind, tmp_path, dsn, monkeypatch.setenv)) as made:
        yield made


@pytest.fixture
def history(histories: "Histories") -> Any:
    """A history with a file or a schema of its own."""
    return histories.open()


@pytest.fixture
def stride(request: pytest.FixtureRequest) -> int:
    """How far apart the moments are at which a test kills a process: 1 with --exhaustive."""
    return 1 if request.config.getoption("--exhaustive") else 4


@pytest.fixture
def start_method(request: pytest.FixtureRequest) -> str | None:
    """The start method that was asked for; None leaves the choice to the library."""
    method: str | None = request.config.getoption("--start-method")
    return method


@pytest.fixture
def quiet(request: pytest.FixtureRequest, start_method: str | None) -> Callable[..., Config]:
    """Makes a Config that writes no log.

    Under --start-method, a test that is marked `processes` makes all its attempts in processes that start that way.
    """
    in_processes = request.node.get_closest_marker("processes") is not None
    cluster: str | None = request.config.getoption("--cluster") if in_processes else None
    in_processes = in_processes and start_method is not None
    if cluster is not None:
        import cloudpickle  # type: ignore[import-untyped]

        cloudpickle.register_pickle_by_value(request.module)  # the workers can't import it
        request.getfixturevalue(f"{cluster}_executor")

    def make_config(**given: object) -> Config:
        given.setdefault("log", LogDefault(output="none"))
        if in_processes and "executor" not in given:
            from dotflow.providers import ExecutorProcess

            given["executor"] = ExecutorProcess(start_method=start_method)
        if cluster is not None and "executor" not in given:
            given["executor"] = request.getfixturevalue(f"{cluster}_executor")
        return Config(**given)

    return make_config


@pytest.fixture
def make_workflow(quiet: Callable[..., Config]) -> Callable[..., DotFlow]:
    """Makes an empty workflow with a quiet Config; what it is given goes to the Config."""

    def make(
        *, workflow_id: str | None = None, name: str | None = None, params: object = None, **config: object
    ) -> DotFlow:
        return DotFlow(quiet(**config), workflow_id=workflow_id, name=name, params=params)

    return make


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Where Amazon S3 is on this machine."""
    with contextlib.closing(ServerProcess("s3_server.py")) as server:
        yield server.url


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[str]:
    """Where Google Cloud Storage is on this machine."""
    with contextlib.closing(ServerProcess("gcs_server.py")) as server:
        yield server.url


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The environment of whoever uses S3, as it is set for the tests; gives the name of a bucket that is there."""
    return set_up_s3(s3_server, monkeypatch.setenv)


@pytest.fixture
def gcs(gcs_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same for Google Cloud Storage."""
    return set_up_gcs(gcs_server, monkeypatch.setenv)


@pytest.fixture(scope="session")
def postgres_server() -> "Iterator[PostgresProcess]":
    """A Postgres server on this machine."""
    from tests.clouds.postgres import PostgresProcess

    with contextlib.closing(PostgresProcess()) as server:
        yield server


@pytest.fixture
def postgres(postgres_server: "PostgresProcess") -> Iterator[str]:
    """The DSN of a place in it with nothing in it; the server is running, whatever the test before has done to it."""
    postgres_server.order("start")
    with postgres_server.schema() as dsn:
        yield dsn


@pytest.fixture(scope="session")
def postgres_tables(postgres_server: "PostgresProcess") -> str:
    """The DSN of a database whose schema dotflow has the tables of a history: to make them takes longer than a test."""
    from dotflow.providers import HistoryPostgres

    postgres_server.run("CREATE DATABASE histories")
    dsn = postgres_server.dsn(database="histories")
    with contextlib.closing(HistoryPostgres(dsn)) as history:
        history.database.transact(lambda connection: None)
    return dsn


@pytest.fixture
def postgres_history(postgres_server: "PostgresProcess", postgres_tables: str) -> str:
    """The DSN of a history without runs, which is emptied before."""
    postgres_server.order("start")
    empty_history(postgres_server, postgres_tables)
    return postgres_tables


def empty_history(server: "PostgresProcess", dsn: str) -> None:
    """Deletes all rows of a history but that of `meta`. To truncate as many tables takes twenty times as long."""
    from dotflow.providers.histories.postgres.dialect import NAMES

    statements = [f"DELETE FROM dotflow.{name}" for name in NAMES if name != "meta"]
    server.run(";".join((*statements, "UPDATE dotflow.meta SET swept = 0")), dsn=dsn)


@pytest.fixture
def database(postgres_server: "PostgresProcess") -> "Iterator[Database]":
    """A database with nothing in it, of a role of its own."""
    postgres_server.order("start")
    with postgres_server.database() as made:
        yield made


@pytest.fixture
def proxy(postgres_server: "PostgresProcess") -> "Iterator[TcpProxy]":
    """A network in front of the server, which the test delays and cuts."""
    from tests.clouds.tcp_proxy import TcpProxy

    with TcpProxy(postgres_server.port) as made:
        yield made


@pytest.fixture
def postgres_settings(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of whoever uses such a place, and names it nowhere else."""
    import psycopg

    given = psycopg.conninfo.conninfo_to_dict(postgres)
    for variable, name in LIBPQ.items():
        monkeypatch.setenv(variable, str(given[name]))


@pytest.fixture(scope="session")
def dask_cluster() -> "Iterator[DaskProcesses]":
    """A Dask cluster of two worker processes on this machine."""
    from tests.clusters.dask import DaskProcesses

    with DaskProcesses() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def dask_client(dask_cluster: "DaskProcesses") -> Iterator["Client"]:
    """A client of it. The threads that Dask keeps for good have begun."""
    from distributed import Client

    with Client(dask_cluster.address, set_as_default=False) as client:
        client.wait_for_workers(2)
        told: queue.SimpleQueue[object] = queue.SimpleQueue()
        future = client.submit(int)
        future.add_done_callback(told.put)
        told.get()
        yield client


@pytest.fixture
def dask_executor(dask_client: "Client") -> Executor:
    """On two Dask workers."""
    return ExecutorDask(dask_client)


@pytest.fixture
def ray_executor(ray_cluster: "RayProcesses") -> Executor:
    """On a Ray head and another node."""
    return ExecutorRay()


@pytest.fixture(scope="session")
def ray_cluster() -> "Iterator[RayProcesses]":
    """A Ray head and a second node on this machine; this process is connected to it."""
    from tests.clusters.ray import RayProcesses

    with RayProcesses(moon=1) as cluster, cluster.connection():
        yield cluster
