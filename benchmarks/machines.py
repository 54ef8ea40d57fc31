"""What the history and the queue cost in Postgres, beside a round trip, a synced row, and SQLite in the same minute."""

import contextlib
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, Final
from urllib.parse import urlsplit

from growth import connected
from measure import Row, best, fresh
from queues import history_of, queue_of, race, workflow_in
from workflows import completed, napping, no_op

from dotflow import Config, Context, DotFlow, action
from dotflow.abc.operations import Claim, Ending
from dotflow.core.types.run_state import TypeRunState
from dotflow.providers import ExecutorProcess, HistoryPostgres, HistorySQLite, LogDefault
from dotflow.providers.histories.sql.queue import CANDIDATES
from dotflow.providers.histories.sql.reading import LATEST
from dotflow.serving import serve

PROCESSES: Final = 4
MANY, FEW = 300_000, 30  # queued runs
EIGHT: Final = 8  # runs that one claim takes
IDLE: Final = 10.0  # seconds
ENDED: Final = Ending(TypeRunState.COMPLETED)


def rows(quick: bool) -> Iterator[Row]:
    """The queue and the history in a server on this machine, which waits for the disk as others do.

    R is a round trip, `SELECT 1`; F is a row with its commit, on a connection of its own. The others of a row are
    SQLite's, in the same minute.
    """
    with postgres() as place:
        yield from _operations(place, 20 if quick else 100)
        yield from _races(place, 40 if quick else 500)
    with postgres() as place:
        yield from _behind(place, MANY // (100 if quick else 1))
    with postgres() as place:
        yield from _beside_a_snapshot(place, 200 if quick else 2_000)
    with postgres() as place:
        yield from _steps(place, quick)
    with postgres() as place:
        yield from _servers(place)
    yield from _imports()


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """Yields the DSN of a server without tables."""
    sys.path.append(str(Path(__file__).parents[1]))
    from tests.clouds.postgres import PostgresProcess

    with contextlib.closing(PostgresProcess(synced=True)) as server:
        yield server.dsn()


def _operations(place: str, count: int) -> Iterator[Row]:
    found = measure_operations(place, count)
    trip, row = found["R"], found["F"]
    budgets = {
        "submit": (6 * trip + row, "6 R + F"),
        "begin": (3 * trip + row, "3 R + F"),
        "end": (6 * trip + row, "6 R + F"),
        "a claim of one": (5 * trip + 2e-3, "5 R + 2 ms"),
        f"a claim of {EIGHT}, each": (1e-3, "1 ms"),
    }
    for what, (most, budget) in budgets.items():
        ours = found[what]
        peers = {"R: a round trip": trip, "F: a row and its commit": row, "SQLite": found[f"{what}, SQLite"]}
        yield Row(what=f"Postgres: {what}", ours=ours, peers=peers, budget=budget, within=ours <= most)


def measure_operations(place: str, count: int) -> dict[str, float]:
    """Returns the least seconds of each operation, in turns."""
    import psycopg

    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bare = stack.enter_context(psycopg.connect(place, autocommit=True, prepare_threshold=None))
        bare.execute("CREATE TABLE written (number BIGINT)")
        contenders: dict[str, Callable[[], float]] = {
            "R": lambda: _timed(lambda: bare.execute("SELECT 1")),
            "F": lambda: _timed(lambda: bare.execute("INSERT INTO written VALUES (1)")),
        }
        for title, where in (("", place), (", SQLite", "")):
            contenders |= {f"{what}{title}": work for what, work in _turns(stack, folder, where).items()}
        return best(contenders, count)


def _turns(stack: contextlib.ExitStack, folder: Path, place: str) -> dict[str, Callable[[], float]]:
    """Returns what takes one run through the queue, and eight, step by step."""
    workflow = workflow_in(folder, place)
    assert workflow.config.history is not None
    stack.callback(workflow.config.history.close)  # type: ignore[attr-defined]
    server = queue_of(workflow).open_server(["w"])
    stack.callback(server.close)
    numbers, held = iter(range(10**9)), list[Claim]()

    def submit() -> float:
        return _timed(lambda: workflow.submit(params={"number": next(numbers)}))

    def claim(room: int) -> float:
        taken = _timed(lambda: held.extend(server.claim({"w": None}, (), room)))
        return taken if held else claim(room)  # what was submitted just now may be due a moment later

    def claim_eight() -> float:
        for _ in range(EIGHT):
            submit()
        taken = claim(EIGHT) / EIGHT
        for one in held:
            server.end(one, ENDED)
        held.clear()
        return taken

    return {
        "submit": submit,
        "a claim of one": lambda: claim(1),
        "begin": lambda: _timed(lambda: server.begin(held[0])),
        "end": lambda: _timed(lambda: server.end(held.pop(), ENDED)),
        f"a claim of {EIGHT}, each": claim_eight,
    }


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _races(place: str, count: int) -> Iterator[Row]:
    """Four processes that claim, begin and end."""
    for room, what in ((4, "four at a time"), (1, "one by one")):
        found = {}
        for title, where in (("Postgres", place), ("SQLite", "")):
            with tempfile.TemporaryDirectory() as folder:
                workflow = workflow_in(Path(folder), where)
                for number in range(count):
                    workflow.submit(params={"number": -(10**6) * room - number})
                taken, seconds = race(folder, PROCESSES, count, where, room)
                assert len(taken) == count, f"{len(taken)} claims of {count} runs"
                found[title] = seconds / count
        yield Row(
            what=f"Postgres: {PROCESSES} processes claim, begin and end, {what}",
            ours=found["Postgres"],
            peers={"SQLite": found["SQLite"]},
            budget="2.5 × SQLite" if room > 1 else "",
            within=found["Postgres"] <= 2.5 * found["SQLite"] if room > 1 else None,
        )


def _behind(place: str, many: int) -> Iterator[Row]:
    """The statement of a claim, with few and with many queued runs, and beside as many that ended or wait."""
    taken = {}
    for count in (FEW, many):
        history = history_of(place)
        workflow = workflow_in(Path(tempfile.gettempdir()), place)
        workflow.submit(params={"number": 0})
        with connected(place) as run:
            _queue(run, count)
        database: Any = history.database
        values = {"workflow": "w", "priority": 0, "now": LATEST, "due": -LATEST, "run": -1, "room": 4}
        claim = functools.partial(database.run, CANDIDATES, values)
        claim()
        taken[count] = min(_timed(claim) for _ in range(100))
        history.close()
    yield Row(
        what=f"Postgres: the statement of a claim, {many:,} queued",
        ours=taken[many],
        peers={f"{FEW} queued": taken[FEW]},
        budget="2 ×",
        within=taken[many] <= 2 * taken[FEW],
    )


def _beside_a_snapshot(place: str, count: int) -> Iterator[Row]:
    """The queue in a database where a transaction stays open, as that of pg_dump, and in one without, in turns.

    No version of a row is removed that became old since it began.
    """
    found = measure_beside_a_snapshot(place, count)
    for what in ("claim", "claim, begin and end"):
        held, free = found["held", what], found["free", what]
        yield Row(
            what=f"Postgres: {what}, behind {count:,} runs of one open transaction",
            ours=held,
            peers={"none open": free},
            budget="2 ×" if what == "claim" else "",
            within=held <= 2 * free if what == "claim" else None,
        )


def measure_beside_a_snapshot(place: str, count: int) -> dict[tuple[str, str], float]:
    """Returns the median seconds of the last 100 runs in each database."""
    import psycopg

    names = ("held", "free")
    with contextlib.ExitStack() as stack:
        administrator = stack.enter_context(psycopg.connect(place, autocommit=True))
        places, turns = {}, {}
        for name in names:
            administrator.execute(f"CREATE DATABASE {name}".encode())
            places[name] = urlsplit(place)._replace(path=f"/{name}").geturl()
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            turns[name] = _turns(stack, folder, places[name])
            turns[name]["submit"]()
        snapshot = stack.enter_context(psycopg.connect(places["held"]))
        snapshot.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        snapshot.execute("SELECT 1")
        taken: dict[tuple[str, str], list[float]] = {}
        for _ in range(count):
            for name in names:
                turn = turns[name]
                turn["submit"]()
                claim = turn["a claim of one"]()
                taken.setdefault((name, "claim"), []).append(claim)
                taken.setdefault((name, "claim, begin and end"), []).append(claim + turn["begin"]() + turn["end"]())
        return {key: median(seconds[-100:]) for key, seconds in taken.items()}


def _queue(run: Callable[[str], list[Any]], count: int) -> None:
    """Makes copies of the first run: queued ones, and as many that have ended, of the same workflow."""
    ((last,),) = run("SELECT MAX(run) FROM runs")
    for table, state in (("runs", "CASE WHEN n % 2 = 0 THEN 'Completed' ELSE state END"), ("wanted", "")):
        names = [name for (name,) in run(
            "SELECT column_name FROM information_schema.columns "
            f"WHERE table_schema = 'dotflow' AND table_name = '{table}'"
        )]  # fmt: skip
        changed = {
            "run": f"{last} + n",
            "run_id": "gen_random_uuid()::TEXT",
            "origin": "NULL",
            "state": state,
            "workflow_id": f"'w@number=' || ({last} + n)",
            "name": f"'w@number=' || ({last} + n)" if table == "wanted" else "first.name",
            "queued": "n % 2 = 1",
        }
        values = ", ".join(changed.get(name, f"first.{name}") for name in names)
        run(
            f"INSERT INTO {table} ({', '.join(names)}) SELECT {values} FROM generate_series(1, {2 * count}) AS n "
            f"CROSS JOIN {table} AS first WHERE first.run = (SELECT MIN(run) FROM {table})"
        )
    run("SELECT setval(pg_get_serial_sequence('runs', 'run'), (SELECT MAX(run) FROM runs))")
    run("VACUUM ANALYZE")


def _steps(place: str, quick: bool) -> Iterator[Row]:
    """Steps that do nothing, inline and in two workers; at once, each waits for the server."""
    count, repeats = (200, 3) if quick else (1_000, 7)
    for mode, most in (("sequential", 3.0), ("parallel", 1.05)):
        found = measure_steps(place, mode, count, repeats)
        late, file = found["late"], found["SQLite"]
        peers = {"SQLite": file, "none": found["none"], "at once": found["at once"]}
        yield Row(
            what=f"Postgres, late: a step {'inline' if mode == 'sequential' else 'of two workers'}",
            ours=late,
            peers=peers,
            budget=f"{most:g} × SQLite",
            within=late <= most * file,
        )


def measure_steps(place: str, mode: str, count: int, repeats: int) -> dict[str, float]:
    """Returns the seconds of a step, the end of its run included. A worker's step takes 0.2 s by itself."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        histories = {
            "none": None,
            "SQLite": HistorySQLite(folder / "history.db", capture="none"),
            "late": HistoryPostgres(place, capture="none"),
            "at once": HistoryPostgres(place, capture="none", late=0),
        }
        is_inline = mode == "sequential"
        steps = [no_op] * count if is_inline else [napping] * 20
        contenders = {}
        for name, history in histories.items():
            executor = None if is_inline else ExecutorProcess(2)
            workflow = DotFlow(Config(history=history, log=LogDefault(output="none"), executor=executor))
            workflow.task.add(steps)
            contenders[name] = lambda workflow=workflow: _timed(lambda: completed(workflow, mode)) / len(steps)
            if history is not None:
                stack.callback(history.close)
        return best(contenders, repeats)


def _servers(place: str) -> Iterator[Row]:
    """Connections, and what a server does that has nothing to do."""
    found = json.loads(subprocess.run(
        [sys.executable, __file__, place], check=True, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    ).stdout)  # fmt: skip
    for what, most in (("a plain run of 1 s", 1), ("a plain run of 12 s", 2), ("an idle server", 3)):
        ours = found[what]
        yield Row(what=f"Postgres: connections of {what}", ours=ours, peers={}, unit="", budget=str(most),
                  within=ours <= most)  # fmt: skip
    queries, cpu = found["queries"], found["cpu"]
    yield Row(what="Postgres: queries a second of an idle server", ours=queries, peers={}, unit="", budget="2",
              within=queries <= 2)  # fmt: skip
    yield Row(what="Postgres: CPU of a second of an idle server", ours=cpu, peers={"SQLite": found["cpu, SQLite"]},
              budget="10 ms", within=cpu <= 10e-3)  # fmt: skip


def _watch(place: str) -> None:
    """Prints what `_servers` asks for."""
    import psycopg

    found: dict[str, float] = {}
    with psycopg.connect(place, autocommit=True) as bare, tempfile.TemporaryDirectory() as folder:

        def ask(statement: str) -> int:
            return int(bare.execute(statement.encode()).fetchone()[0])  # type: ignore[index]

        others = "SELECT COUNT(*) FROM pg_stat_activity WHERE application_name = 'dotflow'"
        transactions = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"

        @action
        def count(initial_context: Context) -> int:
            time.sleep(initial_context.storage)
            return ask(others)

        for what, seconds in (("a plain run of 1 s", 1.0), ("a plain run of 12 s", 12.0)):
            history = HistoryPostgres(place, capture="none")
            workflow = DotFlow(Config(history=history, log=LogDefault(output="none")))
            workflow.task.add(count, initial_context=seconds)
            completed(workflow)
            found[what] = workflow.result_storage()[0]
            history.close()
        for title, where in ((", SQLite", ""), ("", place)):
            workflow = workflow_in(Path(folder) / f"of{title}", where)
            with serve(workflow, wait=False):
                time.sleep(5)
                before, cpu, began = ask(transactions), time.process_time(), time.monotonic()
                time.sleep(IDLE)
                time.sleep(1)  # the server's statistics are a second late
                seconds = time.monotonic() - began
                found[f"cpu{title}"] = (time.process_time() - cpu) / seconds
                if where:
                    found["queries"] = (ask(transactions) - before) / seconds
                    found["an idle server"] = ask(others)
            workflow.config.history.close()  # type: ignore[union-attr]
    print(json.dumps(found))


def _imports() -> Iterator[Row]:
    yield Row(
        what="import psycopg, where a DSN is",
        ours=fresh(measure_import, "psycopg"),
        peers={"import dotflow": fresh(measure_import, "dotflow")},
    )


def measure_import(name: str) -> float:
    """Returns the seconds of an import in a fresh interpreter."""
    times = []
    for _ in range(7):
        script = f"import time; began = time.perf_counter(); import {name}; print(time.perf_counter() - began)"
        times.append(float(subprocess.run([sys.executable, "-c", script], check=True, capture_output=True).stdout))
    return median(times)


if __name__ == "__main__":
    _watch(sys.argv[1])
