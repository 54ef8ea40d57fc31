"""What submissions, claims and orders cost, beside the bare statements in the same minute."""

import json
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from measure import Row, fresh

from dotflow import Config, DotFlow, action, clock
from dotflow.abc.operations import Claim, Ending, Operations
from dotflow.control import Control
from dotflow.core.types.run_state import TypeRunState
from dotflow.providers import HistoryPostgres, HistorySQLite, LogDefault, StorageFile
from dotflow.providers.histories.sql.queue import ADD_RUN, ADD_WANTED, SQLQueueServer
from dotflow.serving import serve

PROCESSES = 4
MISSES = 3  # claims in a row that find nothing, after which nothing is left


@action
def mark(folder: str, number: int) -> None:
    (Path(folder) / str(number)).write_text(repr(time.time()))


def rows(quick: bool) -> Iterator[Row]:
    """A submission beside two inserts by hand; claims of four processes; claims behind what can't begin."""
    found = fresh(measure_submissions, 300 if quick else 1_000)
    yield Row(
        what="submit, a run",
        ours=found["submit"],
        peers={"two rows by hand, FULL": found["by hand"]},
        budget="1 ms",
        within=found["submit"] < 1e-3,
    )
    count = 100 if quick else 400
    found = fresh(measure_claims, count)
    peers = {"one process": found["alone"]}
    yield Row(
        what=f"claim, {PROCESSES} processes, p50",
        ours=found["p50"],
        peers=peers,
        budget="1 ms",
        within=found["p50"] < 1e-3,
    )
    yield Row(what="the same, p99", ours=found["p99"], peers=peers, budget="100 ms", within=found["p99"] < 0.1)
    yield Row(
        what="a claim with its end, all together",
        ours=found["each"],
        peers=peers,
        budget="2 ms",
        within=found["each"] < 2e-3,
    )
    found = fresh(measure_blocked, 10_000 if quick else 100_000, count)
    yield Row(
        what="claim behind 100,000 rows that can't begin",
        ours=found["many"],
        peers={"behind 100": found["few"]},
        budget="3 x",
        within=found["many"] < 3 * found["few"],
    )
    found = fresh(measure_latency, 20 if quick else 100)
    peers = {"an empty commit": found["commit"]}
    yield Row(
        what="submit to its claim by a server, p50",
        ours=found["seen"],
        peers=peers,
        budget="50 ms",
        within=found["seen"] < 0.05,
    )
    yield Row(
        what="the same, p99",
        ours=found["seen, p99"],
        peers=peers,
        budget="150 ms",
        within=found["seen, p99"] < 0.15,
    )
    yield Row(
        what="submit to the first line of its step, p50",
        ours=found["p50"],
        peers={"p90": found["p90"], **peers},
        budget="100 ms",
        within=found["p50"] < 0.1,
    )
    found = fresh(measure_idle, 40)
    yield Row(
        what="a second of an idle server, CPU",
        ours=found["cpu"],
        peers={"after 40 runs": found["cpu, after runs"]},
        budget="10 ms",
        within=found["cpu"] < 0.01,
    )
    yield Row(
        what="memory of an idle server",
        ours=found["memory"],
        peers={"after 40 runs": found["memory, after runs"]},
        unit="B",
        budget="45 MB",
        within=found["memory, after runs"] < 45e6,
    )


def history_of(place: Path | str, **options: Any) -> HistorySQLite | HistoryPostgres:
    """Returns the history of a folder, or of a DSN."""
    if str(place).startswith("postgresql://"):
        return HistoryPostgres(str(place), capture="none", **options)
    return HistorySQLite(path_in(place), capture="none", **options)


def path_in(folder: Path | str) -> Path:
    return Path(folder) / "history.db"


def workflow_in(folder: Path, place: str = "") -> DotFlow:
    """Returns a workflow with its values in a folder, and its history there, too, or in the database of a DSN."""
    history = history_of(place or folder)
    config = Config(storage=StorageFile(folder / "values"), history=history, log=LogDefault(output="none"))
    workflow = DotFlow(config, workflow_id="w", params={"folder": str(folder), "number": 0})
    workflow.task.add(mark)
    return workflow


