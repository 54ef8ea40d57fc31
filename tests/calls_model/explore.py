"""Random programs with a durable step are run, killed, edited and resumed; a memo follows what their calls do.

Run: python -m tests.calls_model.explore [--first 0] [--count 500] [--mode process] [--storage file] [--seconds 60]
The modes "dask" and "ray" need DASK_SCHEDULER_ADDRESS or RAY_ADDRESS, and workers that find the folder tests.
"""

import argparse
import contextlib
import faulthandler
import functools
import json
import linecache
import os
import pickle
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NamedTuple

from dotflow import Config, Context, DotFlow, Task
from dotflow.abc.log import Log
from dotflow.abc.storage import Storage
from dotflow.providers import (
    ExecutorAsync,
    ExecutorDask,
    ExecutorProcess,
    ExecutorRay,
    ExecutorThread,
    StorageDefault,
    StorageFile,
    StorageSQLite,
)
from tests.calls_model.memo import Memo, Rules, is_record, is_value
from tests.calls_model.program import Program
from tests.calls_model.world import Kill, W

MODES: Final = ("sequential", "thread", "async", "process")
#: Further modes: the executor, and the variable with the address of the cluster.
ON_CLUSTERS: Final[dict[str, tuple[Any, str]]] = {
    "dask": (ExecutorDask, "DASK_SCHEDULER_ADDRESS"),
    "ray": (ExecutorRay, "RAY_ADDRESS"),
}
STORAGES: Final = ("file", "three", "sqlite", "memory")
TIMEOUT: Final = 60.0  # seconds; what takes longer hangs
MODULE: Final = "calls_program"


class Started(NamedTuple):
    """A run of a program."""

    text: str
    folder: Path
    number: int
    mode: str
    storage: str
    kills: list[Kill]
    resume: Any
    rerun: bool


def scenario(seed: int, mode: str, storage: str, folder: Path, figures: Counter[str]) -> list[str]:
    """Goes through the runs of one program. Returns what the contract forbids."""
    if storage != "memory":
        return _explore(seed, mode, storage, folder, figures, run_in_child)
    place = folder / "problems"

    def all_runs() -> None:
        problems = _explore(seed, mode, storage, folder, figures, _run_here)
        place.write_text(json.dumps([problems, figures]))

    how = _in_child(all_runs, folder, timeout=60)
    if how:
        return [f"{mode} {how}"]
    problems, counted = json.loads(place.read_text())
    figures.update(Counter(counted) - figures)
    return [str(problem) for problem in problems]


def _explore(
    seed: int, mode: str, storage: str, folder: Path, figures: Counter[str], run: Callable[[Started], str]
) -> list[str]:
    pick = random.Random(f"{seed} {mode} {storage}")
    program, memo = Program(seed), Memo()
    path: list[str] = []
    log = folder / "log"
    log.touch()
    count = pick.randint(2, 5)
    for number in range(count):
        edits = [program.edit() for _ in range(pick.randint(0 if pick.random() < 0.2 else 1, 3))] if number else []
        figures["edits"] += len(edits)
        resume: Any = pick.choice((True, "changed")) if number else False
        rerun = bool(number) and pick.random() < 0.06
        kills = kills_of(pick) if number < count - 1 else []
        if storage == "memory":  # it ends with the process of the run
            kills = [kill for kill in kills if kill.side == "worker" and mode == "process"]
        started = Started(program.text(), folder, number, mode, storage, kills, resume, rerun)
        (folder / f"program-{number}.py").write_text(started.text)
        path.append(f"{number}: {' '.join(edits)} resume={resume}{' rerun' * rerun} {[tuple(kill) for kill in kills]}")
        (folder / "path").write_text("\n".join(path))
        began = log.stat().st_size
        broken = run(started)
        lines = [json.loads(line) for line in log.read_bytes()[began:].splitlines()]
        was_killed = not broken and not any(line[0] == "ran" for line in lines)
        problems = [broken] if broken else memo.follow(lines, rules_of(program, started), was_killed=was_killed)
        if problems:
            return [*problems, *path]
    figures.update(memo.figures)
    figures["programs"] += 1
    return []


