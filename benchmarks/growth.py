"""What a history with millions of attempts takes, beside one with thousands: disk, lists, pages, claims, retention."""

import contextlib
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

from measure import Row
from queues import history_of, path_in, queue_of
from workflows import no_op

from dotflow import Config, DotFlow
from dotflow.abc.operations import Ending
from dotflow.core.types.run_state import TypeRunState
from dotflow.providers import ExecutorThread, HistoryPostgres, HistorySQLite, LogDefault
from dotflow.serving import serve

TASKS: Final = 10
WORKFLOWS: Final = 50
FEW: Final = 500  # runs
DAYS: Final = 60  # over which the runs are spread: the older half may be forgotten
REPEATS: Final = 20

#: An id at random: an index has it anywhere.
IDS: Final = {
    "postgres": "gen_random_uuid()::TEXT",
    "sqlite": "LOWER(HEX(RANDOMBLOB(4)) || '-' || HEX(RANDOMBLOB(2)) || '-4' || SUBSTR(HEX(RANDOMBLOB(2)), 2) || '-a' "
    "|| SUBSTR(HEX(RANDOMBLOB(2)), 2) || '-' || HEX(RANDOMBLOB(6)))",
}
NUMBERS: Final = """WITH RECURSIVE numbers (n) AS (
        SELECT CAST({first} AS BIGINT) UNION ALL SELECT n + 1 FROM numbers WHERE n < {last}),
    made AS MATERIALIZED (SELECT n, {id} AS id, 'w' || n % {workflows} AS base FROM numbers) """
#: What differs from the first run.
OF_RUN: Final = {
    "run": "n",
    "run_id": "id",
    "origin": "id",
    "workflow": "base",
    "workflow_id": "base || '@number=' || n",
    "params": """'{{"number": ' || n || '}}'""",
    **{name: f"{name} - ({{last}} - n) * {{apart}}" for name in ("began", "ended", "submitted")},
}
OF_WANTED: Final = {
    "run": "n",
    "workflow": "base",
    "name": "base || '@number=' || n",
    "due": "due - ({last} - n) * {apart}",
}
TABLES: Final = {"runs": OF_RUN, "wanted": OF_WANTED, "attempts": {"run": "n"}}
COLUMNS: Final = {
    "sqlite": "SELECT name FROM pragma_table_info('{}')",
    "postgres": "SELECT column_name FROM information_schema.columns "
    "WHERE table_schema = 'dotflow' AND table_name = '{}'",
}
SIZES: Final = """SELECT relname, pg_relation_size(pg_class.oid)
    FROM pg_class JOIN pg_namespace ON relnamespace = pg_namespace.oid
    WHERE nspname = 'dotflow' AND relkind IN ('r', 'i') AND pg_relation_size(pg_class.oid) > 0"""
BATCH: Final = 20_000  # runs that one statement makes
FORGETTING: Final = 10.0  # seconds of retention
MIN_SWEEP: Final = 0.001  # seconds of one that deletes something


class Growth(NamedTuple):
    """What was measured of one history.

    Attributes:
        seconds: By what was done.
        sizes: Bytes by table or index; with a file, of all.
        forgotten: Runs that one second of retention forgets.
    """

    seconds: dict[str, float]
    sizes: dict[str, int]
    forgotten: float


def rows(quick: bool) -> Iterator[Row]:
    """Lists, pages and claims of 5,000,000 attempts beside 5,000, in SQLite and in Postgres, and bytes on the disk."""
    many = 5_000 if quick else 500_000
    for kind, title in (("sqlite", "SQLite"), ("postgres", "Postgres")):
        few, found = measure(kind, FEW), measure(kind, many)
        for what, seconds in found.seconds.items():
            yield Row(
                what=f"{title}, {many * TASKS:,} attempts: {what}",
                ours=seconds,
                peers={f"{FEW * TASKS:,}": few.seconds[what]},
                budget="2 x",
                within=seconds <= 2 * few.seconds[what] + 1e-3,
            )
        total = sum(found.sizes.values())
        attempts = sum(size for name, size in found.sizes.items() if name.startswith("attempts"))
        peers = {name: size / many for name, size in sorted(found.sizes.items(), key=lambda one: -one[1])[:8]}
        yield Row(what=f"{title}: a run of {TASKS} attempts", ours=total / many, peers=peers, unit="B")
        if attempts:
            yield Row(what=f"{title}: an attempt", ours=attempts / many / TASKS, peers={}, unit="B")
        needed = many / DAYS / 86_400
        yield Row(
            what=f"{title}: runs forgotten by the 20 ms a second of one server",
            ours=found.forgotten * 0.02,
            peers={"as many as begin": needed},
            unit="a second",
            within=found.forgotten * 0.02 > needed,
        )


