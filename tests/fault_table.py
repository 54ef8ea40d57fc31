"""Makes each call on a run's files fail once, or each of its locks from some call on, and looks at what comes of it.

Each scenario is a process of its own: a run of three steps with faults, then one without faults that resumes. What is
not as the docs promise is printed with its call, and counted.

Run: python tests/fault_table.py [PLACE ...] [--all]
"""

import collections
import contextlib
import errno
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

sys.path[:0] = [str(Path(__file__).parent.parent / name) for name in ("src", "")]

from dotflow import Config, DotFlow, action  # noqa: E402 (found through the path that was just set)
from dotflow.errors import DotflowError  # noqa: E402
from dotflow.providers import HistorySQLite, LogDefault, StorageDefault, StorageFile, StorageSQLite  # noqa: E402
from tests.io_faults import Call, Faults  # noqa: E402

STEPS: Final = ("first", "second", "third")
MEMORY: Final = "/dev/shm"  # where a sync takes no time
LONGEST: Final = 4.5  # seconds: the 5 s of a busy file would be more, and so would those of SQLite's own retries


class Fault(NamedTuple):
    """What fails: which calls, how, and from the nth on or once."""

    name: str
    number: int
    matches: Callable[[Call], bool]
    count: int | None = 1


def _is_lock(call: Call) -> bool:
    return call.name in ("flock", "lockf", "fcntl")


WRITES: Final = ("open", "mkdir", "write", "pwrite64", "fsync", "ftruncate")
CHANGES: Final = ("open", "mkdir", "unlink", "rename", "replace")
FAULTS: Final = (
    Fault("EIO", errno.EIO, lambda call: True),
    Fault("ENOSPC", errno.ENOSPC, lambda call: call.name in WRITES),
    Fault("EINTR", errno.EINTR, lambda call: call.name == "close"),
    Fault("EACCES", errno.EACCES, lambda call: call.name in CHANGES),
    Fault("no locks, EIO", errno.EIO, _is_lock, None),
    Fault("no locks, ENOLCK", errno.ENOLCK, _is_lock, None),
)
STARTS: Final = ("new", "over", "resume")
PLACES: Final = ("file", "sqlite", "history", "log")


def make_workflow(place: str, folder: Path, generation: int) -> DotFlow:
    """Returns the workflow, whose steps write their names into the file `ran` beside the folder."""

    def step_of(name: str) -> Any:
        def step() -> Any:
            with Path(folder.parent, f"ran-{generation}").open("a") as file:
                file.write(f"{name}\n")
            return [generation, name, b"x" * 70_000] if name == "second" else [generation, name]

        step.__name__ = step.__qualname__ = name
        return action(step)

    storage = {"file": StorageFile, "sqlite": StorageSQLite}.get(place)
    path = folder / ("flow.db" if place == "sqlite" else "kept")
    config = Config(
        storage=StorageDefault() if storage is None else storage(path),
        history=HistorySQLite(folder / "history.db", capture="none") if place == "history" else None,
        **({"log": LogDefault(path=folder / "flow.log")} if place == "log" else {}),
    )
    workflow = DotFlow(config, workflow_id="nightly")
    for name in STEPS:
        workflow.task.add(step_of(name))
    return workflow


def run(place: str, folder: Path, generation: int, **options: Any) -> dict[str, Any]:
    """Runs the workflow, and returns what is known of it."""
    began = time.perf_counter()
    found: dict[str, Any] = {"error": None, "ours": True, "tasks": [], "values": []}
    workflow = make_workflow(place, folder, generation)
    try:
        made = workflow.start(**options)
        found["status"] = str(made.status)
        found["tasks"] = [str(task.status) for task in made.tasks]
        found["errors"] = [[f"{error.exception}: {error.message}" for error in task.errors] for task in made.tasks]
        found["values"] = [task.current_context.storage and task.current_context.storage[:2] for task in made.tasks]
        found["run_id"] = made.run_id
    except BaseException as error:
        found["error"], found["ours"] = f"{type(error).__name__}: {error}", isinstance(error, DotflowError)
    found["seconds"] = time.perf_counter() - began
    ran = Path(folder.parent, f"ran-{generation}")
    found["ran"] = ran.read_text().split() if ran.exists() else []
    return found


def apart(work: Callable[[], dict[str, Any]], folder: Path) -> dict[str, Any]:
    """Calls *work* in a process of its own. The result has what it writes to stderr."""
    reader, writer = os.pipe()
    errors = folder.with_name("stderr")
    errors.unlink(missing_ok=True)
    child = os.fork()
    if not child:
        os.close(reader)
        with errors.open("a") as file:
            os.dup2(file.fileno(), 2)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)  # pytest has replaced it
        code = 1
        with contextlib.suppress(BaseException), os.fdopen(writer, "w") as out:
            json.dump(work(), out)
            out.flush()
            code = 0
        sys.stderr.flush()
        os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as out:
        text = out.read()
    os.waitpid(child, 0)
    return {**json.loads(text), "stderr": errors.read_text()} if text else {"died": True}