def queue_of(workflow: DotFlow) -> Operations:
    assert workflow.config.history is not None
    queue = workflow.config.history.operations()
    assert queue is not None
    return queue


def measure_submissions(count: int) -> dict[str, float]:
    """Seconds for each."""
    with tempfile.TemporaryDirectory() as name:
        workflow = workflow_in(Path(name))
        workflow.submit()
        ours, by_hand = [], []
        other = workflow_in(Path(name) / "other")
        other.submit()
        connection = sqlite3.connect(Path(name) / "other" / "history.db", isolation_level=None)
        connection.execute("PRAGMA synchronous = FULL")
        for number in range(1, count):
            began = time.perf_counter()
            workflow.submit(params={"number": number})
            ours.append(time.perf_counter() - began)
            began = time.perf_counter()
            _insert(connection, number)
            by_hand.append(time.perf_counter() - began)
        connection.close()
    return {"submit": median(ours), "by hand": median(by_hand)}


def _insert(connection: sqlite3.Connection, number: int) -> None:
    connection.execute("BEGIN IMMEDIATE")
    row = (f"id-{number}", f"w@number={number}", None, "submit", 0, 0, "w", "{}", f"id-{number}", None)
    run = connection.execute(ADD_RUN, row).lastrowid
    connection.execute(ADD_WANTED, (run, "w", f"w@number={number}", None, 0, 0, False, None, 0, None, False))
    connection.execute("COMMIT")


def _claim_all(folder: str, count: int, pipe: "object", place: str = "", room: int = 0) -> None:
    """Claims one by one and ends each, or with *room* so many at a time, with their beginnings."""
    server = queue_of(workflow_in(Path(folder), place)).open_server(["w"])
    taken, first, misses = list[float](), time.monotonic(), 0
    while len(taken) < count:
        began = time.perf_counter()
        claims = server.claim({"w": None}, (), room or 1)
        if not claims:
            misses += 1
            if misses == MISSES:
                break
            continue
        misses = 0
        taken += [(time.perf_counter() - began) / len(claims)] * len(claims)
        for claim in claims:
            if room:
                server.begin(claim)
            server.end(claim, Ending(TypeRunState.COMPLETED))
    last = time.monotonic()
    server.close()
    pipe.send((taken, first, last))  # type: ignore[attr-defined]