def kills_of(pick: random.Random) -> list[Kill]:
    kind = pick.random()
    if kind < 0.2:
        return []
    if kind < 0.45:
        return [Kill("coordinator", pick.randrange(14), pick.random() < 0.5)]
    return [Kill("worker", pick.randrange(40), pick.random() < 0.5) for _ in range(pick.choice((1, 1, 2)))]


def rules_of(program: Program, started: Started) -> Rules:
    functions = program.functions
    tries = {name: int("retry=2" in one.options) + 1 for name, one in functions.items()}
    return Rules(
        resume=started.resume,
        rerun=started.rerun,
        codes=program.codes(),
        retries=int(functions["agent"].options.partition("retry=")[2][0]),
        tries=tries,
        unsaved=frozenset(name for name, one in functions.items() if "checkpoint=False" in one.options),
        lists=started.storage != "three",
    )


def run_in_child(started: Started) -> str:
    """Runs a program in a process of its own. Returns how it hung or broke; empty if it ended or was killed."""
    return _in_child(lambda: _run_here(started), started.folder)


def _run_here(started: Started) -> str:
    W.begin(started.folder, started.number, started.kills)
    W.write("run", started.number)
    module = load(started.text, started.number)
    if started.mode in ON_CLUSTERS:
        import cloudpickle

        cloudpickle.register_pickle_by_value(module)
    start(module, started)
    return ""