class Outcome(NamedTuple):
    """What came of a scenario."""

    problems: list[str]
    call: str  # that failed first; "" if none did
    calls: int  # that could fail
    seconds: float
    error: str | None  # of start()


def scenario(place: str, start: str, fault: Fault, nth: int | None) -> Outcome:
    """Runs with a fault, then resumes without; *nth* None has no fault."""
    with tempfile.TemporaryDirectory(prefix="faults-", dir=MEMORY if Path(MEMORY).is_dir() else None) as name:
        folder = Path(name) / "work"
        folder.mkdir()
        if start != "new":
            apart(lambda: run(place, folder, 0), folder)
        if start == "resume" and place in ("file", "sqlite"):  # the last task has to run again
            storage = make_workflow(place, folder, 0).config.storage
            storage.delete("nightly/2")
            del storage

        def with_fault() -> dict[str, Any]:
            faults = Faults(folder, fault.number, nth, fault.count, fault.matches)
            with faults.injected():
                found = run(place, folder, 1, resume=start == "resume")
            return {**found, "failed": [str(call) for call in faults.failed[:1]], "calls": len(faults.calls)}

        before = apart(with_fault, folder)
        after = apart(lambda: run(place, folder, 2, resume=True), folder)
        problems = list(_problems(place, start, fault, before, after))
        if place == "history":
            problems += _problems_of_history(folder, fault, before)
        if any(path.suffix in (".tmp", ".void") for path in folder.rglob("*")):
            problems.append("litter")
        call = "".join(before.get("failed", ()))
        return Outcome(problems, call, before.get("calls", 0), before.get("seconds", 0.0), before.get("error"))


def _problems(place: str, start: str, fault: Fault, before: Any, after: Any) -> Iterator[str]:
    if "died" in (*before, *after):
        yield "the process died"
        return
    if before["error"] and not before["ours"]:
        yield f"an error that is not ours: {before['error'].partition(':')[0]}"
    if before["error"] and before["ran"]:
        yield "no Run, though steps ran"
    if before["seconds"] > LONGEST:
        yield "slow"
    if fault.number == errno.EINTR and before.get("status") != "Completed":
        yield "an interrupted call fails"
    if "Exception ignored" in before["stderr"]:
        yield "a traceback of an ignored exception"
    if after["error"]:
        yield f"the next run is refused: {after['error'].partition(':')[0]}"
    elif place in ("file", "sqlite"):
        yield from _problems_of_values(start, before, after)


def _problems_of_values(start: str, before: Any, after: Any) -> Iterator[str]:
    for number, name in enumerate(STEPS):
        status = (before["tasks"] or [""] * len(STEPS))[number]
        value = after["values"][number]
        is_restored = name not in after["ran"]
        if status == "Failed" and is_restored:
            yield "a failed task has a checkpoint that counts"
        if status == "Completed" and not is_restored:
            yield "a completed task runs again"
        if is_restored and before["ran"] and start == "over" and value != [1, name]:
            yield "a stale value"
        if before["error"] and not before["ran"] and start == "over" and not is_restored:
            yield "a refused start has voided the earlier values"
        if value[1] != name:
            yield "a wrong value"


def _problems_of_history(folder: Path, fault: Fault, before: Any) -> Iterator[str]:
    """What the history does not have has to be in the log; a fault that has passed loses nothing."""
    run_id = before.get("run_id")
    for summary in HistorySQLite(folder / "history.db").runs():
        if summary.run_id == run_id and (summary.state, summary.completed) == (before["status"], len(STEPS)):
            return
    if fault.count or f"rows of the run {run_id} are not in" not in before["stderr"]:
        yield "the history does not have the run, or not all of it"


def sweep(place: str, start: str, fault: Fault, stride: int = 1) -> Iterator[tuple[int, Outcome]]:
    """Yields the outcome for each call that can fail."""
    count = scenario(place, start, fault, None).calls
    for nth in range(0, count, stride):
        yield nth, scenario(place, start, fault, nth)


def main(places: list[str], *, shows_all: bool) -> None:
    """Prints the table."""
    total, found = 0, collections.Counter[str]()
    for place, start, fault in itertools.product(places or PLACES, STARTS, FAULTS):
        count, slowest = 0, 0.0
        for nth, outcome in sweep(place, start, fault):
            count, slowest = count + 1, max(slowest, outcome.seconds)
            found.update(outcome.problems)
            for problem in outcome.problems:
                if shows_all or found[problem] <= 3:
                    print(f"  call {nth}, {outcome.call}: {problem} {outcome.error or ''}", flush=True)
        total += count
        print(f"{place:8} {start:7} {fault.name:17} {count:4} scenarios, at most {slowest:.2f} s", flush=True)
    print(f"{total} scenarios")
    for problem, count in found.most_common():
        print(f"{count:6} {problem}")


if __name__ == "__main__":
    options = [argument for argument in sys.argv[1:] if argument.startswith("--")]
    main([argument for argument in sys.argv[1:] if argument not in options], shows_all="--all" in options)