def measure_claims(count: int) -> dict[str, float]:
    """Seconds for each claim of one process, and of four that race."""
    with tempfile.TemporaryDirectory() as name:
        workflow = workflow_in(Path(name))
        for number in range(count):
            workflow.submit(params={"number": number})
        alone, _ = race(name, 1, count // 4)
        taken, seconds = race(name, PROCESSES, count)
    return {
        "alone": median(alone),
        "p50": median(taken),
        "p99": quantiles(taken, n=100)[98],
        "each": seconds / len(taken),
    }


def race(folder: str, processes: int, count: int, place: str = "", room: int = 0) -> tuple[list[float], float]:
    """Returns the seconds of each claim of processes that race, and those of all."""
    context = get_context("spawn")
    pipes = [context.Pipe() for _ in range(processes)]
    workers = [context.Process(target=_claim_all, args=(folder, count, ours, place, room)) for _, ours in pipes]
    for worker in workers:
        worker.start()
    found = [theirs.recv() for theirs, _ in pipes]
    for worker in workers:
        worker.join()
    busy = [(first, last) for taken, first, last in found if taken]
    seconds = max(last for _, last in busy) - min(first for first, _ in busy)
    return [each for taken, *_ in found for each in taken], seconds


def measure_blocked(many: int, count: int) -> dict[str, float]:
    """Seconds for each claim behind few and behind many rows of a paused workflow and of a later moment."""
    found = {}
    for kind, blocked in (("few", 100), ("many", many)):
        with tempfile.TemporaryDirectory() as name:
            workflow = workflow_in(Path(name))
            workflow.submit(params={"number": -1})
            _block(Path(name) / "history.db", blocked)
            for number in range(count):
                workflow.submit(params={"number": number})
            server = queue_of(workflow).open_server(["w", "paused"])
            taken = []
            for _ in range(count):
                began = time.perf_counter()
                (claim,) = server.claim({"w": None, "paused": None}, (), 1)
                taken.append(time.perf_counter() - began)
                server.end(claim, Ending(TypeRunState.COMPLETED))
            server.close()
            found[kind] = median(taken)
    return found


def _block(path: Path, count: int) -> None:
    later = round((clock.now().timestamp() + 86_400) * 1e6)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO workflows (workflow, seen, paused_at) VALUES ('paused', 0, 1)")
    for number in range(count):
        workflow, due = ("paused", 0) if number % 2 else ("w", later)
        row = (f"b-{number}", f"{workflow}@b={number}", None, "submit", 0, 0, workflow, "{}", f"b-{number}", None)
        run = connection.execute(ADD_RUN, row).lastrowid
        connection.execute(
            ADD_WANTED, (run, workflow, f"{workflow}@b={number}", None, 0, due, False, None, 0, None, False)
        )
    connection.execute("COMMIT")
    connection.close()


def measure_latency(count: int) -> dict[str, float]:
    """Seconds from a submission to its claim by a server in a thread, and to the first line of its step."""
    with tempfile.TemporaryDirectory() as name:
        workflow = workflow_in(Path(name))
        control = Control(workflow)
        claimed, seen, taken = dict[str, float](), list[float](), list[float]()

        def claim(*arguments: Any, claim: Callable[..., Claim | None] = SQLQueueServer.claim) -> Claim | None:
            found = claim(*arguments)
            if found is not None:
                claimed[found.run_id] = time.time()
            return found

        SQLQueueServer.claim = claim  # type: ignore[assignment, method-assign]  # in a process of its own
        with serve(workflow, wait=False):
            time.sleep(1)
            for number in range(count):
                began = time.time()
                run = workflow.submit(params={"number": number})
                control.wait(run)
                seen.append(claimed[run] - began)
                taken.append(float((Path(name) / str(number)).read_text()) - began)
        commit = _seconds_of_commit(Path(name) / "bare.db")
    return {
        "seen": median(seen),
        "seen, p99": quantiles(seen, n=100)[98],
        "p50": median(taken),
        "p90": quantiles(taken, n=10)[8],
        "commit": commit,
    }


def measure_idle(count: int) -> dict[str, float]:
    """The seconds of a second of an idle server, and its bytes, at first and after some runs."""
    with tempfile.TemporaryDirectory() as name:
        script = [sys.executable, __file__, name, str(count)]
        found = subprocess.run(script, check=True, capture_output=True, text=True)
    return dict(json.loads(found.stdout))


def _serve_idle(folder: str, count: int) -> None:
    workflow = workflow_in(Path(folder))
    found = {}
    with serve(workflow, wait=False):
        for after in ("", ", after runs"):
            time.sleep(1)
            began, cpu = time.perf_counter(), time.process_time()
            time.sleep(5)
            found[f"cpu{after}"] = (time.process_time() - cpu) / (time.perf_counter() - began)
            found[f"memory{after}"] = _resident()
            for number in range(0 if after else count):
                Control(workflow).wait(workflow.submit(params={"number": number}))
    print(json.dumps(found))


def _seconds_of_commit(path: Path) -> float:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE t (a)")
    taken = []
    for _ in range(50):
        began = time.perf_counter()
        connection.execute("INSERT INTO t VALUES (1)")
        taken.append(time.perf_counter() - began)
    connection.close()
    return median(taken)


def _resident() -> int:
    """Returns the bytes of this process in memory: man7.org/linux/man-pages/man5/proc_pid_statm.5.html"""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    _serve_idle(sys.argv[1], int(sys.argv[2]))