def _in_child(function: Callable[[], object], folder: Path, timeout: float = TIMEOUT) -> str:
    with warnings.catch_warnings(action="ignore"):  # pytest may have threads
        child = os.fork()
    if not child:
        code = 3
        try:
            err = os.open(folder / "err", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(err, 1)
            os.dup2(err, 2)
            faulthandler.enable(2, all_threads=True)
            warnings.simplefilter("ignore")
            function()
            code = 0
        except BaseException:
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(code)
    status = _wait(child, timeout)
    code = None if status is None else os.waitstatus_to_exitcode(status)
    if code in (0, 9, -signal.SIGKILL):
        return ""
    how = "hangs" if code is None else f"ended with {code}"
    return f"{how}: {(folder / 'err').read_text(errors='replace')[-6000:]}"


def _wait(child: int, timeout: float) -> int | None:
    """Returns how a process ended; None if it hung."""
    end = time.monotonic() + timeout
    pause = 0.0005
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status
        time.sleep(pause)
        pause = min(pause * 1.3, 0.01)
    os.kill(child, signal.SIGABRT)
    time.sleep(0.3)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def load(text: str, run: int) -> ModuleType:
    """Makes the module of a program."""
    name = f"<{MODULE} {run}>"
    linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    module = ModuleType(MODULE)
    sys.modules[MODULE] = module
    exec(compile(text, name, "exec"), vars(module))
    W.names = {id(value): one for one, value in vars(module).items()}
    return module


def start(module: ModuleType, started: Started) -> None:
    """Runs the workflow of a program, and writes how it ended."""
    storage = storage_of(started.storage, started.folder)
    workflow = DotFlow(
        Config(storage=storage, log=notes(), executor=executor_of(started.mode)), workflow_id="w", params={"x": 1}
    )
    workflow.task.add(module.agent)
    options: dict[str, Any] = {"rerun": ["agent"]} if started.rerun else {"resume": started.resume}
    workflow.start(mode="parallel" if started.mode == "process" else "sequential", **options)
    (task,) = workflow.result_task()
    errors = [f"{one.exception}: {one.message}" for one in task.errors]
    W.write("ran", str(task.status), task.current_context.storage if task.has_value else None, errors)


def notes() -> Any:
    """Makes a log that keeps what is written about orphans."""

    class Notes(Log):
        def info(self, task: Any) -> None: ...

        def error(self, task: Any) -> None: ...

        def note(self, message: str) -> None:
            W.write("note", message)

        report = note

    return Notes()


def executor_of(mode: str) -> Any:
    if mode in ON_CLUSTERS:
        executor, variable = ON_CLUSTERS[mode]
        return executor(os.environ[variable])
    made = {"thread": ExecutorThread, "async": ExecutorAsync, "process": ExecutorProcess}.get(mode)
    return None if made is None else made(1)


@functools.cache
def storage_of(kind: str, folder: Path) -> Any:
    """Makes a storage that writes what is done with it, and may kill the run before and after."""
    if kind == "memory":
        return watched(StorageDefault())
    if kind == "file":
        return watched(StorageFile(folder / "values", durability="process"))
    if kind == "sqlite":
        return watched(StorageSQLite(folder / "flow.db"))
    return watched(three_methods(folder / "values"))


def three_methods(folder: Path) -> Any:
    """Makes a storage with the least that one needs, in files."""
    folder.mkdir(exist_ok=True)

    class StorageThree(Storage):
        def post(self, key: str, context: Context) -> None:
            place = folder / key.replace("/", "_")
            place.with_suffix(".new").write_bytes(pickle.dumps(context))
            place.with_suffix(".new").replace(place)

        def get(self, key: str) -> Context:
            place = folder / key.replace("/", "_")
            return pickle.loads(place.read_bytes()) if place.exists() else Context()

        def key(self, task: Task) -> str:
            return f"{task.workflow_id}-{task.task_id}"

    return StorageThree()


def watched(storage: Any) -> Any:
    """Has a storage pass the moments of the coordinator, and write what it has done."""
    post, delete, clear = storage.post, storage.delete, storage.clear

    def watched_post(key: str, context: Any) -> None:
        is_empty = context.storage is None and context.task_id is None and context.inputs is None
        counts = not is_empty and (is_record(key) or is_value(key))
        if counts:
            W.passes("coordinator")
            W.write("posting", key)
        post(key, context)
        W.write("delete" if is_empty else "post", key)
        if counts:
            W.passes("coordinator")

    def watched_delete(key: str) -> None:
        if is_record(key):
            W.passes("coordinator")
        delete(key)
        W.write("delete", key)
        if is_record(key):
            W.passes("coordinator")

    def watched_clear(workflow_id: str) -> bool:
        is_cleared: bool = clear(workflow_id)
        if is_cleared:
            W.write("clear")
        return is_cleared

    vars(storage).update(post=watched_post, delete=watched_delete, clear=watched_clear)
    return storage


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=10**9)
    parser.add_argument("--seconds", type=float, default=10**9)
    parser.add_argument("--mode", action="append", choices=(*MODES, *ON_CLUSTERS))
    parser.add_argument("--storage", action="append", choices=STORAGES)
    parser.add_argument("--keep", type=Path, help="where the folders of violations are kept")
    chosen = parser.parse_args()
    wrong = 0
    for mode in chosen.mode or MODES:
        for storage in chosen.storage or ("file",):
            figures: Counter[str] = Counter()
            began = time.monotonic()
            for seed in range(chosen.first, chosen.first + chosen.count):
                if time.monotonic() - began > chosen.seconds:
                    break
                with tempfile.TemporaryDirectory() as made:
                    problems = scenario(seed, mode, storage, Path(made), figures)
                    if problems:
                        wrong += 1
                        print(f"{mode} {storage} {seed}:", *problems, sep="\n   ", flush=True)
                        if chosen.keep:
                            shutil.copytree(made, chosen.keep / f"{mode}-{storage}-{seed}", dirs_exist_ok=True)
            seconds = time.monotonic() - began
            print(
                f"{mode} {storage}: {seconds:.0f} s,", ", ".join(f"{count} {what}" for what, count in figures.items())
            )
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