def measure(kind: str, count: int) -> Growth:
    """Fills a history, and measures it."""
    sys.path.append(str(Path(__file__).parents[1]))
    from tests.clouds.postgres import PostgresProcess

    with contextlib.ExitStack() as stack:
        if kind == "postgres":
            server = stack.enter_context(contextlib.closing(PostgresProcess(synced=True)))
            place = server.dsn()
        else:
            place = stack.enter_context(tempfile.TemporaryDirectory())
        history = history_of(place, keep=None)
        stack.callback(history.close)
        fill(history, place, count)
        sizes = sizes_of(place)
        seconds = seconds_of(history)
        forgotten = forget(place, count)
    return Growth(seconds, sizes, forgotten)


def workflow_in(history: HistorySQLite | HistoryPostgres) -> DotFlow:
    config = Config(history=history, log=LogDefault(output="none"), executor=ExecutorThread(1))
    workflow = DotFlow(config, workflow_id="w7", params={"number": ...})
    workflow.task.add([no_op] * TASKS)
    return workflow


def fill(history: HistorySQLite | HistoryPostgres, place: str, count: int) -> None:
    """Serves one run, and makes copies of it, spread over time."""
    workflow = workflow_in(history)
    workflow.submit(params={"number": 0})
    serve(workflow, once=True)
    history.close()
    with connected(place) as run:
        ((first,),) = run("SELECT MAX(run) FROM runs")
        names = {table: [name for (name,) in run(COLUMNS[_kind(place)].format(table))] for table in TABLES}
        apart, last = DAYS * 86_400 * 1_000_000 // count, first + count
        for begin in range(first + 1, last + 1, BATCH):
            end = min(begin + BATCH - 1, last)
            numbers = NUMBERS.format(first=begin, last=end, id=IDS[_kind(place)], workflows=WORKFLOWS)
            run("BEGIN")
            for table, changed in TABLES.items():
                values = (changed.get(name, f"{table}.{name}").format(last=last, apart=apart) for name in names[table])
                run(
                    f"{numbers} INSERT INTO {table} ({', '.join(names[table])}) SELECT {', '.join(values)} "
                    f"FROM made CROSS JOIN {table} WHERE {table}.run = {first} ORDER BY n"
                )
            run("COMMIT")
        if _kind(place) == "postgres":
            run("SELECT setval(pg_get_serial_sequence('runs', 'run'), (SELECT MAX(run) FROM runs))")
            run("VACUUM ANALYZE")  # as autovacuum does, a minute later
            run("CHECKPOINT")


@contextlib.contextmanager
def connected(place: str) -> Iterator[Callable[[str], list[Any]]]:
    """Yields what runs a statement of one text for both databases, and returns its rows."""
    if _kind(place) == "sqlite":
        with contextlib.closing(sqlite3.connect(path_in(place), isolation_level=None)) as connection:
            yield lambda text: connection.execute(text).fetchall()
        return
    import psycopg

    with psycopg.connect(place, autocommit=True) as connection:
        connection.execute("SET search_path = dotflow")

        def run(text: str) -> list[Any]:
            cursor = connection.execute(text.encode())
            return cursor.fetchall() if cursor.description else []

        yield run


def _kind(place: str) -> str:
    return "postgres" if place.startswith("postgres") else "sqlite"


def sizes_of(place: str) -> dict[str, int]:
    """Returns the bytes of each table and index; of a file as one."""
    if _kind(place) == "sqlite":
        with connected(place) as run:
            run("PRAGMA wal_checkpoint(TRUNCATE)")
        return {"the file": path_in(place).stat().st_size}
    with connected(place) as run:
        return dict(run(SIZES))


def seconds_of(history: HistorySQLite | HistoryPostgres) -> dict[str, float]:
    """Returns the median seconds of what people and servers do."""
    workflow = workflow_in(history)
    middle = history.runs(limit=200)[-1].run_id
    server = queue_of(workflow).open_server(["w7"])
    numbers = iter(range(-1, -10 * REPEATS, -1))

    def claim() -> None:
        (claim,) = server.claim({"w7": None}, (), 1)
        server.begin(claim)
        server.end(claim, Ending(TypeRunState.COMPLETED))

    done: dict[str, Callable[[], object]] = {
        "the last 50 runs": lambda: history.runs(limit=50),
        "50 of a workflow": lambda: history.runs(workflow="w7", limit=50),
        "50 that failed": lambda: history.runs(state=TypeRunState.FAILED, limit=50),
        "a run with its attempts": lambda: history.load(middle),
        "the workflows": history.workflows,
        "submit": lambda: workflow.submit(params={"number": next(numbers)}),
        "claim, begin, end": claim,
    }
    found = {what: median(_timed(work) for _ in range(REPEATS)) for what, work in done.items()}
    server.close()
    return found


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def forget(place: str, count: int) -> float:
    """Lets retention forget the older half for some seconds of its own time. Returns runs a second of it."""
    history = history_of(place, keep=f"{DAYS // 2} days")
    spent = 0.0
    with contextlib.closing(history), connected(place) as run:
        ((before,),) = run("SELECT COUNT(*) FROM runs")
        until = time.monotonic() + 60
        while spent < FORGETTING and time.monotonic() < until:
            taken = _timed(history.sweep)
            spent += taken
            if taken < MIN_SWEEP:  # nothing is left
                break
        ((after,),) = run("SELECT COUNT(*) FROM runs")
    return (before - after) / spent
