"""Files are part of the values that name them: what is recorded of them, and what a resume does when they change."""

import asyncio
import atexit
import contextlib
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from dotflow import Config, Context, Control, DotFlow, action, serve
from dotflow.abc.executor import Executor
from dotflow.abc.storage import Storage
from dotflow.core.types.run_state import TypeRunState
from dotflow.core.types.status import TypeStatus
from dotflow.errors import CheckpointUnreadable
from dotflow.providers import (
    ExecutorAsync,
    ExecutorProcess,
    ExecutorThread,
    HistorySQLite,
    LogDefault,
    StorageDefault,
    StorageFile,
    StorageSQLite,
)
from dotflow.resume import files as resume_files
from dotflow.worker import files as worker_files
from tests import files_fuzz, inputs_fuzz
from tests.integration.modes import MODES, group, start
from tests.resume_fuzz import KilledWithClear
from tests.storages import StorageThree

RAN = Path("ran.txt")  # in the folder of the test: steps run in any process
Add = Callable[[DotFlow], object]

STORAGES: dict[str, Callable[[], Storage]] = {
    "memory": StorageDefault,
    "three methods": StorageThree,
    "file": lambda: StorageFile(Path("kept").absolute()),
    "sqlite": lambda: StorageSQLite(Path("kept.db").absolute()),
}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def storage() -> Storage:
    return STORAGES["file"]()


def note(name: str) -> None:
    with RAN.open("a") as file:
        file.write(f"{name}\n")


def run(storage: Storage, add: Add, resume: Any = True, mode: str = "sequential", **options: Any) -> list[str]:
    """Runs a workflow, compares the run with its plan, and returns which steps have run, in order."""
    return [*go(storage, add, resume, mode, **options)[1]]


def go(
    storage: Storage,
    add: Add,
    resume: Any = True,
    mode: str = "sequential",
    executor: Executor | None = None,
    config: dict[str, Any] | None = None,
    declared: dict[str, Any] | None = None,
    **options: Any,
) -> tuple[DotFlow, list[str]]:
    RAN.unlink(missing_ok=True)
    log = LogDefault(output="file", path=str(Path("log.txt").absolute()))
    settings = Config(storage=storage, log=log, executor=executor, **(config or {}))
    workflow = DotFlow(settings, workflow_id="w", params=declared)
    add(workflow)
    planned_mode = "sequential" if mode == "groups" else mode
    plan = workflow.plan(planned_mode, resume, rerun=options.get("rerun"))
    try:
        start(workflow, mode, resume=resume, **options)
    except KeyboardInterrupt:
        return workflow, ran()
    for planned, task in zip(plan.tasks, workflow.result_task(), strict=True):
        if planned.decision == "restore":
            assert task.restored_from == "checkpoint", (plan, task)
        if planned.decision == "run" and task.status is TypeStatus.COMPLETED and not task.is_mapped:
            assert task.attempt, (plan, task)
    return workflow, ran()


@action
def read_source(source: Path) -> str:
    return source.read_text()


def ran() -> list[str]:
    return RAN.read_text().split() if RAN.exists() else []


def log_lines() -> str:
    return Path("log.txt").read_text()


def edit(path: str, text: str) -> None:
    """Writes other content; the time is another one, however quick the test is."""
    before = Path(path).stat().st_mtime_ns if Path(path).exists() else 0
    Path(path).write_text(text)
    os.utime(path, ns=(before + 10**9, before + 10**9))


# An interrupt


def interrupt_and_wait(*_arguments: Any) -> None:
    """Stands for reading a large file, which takes until something ends it."""
    over = Path("over").absolute()
    os.kill(int(Path("coordinator").read_text()), signal.SIGINT)
    while not over.exists():
        time.sleep(0.01)


def write_large() -> Path:
    """Writes a file that is not read at once, and makes its reading take long in this process."""
    note("make")
    if Path("coordinator").exists():
        hashlib.file_digest = interrupt_and_wait  # type: ignore[assignment]
    Path("large.bin").write_bytes(bytes(worker_files.CHUNK))
    return Path("large.bin")


@action
def make_large() -> Path:
    return write_large()


@action(timeout=60)
def make_large_in_time() -> Path:
    return write_large()


@action(isolate=True)
def make_large_isolated() -> Path:
    return write_large()


@action
async def make_large_async() -> Path:
    return write_large()


INTERRUPTED: list[Any] = [
    *((make_large, mode, None) for mode in MODES),
    (make_large_in_time, "sequential", None),
    (make_large_in_time, "parallel", None),
    (make_large_isolated, "sequential", None),
    pytest.param(make_large_isolated, "sequential", ExecutorThread, marks=pytest.mark.slow),
    (make_large, "sequential", ExecutorThread),
    (make_large_async, "sequential", ExecutorAsync),
    (make_large_async, "sequential", None),
]


@pytest.mark.exhaustive(keep_every=12)
@pytest.mark.processes
@pytest.mark.parametrize(("step", "mode", "executor"), INTERRUPTED)
def test_ctrl_c_while_a_large_file_is_read_keeps_the_value(
    step: Any, mode: str, executor: Any, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step has returned, so it does not run again: its file is compared by size and time."""
    monkeypatch.setattr(hashlib, "file_digest", hashlib.file_digest)
    Path("coordinator").write_text(str(os.getpid()))

    def add(workflow: DotFlow) -> None:
        workflow.task.add(step)

    interrupted = DotFlow(Config(storage=storage, executor=executor and executor()), workflow_id="w")
    add(interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            start(interrupted, mode)
    finally:
        Path("over").touch()
        Path("coordinator").unlink()

    assert ran() == ["make"]
    assert interrupted.result_task()[0].status is TypeStatus.COMPLETED
    assert run(storage, add) == []
    edit("large.bin", "other")
    assert run(storage, add) == ["make"]


HUGE = 1 << 40  # bytes of a file without blocks: reading it takes minutes


def make_huge() -> Path:
    with Path("huge.bin").open("wb") as file:
        file.truncate(HUGE)
    return Path("huge.bin")


@action(timeout=0.2)
def make_huge_in_time() -> Path:
    note("make")
    return make_huge()


@action(timeout=0.2, isolate=True)
def make_huge_isolated() -> Path:
    note("make")
    return make_huge()


@action(timeout=0.2)
async def make_huge_async() -> Path:
    note("make")
    return make_huge()


LIMITED: list[Any] = [
    *((make_huge_in_time, mode, None) for mode in MODES),
    (make_huge_in_time, "sequential", ExecutorThread),
    (make_huge_isolated, "sequential", None),
    (make_huge_async, "sequential", None),
    (make_huge_async, "sequential", ExecutorAsync),
]


@pytest.mark.exhaustive(keep_every=3)
@pytest.mark.processes
@pytest.mark.parametrize(("step", "mode", "executor"), LIMITED)
def test_a_file_is_read_no_longer_than_its_step_has_time(step: Any, mode: str, executor: Any, storage: Storage) -> None:
    """The step has returned in time, so it does not run again: its file is compared by size and time."""
    config = Config(storage=storage, executor=executor and executor(), digest_limit=HUGE)

    def make() -> DotFlow:
        workflow = DotFlow(config, workflow_id="w")
        workflow.task.add(step)
        return workflow

    start(first := make(), mode)
    assert first.result_task()[0].status is TypeStatus.COMPLETED
    assert make().start(resume=True).value(step) == Path("huge.bin")
    assert ran() == ["make"]
    edit("huge.bin", "other")
    assert make().start(resume=True).status is TypeStatus.COMPLETED
    assert ran() == ["make", "make"]


@action(files=False)
def make_huge_unread() -> Path:
    return make_huge()


@action(cache=True)
def size_of_huge(make_huge_unread: Path) -> int:
    return make_huge_unread.stat().st_size


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Returns what is set when a file is opened for its digest."""
    event, at_once = threading.Event(), worker_files._open_at_once

    def open_at_once(path: str, flags: int) -> int:
        event.set()
        return at_once(path, flags)

    monkeypatch.setattr(worker_files, "_open_at_once", open_at_once)
    return event


@pytest.mark.parametrize("how", ["cancel", "timeout"])
def test_the_end_of_a_run_ends_the_reading_of_a_file_for_it(how: str, opened: threading.Event) -> None:
    """Here of one that the key of a cached value needs."""
    workflow = DotFlow(Config(digest_limit=HUGE))
    workflow.task.add(make_huge_unread).add(size_of_huge)
    run = workflow.start(mode="background", timeout=None if how == "cancel" else 0.5)
    assert opened.wait(60)
    if how == "cancel":
        run.cancel()
    assert run.wait(60)
    assert run.state is (TypeRunState.CANCELLED if how == "cancel" else TypeRunState.FAILED)
    assert run.value("make_huge_unread") == Path("huge.bin")
    assert run["size_of_huge"].status is TypeStatus.NOT_STARTED or run["size_of_huge"].error.exception == "RunTimeout"


def queued_with_a_huge_file(folder: Path) -> tuple[DotFlow, Control, str]:
    config = Config(StorageFile(folder / "values"), history=HistorySQLite(folder / "h.db"), digest_limit=HUGE)
    workflow = DotFlow(config, workflow_id="w", params={"file": make_huge()})
    workflow.task.add(read_source, params={"source": Path("huge.bin")})
    return workflow, Control(config.history), workflow.submit()


def test_a_server_that_stops_reads_no_file_of_a_parameter_to_its_end(opened: threading.Event, tmp_path: Path) -> None:
    """The run goes back to the queue."""
    workflow, control, run_id = queued_with_a_huge_file(tmp_path)
    with serve(workflow, wait=False) as server:
        assert opened.wait(60)
        server.stop()
    assert control.run(run_id).state is TypeRunState.QUEUED


def test_cancel_ends_the_reading_of_a_file_of_a_parameter(opened: threading.Event, tmp_path: Path) -> None:
    """The run of a server ends, though it has not begun."""
    workflow, control, run_id = queued_with_a_huge_file(tmp_path)
    cancels = threading.Thread(target=lambda: opened.wait(60) and control.cancel(run_id))
    cancels.start()
    serve(workflow, once=True)
    cancels.join()
    assert control.run(run_id).state is TypeRunState.CANCELLED


@action(timeout=60)
def make_and_register() -> Path:
    atexit.register(Path("exited.txt").absolute().touch)
    Path("made.txt").write_text("made")
    return Path("made.txt")


@pytest.mark.processes
def test_a_worker_whose_step_has_returned_a_file_runs_its_exit_handlers(storage: Storage) -> None:
    """No run interrupts an idle worker at its end."""
    workflow = DotFlow(Config(storage=storage))
    workflow.task.add(make_and_register)

    assert workflow.start("parallel").status is TypeStatus.COMPLETED
    assert Path("exited.txt").exists()


# What is looked at, and how often


@action
def make_three() -> list[Path]:
    for number in range(3):
        Path(f"{number}.txt").write_text("3")
    return [Path(f"{number}.txt") for number in range(3)]


@action
def count_three(make_three: list[Path]) -> int:
    return len(make_three)


@action(isolate=True)
def change_one(make_three: list[Path]) -> int:
    edit("1.txt", "changed")
    return len(make_three)


@action(retry=2)
def fail_once(make_three: list[Path]) -> int:
    edit("2.txt", f"changed {len(ran())}")
    note("fail")
    if len(ran()) == 1:
        raise ValueError
    return len(make_three)


@pytest.mark.processes
def test_a_change_belongs_to_the_attempt_that_made_it(storage: Storage) -> None:
    """Not to the next one, though the one between them ran in another process, or has failed."""

    def add(workflow: DotFlow) -> None:
        workflow.task.add(make_three).add(count_three, name="first").add(change_one).add(count_three, name="second")
        workflow.task.add(fail_once).add(count_three, name="third")

    workflow, _ = go(storage, add)

    changed = {}
    for number, name in enumerate(["make_three", "first", "change_one", "second", "fail_once", "third"]):
        inputs = storage.get(storage.key(workflow.result_task()[number])).inputs
        assert inputs is not None
        changed[name] = [] if inputs.files is None else sorted(inputs.files.changed)
    assert changed == {
        "make_three": [],
        "first": [],
        "change_one": ["1.txt"],
        "second": [],
        "fail_once": ["0.txt", "1.txt", "2.txt"],  # what a repeated one is given may have been changed before
        "third": [],
    }


def count_reading(file: Any, name: str) -> Any:
    with Path("reads.txt").open("a") as reads:
        reads.write(f"{os.getpid()}\n")
    return READ(file, name)


READ = hashlib.file_digest


def count_in_this_process() -> None:
    """Counts the readings in a worker, too, which may be no fork of the test's process."""
    hashlib.file_digest = count_reading  # type: ignore[assignment]


@action(isolate=True)
def make_much() -> list[Path]:
    count_in_this_process()
    Path("much.bin").write_bytes(bytes(worker_files.CHUNK))
    os.utime("much.bin", (1, 1))
    return [Path("much.bin")]


@action(isolate=True)
def pass_on(path: Path) -> Path:
    count_in_this_process()
    return path


@action(cache=True)
def sized(path: Path) -> int:
    return path.stat().st_size


@pytest.mark.exhaustive(keep_every=4)
@pytest.mark.processes
@pytest.mark.parametrize("mode", ["sequential", "parallel"])
@pytest.mark.parametrize("is_made", [True, False])
def test_a_large_file_is_read_once_in_a_run(
    mode: str, is_made: bool, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the process of the run or by a worker; the others know its digest then."""
    monkeypatch.setattr(hashlib, "file_digest", count_reading)
    monkeypatch.setattr(resume_files, "LARGE", worker_files.CHUNK)
    Path("given.bin").write_bytes(bytes([1]) * worker_files.CHUNK)
    os.utime("given.bin", (1, 1))

    def add(workflow: DotFlow) -> None:
        if is_made:
            workflow.task.add(make_much).add(pass_on, each={"path": make_much})
        else:
            workflow.task.add(pass_on, each={"path": [Path("given.bin")]})
        workflow.task.add(sized, each={"path": pass_on})

    go(storage, add, mode=mode)

    assert len(Path("reads.txt").read_text().split()) == 1


# A made file


@action
def make() -> Path:
    note("make")
    Path("made.txt").write_text(Path("content.txt").read_text() if Path("content.txt").exists() else "made")
    return Path("made.txt")


@action
async def make_async() -> Path:
    await asyncio.sleep(0)
    note("make")
    Path("made.txt").write_text("made")
    return Path("made.txt")


@action
def read(previous_context: Context) -> str:
    note("read")
    text: str = previous_context.storage.read_text()
    return text


def made_and_read(flow: DotFlow) -> None:
    flow.task.add(make)
    flow.task.add(read)


def unlink() -> None:
    Path("made.txt").unlink()


def truncate() -> None:
    edit("made.txt", "ma")


def change() -> None:
    edit("made.txt", "MADE")


def keep_the_time() -> None:
    """Other content of the same size, with the time set back."""
    found = Path("made.txt").stat()
    Path("made.txt").write_text("MADE")
    os.utime("made.txt", ns=(found.st_atime_ns, found.st_mtime_ns))


def link() -> None:
    edit("other.txt", "MADE")
    unlink()
    Path("made.txt").symlink_to("other.txt")


def make_a_folder() -> None:
    unlink()
    Path("made.txt").mkdir()


def restore() -> None:
    change()
    edit("made.txt", "made")


def touch() -> None:
    Path("made.txt").touch()


def copy() -> None:
    shutil.copy("made.txt", "copy.txt")
    Path("copy.txt").replace("made.txt")


def link_to_a_copy() -> None:
    shutil.copy("made.txt", "copy.txt")
    unlink()
    Path("made.txt").symlink_to("copy.txt")


DAMAGES = [unlink, truncate, change, keep_the_time, link, make_a_folder]
HARMLESS = [restore, touch, copy, link_to_a_copy]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("resume", [True, "changed"])
def test_a_step_whose_file_is_damaged_runs_again(storage: Storage, damage: Callable[[], None], resume: Any) -> None:
    """So does what takes its value, and the log shows why. A second resume runs nothing."""
    run(storage, made_and_read, resume=False)
    damage()
    if damage is make_a_folder:
        Path("made.txt").rmdir()

    assert run(storage, made_and_read, resume=resume) == ["make", "read"]
    assert "Task 0 make runs again: made.txt " in log_lines()
    assert run(storage, made_and_read, resume=resume) == []


@pytest.mark.parametrize("edit_it", HARMLESS)
def test_the_same_content_is_the_same_file(storage: Storage, edit_it: Callable[[], None]) -> None:
    """`touch`, `cp`, a checkout and a link to the same content void nothing."""
    run(storage, made_and_read, resume=False)
    edit_it()

    assert run(storage, made_and_read) == []


@pytest.mark.exhaustive(keep_every=20)
@pytest.mark.parametrize("name", STORAGES)
@pytest.mark.parametrize("mode", MODES)
def test_files_count_in_every_mode_and_storage(name: str, mode: str) -> None:
    """A storage of three methods, too."""
    storage = STORAGES[name]()

    def add(flow: DotFlow) -> None:
        flow.task.add(make, name="make", group_name=group(mode, 0))
        flow.task.add(read_made, name="read", group_name=group(mode, 1))

    assert run(storage, add, resume=False, mode=mode) == ["make", "read"]
    assert run(storage, add, mode=mode) == []
    Path("made.txt").unlink()
    assert run(storage, add, mode=mode) == ["make", "read"]
    assert run(storage, add, mode=mode) == []


@action
def read_made(make: Path) -> str:
    note("read")
    return make.read_text()


@pytest.mark.exhaustive(keep_every=3)
@pytest.mark.parametrize("kind", [ExecutorThread, ExecutorAsync, ExecutorProcess])
@pytest.mark.parametrize("step", [make, make_async])
def test_files_count_with_every_executor(storage: Storage, kind: type[Executor], step: Any) -> None:
    """Functions and coroutines, in threads, processes and an event loop."""

    def add(flow: DotFlow) -> None:
        flow.task.add(step, name="make")
        flow.task.add(read_made, name="read")

    assert run(storage, add, resume=False, mode="parallel", executor=kind()) == ["make", "read"]
    Path("made.txt").unlink()
    assert run(storage, add, mode="parallel", executor=kind()) == ["make", "read"]
    assert run(storage, add, mode="parallel", executor=kind()) == []


def test_a_text_is_no_path(storage: Storage) -> None:
    """A step that returns the text of a path is restored, whatever becomes of the file."""

    def add(flow: DotFlow) -> None:
        flow.task.add(as_text)

    run(storage, add, resume=False)
    Path("made.txt").unlink()

    assert run(storage, add) == []


@action
def as_text() -> str:
    note("make")
    Path("made.txt").write_text("made")
    return "made.txt"


@action(files=False)
def make_log() -> Path:
    note("make")
    Path("made.txt").write_text("made")
    return Path("made.txt")


def test_a_step_may_leave_files_out(storage: Storage) -> None:
    """For logs: with files=False a path is only its text."""

    def add(flow: DotFlow) -> None:
        flow.task.add(make_log)

    run(storage, add, resume=False)
    Path("made.txt").unlink()

    assert run(storage, add) == []


def test_a_workflow_may_leave_files_out(storage: Storage) -> None:
    """Config(files=False) judges no file, and records none. Without it, what was not recorded is made again."""
    run(storage, made_and_read, resume=False, config={"files": False})
    Path("made.txt").unlink()

    assert run(storage, made_and_read, config={"files": False}) == []
    assert run(storage, made_and_read) == ["make", "read"]
    assert run(storage, made_and_read) == []


def test_a_large_file_is_known_by_size_and_time(storage: Storage) -> None:
    """Above the limit no content is read: a touched file is another one."""
    config = {"digest_limit": "3 B"}
    run(storage, made_and_read, resume=False, config=config)

    assert run(storage, made_and_read, config=config) == []
    edit("made.txt", "made")
    assert run(storage, made_and_read, config=config) == ["make", "read"]


def test_the_checkpoint_shows_the_digest_of_sha256sum(storage: Storage) -> None:
    """The head of the checkpoint has path, size, times and SHA-256."""
    run(storage, made_and_read, resume=False)

    text = Path("kept/w.checkpoints/0.json").read_text()
    files = json.loads(text)["files"]

    found = Path("made.txt").stat()
    digest = hashlib.sha256(b"made").hexdigest()
    assert files == {"made": {"made.txt": [4, found.st_mtime_ns, found.st_ctime_ns, digest, ""]}}


# A file that another task changes


@action
def create() -> Path:
    note("create")
    Path("shop.db").unlink(missing_ok=True)
    with sqlite3.connect("shop.db") as connection:
        connection.execute("create table orders (n int)")
    connection.close()
    return Path("shop.db")


@action
def fill(create: Path) -> int:
    note("fill")
    with sqlite3.connect(create) as connection:
        connection.execute("insert into orders values (1)")
    connection.close()
    if Path("fail").exists():
        raise RuntimeError("fail")
    return 1


@action
def count(create: Path, fill: int) -> Any:
    note("count")
    with sqlite3.connect(create) as connection:
        rows = connection.execute("select count(*) from orders").fetchone()[0]
    connection.close()
    return rows


def etl(flow: DotFlow) -> None:
    flow.task.add(create)
    flow.task.add(fill)
    flow.task.add(count)


@pytest.mark.exhaustive(keep_every=4)
@pytest.mark.parametrize("mode", MODES)
def test_a_database_that_is_filled_in_place_is_the_runs_own_work(mode: str) -> None:
    """A finished run stays finished; `touch` changes nothing; a deleted database is made again."""
    storage = STORAGES["file"]()

    def add(flow: DotFlow) -> None:
        flow.task.add(create, name="create", group_name=group(mode, 0))
        flow.task.add(fill, name="fill", group_name=group(mode, 0))
        flow.task.add(count, name="count", group_name=group(mode, 1))

    assert run(storage, add, resume=False, mode=mode) == ["create", "fill", "count"]
    assert run(storage, add, mode=mode) == []
    Path("shop.db").touch()
    assert run(storage, add, mode=mode) == []
    Path("shop.db").unlink()
    assert run(storage, add, mode=mode) == ["create", "fill", "count"]
    assert "create runs again: shop.db is gone from " in log_lines()
    assert run(storage, add, mode=mode) == []


def test_a_step_that_failed_goes_on_with_what_it_changed(storage: Storage) -> None:
    """The states at the end of the run have what the failed attempt has left."""
    Path("fail").touch()
    assert run(storage, etl, resume=False) == ["create", "fill"]
    Path("fail").unlink()

    assert run(storage, etl) == ["fill", "count"]
    assert run(storage, etl) == []


def test_an_edit_after_a_failure_is_found(storage: Storage) -> None:
    """The run has ended in order, so nothing else may have changed the file."""
    Path("fail").touch()
    run(storage, etl, resume=False)
    Path("fail").unlink()
    edit("shop.db", "rubbish")

    assert run(storage, etl) == ["create", "fill", "count"]


def killed_after(storage: Storage, add: Add, writes: int, resume: Any = False, **options: Any) -> list[str]:
    """Runs a workflow whose process is killed before a write of its storage."""
    return run(KilledWithClear(storage, writes), add, resume=resume, **options)


def test_a_kill_while_a_file_is_filled_keeps_its_maker(storage: Storage) -> None:
    """A finished step stays finished: the step that was cut off goes on with the file as it is, and the log says so."""
    assert killed_after(storage, etl, 3) == ["create", "fill"]  # the document, create, and before fill

    assert run(storage, etl) == ["fill", "count"]
    assert "these files have changed since: shop.db" in log_lines()
    assert run(storage, etl) == []


def test_a_file_that_a_power_cut_has_truncated_is_made_again(storage: Storage) -> None:
    """Smaller means damage, even where the step after it was cut off."""
    killed_after(storage, etl, 3)
    edit("shop.db", "half")

    assert run(storage, etl) == ["create", "fill", "count"]


def test_a_kill_does_not_excuse_a_file_that_no_task_was_given(storage: Storage) -> None:
    """An edit of a file counts, if the step that was cut off has not been given it."""

    def add(flow: DotFlow) -> None:
        flow.task.add(make)
        flow.task.add(read_made)
        flow.task.add(other)

    assert killed_after(storage, add, 4) == ["make", "read", "other"]
    edit("made.txt", "made by hand")

    assert run(storage, add) == ["make", "read", "other"]
    assert run(storage, add) == []


@action
def other() -> None:
    note("other")


def test_a_state_that_was_accepted_stays_the_last_one(storage: Storage) -> None:
    """A resume that fails, and one after it, don't make the database again."""
    killed_after(storage, etl, 3)
    Path("fail").touch()
    assert run(storage, etl) == ["fill"]
    assert run(storage, etl) == ["fill"]
    Path("fail").unlink()

    assert run(storage, etl) == ["fill", "count"]
    assert run(storage, etl) == []


def test_a_checkpoint_is_newer_than_the_document_of_an_earlier_run(storage: Storage) -> None:
    """A file that is made again by a run that is then killed is the last one."""
    Path("content.txt").write_text("first")
    run(storage, made_and_read, resume=False)
    edit("made.txt", "edited")
    Path("content.txt").write_text("second")
    assert killed_after(storage, made_and_read, 4, resume=True) == ["make", "read"]

    assert run(storage, made_and_read) == ["read"]


# A temporary file


@action
def load(make: Path) -> str:
    note("load")
    if Path("fail").exists():
        raise RuntimeError("fail")
    return make.read_text()


@action
def tidy(make: Path) -> None:
    note("tidy")
    make.unlink(missing_ok=True)


def with_cleanup(flow: DotFlow) -> None:
    flow.task.add(make)
    flow.task.add(load)
    flow.task.add(tidy, always=True)


def with_deletion(flow: DotFlow) -> None:
    flow.task.add(make)
    flow.task.add(load)
    flow.task.add(tidy, needs={"make": "make"}, after="load")


@pytest.mark.parametrize("add", [with_cleanup, with_deletion])
def test_a_finished_run_stays_finished_after_its_cleanup(storage: Storage, add: Add) -> None:
    """A file that a step or a cleanup has deleted is no damage."""
    assert run(storage, add, resume=False) == ["make", "load", "tidy"]

    assert "load" not in run(storage, add)
    assert "make" not in run(storage, add)


def test_a_failed_run_makes_its_temporary_file_again(storage: Storage) -> None:
    """The cleanup has deleted what the failed task needs."""
    Path("fail").touch()
    assert run(storage, with_cleanup, resume=False) == ["make", "load", "tidy"]
    Path("fail").unlink()

    assert run(storage, with_cleanup) == ["make", "load", "tidy"]
    assert "load" not in run(storage, with_cleanup)


def test_a_kill_after_the_cleanup_keeps_the_run(storage: Storage) -> None:
    """The file is gone, no task that runs is given it, but the cleanup is."""
    assert killed_after(storage, with_cleanup, 5) == ["make", "load", "tidy"]  # before the document is closed

    assert run(storage, with_cleanup) == ["tidy"]
    assert run(storage, with_cleanup) == ["tidy"]


def test_a_kill_before_the_cleanup_hands_out_no_path_that_is_gone(storage: Storage) -> None:
    """Only a cleanup that has begun can have deleted the file, even if no task that runs is given it."""

    def add(flow: DotFlow) -> None:
        flow.task.add(make)
        flow.task.add(other)
        flow.task.add(tidy, needs={"make": "make"}, always=True)

    assert killed_after(storage, add, 3) == ["make", "other", "tidy"]  # which is past the kill, and deletes the file

    assert run(storage, add) == ["make", "other", "tidy"]
    assert "make runs again: made.txt is gone" in log_lines()


# Three tasks fill one file


@action
def first() -> Path:
    note("first")
    Path("log.csv").write_text("1\n")
    return Path("log.csv")


@action
def second(first: Path) -> Path:
    note("second")
    with first.open("a") as file:
        file.write("2\n")
    return first


@action
def third(second: Path) -> Path:
    note("third")
    with second.open("a") as file:
        file.write("3\n")
    return second


def in_turn(flow: DotFlow) -> None:
    flow.task.add(first)
    flow.task.add(second)
    flow.task.add(third)


def test_a_file_that_three_tasks_fill_in_turn_is_known_by_the_last(storage: Storage) -> None:
    """Its newest record is compared. Damage voids all three."""
    run(storage, in_turn, resume=False)
    assert run(storage, in_turn) == []
    edit("log.csv", "2\n3\n")

    assert run(storage, in_turn) == ["first", "second", "third"]
    assert Path("log.csv").read_text() == "1\n2\n3\n"
    assert run(storage, in_turn) == []


@pytest.mark.parametrize("writes", range(8))
def test_a_file_that_is_filled_in_turn_survives_kills(storage: Storage, writes: int) -> None:
    """Each step that has finished stays finished."""
    begun = killed_after(storage, in_turn, writes)
    saved = [name for name in ("first", "second", "third") if name in begun][: max(0, writes - 2)]

    again = run(storage, in_turn)

    assert not set(saved) & set(again)
    assert run(storage, in_turn) == []


# Inputs


@action
def size_of(initial_context: Context) -> int:
    note("size")
    return len(initial_context.storage.read_text())


@action
def report(previous_context: Context) -> str:
    note("report")
    return f"{previous_context.storage} characters"


def with_input(flow: DotFlow) -> None:
    flow.task.add(size_of, initial_context=Path("input.txt"))
    flow.task.add(report)


def test_a_changed_input_runs_what_is_given_it_again(storage: Storage) -> None:
    """And what needs that. The same content in another file of the same name counts."""
    edit("input.txt", "one")
    assert run(storage, with_input, resume=False) == ["size", "report"]
    Path("input.txt").touch()
    assert run(storage, with_input) == []
    edit("input.txt", "three")

    assert run(storage, with_input) == ["size", "report"]
    assert run(storage, with_input) == []


def test_an_input_that_is_gone_voids_nothing(storage: Storage) -> None:
    """Inputs are often removed when they were read. When it comes back as another one, that counts."""
    edit("input.txt", "one")
    run(storage, with_input, resume=False)
    Path("input.txt").unlink()
    assert run(storage, with_input) == []
    edit("input.txt", "one")
    assert run(storage, with_input) == []
    Path("input.txt").unlink()
    assert run(storage, with_input) == []
    edit("input.txt", "three")

    assert run(storage, with_input) == ["size", "report"]


@action
def by_param(source: Path) -> int:
    note("param")
    return len(source.read_text())


@action
def write_to(target: Path) -> int:
    note("write")
    target.write_text("result")
    return 6


def test_run_parameters_are_inputs(storage: Storage) -> None:
    """Only the tasks that take the parameter run again."""

    def add(flow: DotFlow) -> None:
        flow.task.add(by_param)
        flow.task.add(other)

    declared = {"source": Path("input.txt")}
    edit("input.txt", "one")
    assert run(storage, add, resume=False, declared=declared) == ["param", "other"]
    assert run(storage, add, declared=declared) == []
    edit("input.txt", "three")

    assert run(storage, add, declared=declared) == ["param"]
    assert run(storage, add, declared=declared) == []


def test_an_output_parameter_is_no_changed_input(storage: Storage) -> None:
    """A file that the run has written counts as long as it is the same, and is written again when it is gone."""

    def add(flow: DotFlow) -> None:
        flow.task.add(write_to)

    declared = {"target": Path("result.csv")}
    assert run(storage, add, resume=False, declared=declared) == ["write"]
    assert run(storage, add, declared=declared) == []
    edit("result.csv", "result")
    assert run(storage, add, declared=declared) == []
    edit("result.csv", "by hand")
    assert run(storage, add, declared=declared) == ["write"]
    Path("result.csv").unlink()
    assert run(storage, add, declared=declared) == ["write"]
    assert run(storage, add, declared=declared) == []


def test_an_input_that_changes_while_its_step_runs_is_the_steps_own_change(storage: Storage) -> None:
    """Nothing tells it from an output parameter."""

    def add(flow: DotFlow) -> None:
        flow.task.add(grow, initial_context=Path("input.txt"))

    edit("input.txt", "one")
    assert run(storage, add, resume=False) == ["grow"]

    assert run(storage, add) == []


@action
def grow(initial_context: Context) -> str:
    note("grow")
    text: str = initial_context.storage.read_text()
    edit(initial_context.storage, "changed by somebody else")
    return text


def test_a_state_stays_while_one_of_several_that_name_the_file_runs_again(storage: Storage) -> None:
    """The record of the file is not lost with the void one."""
    run(storage, in_turn, resume=False)

    assert run(storage, in_turn, rerun=["third"]) == ["third"]
    assert run(storage, in_turn) == []


# Each checkpoint is judged by what it took


@action
def words(file: Path) -> list[str]:
    note("words")
    return file.read_text().split()


@action
def marked(word: str, conf: Path) -> str:
    note(word)
    return word + conf.read_text()


@action
def marked_twice(word: str, other_word: str, conf: Path) -> str:
    note(word + other_word)
    return word + other_word + conf.read_text()


@action
def marked_whole(conf: Path, params: Mapping[str, Any]) -> str:
    note("whole")
    text: str = params["conf"].read_text()
    return text + conf.read_text()


@action(retry=2, retry_delay=0)
def marked_again(word: str, conf: Path) -> str:
    note(word)
    if word not in Path("tried.txt").read_text():
        Path("tried.txt").write_text(Path("tried.txt").read_text() + word)
        raise RuntimeError(word)
    return word + conf.read_text()


CONF: dict[str, Any] = {"conf": Path("conf.txt")}
WORDS: dict[str, Any] = {"file": Path("words.txt")}


def inner_marked() -> DotFlow:
    flow = DotFlow(params={"word": ..., "conf": ...})
    flow.task.add(marked, name="one")
    return flow


def over_list(flow: DotFlow) -> None:
    flow.task.add(words, params=WORDS).add(marked, name="end", each={"word": words}, params=CONF)


def over_its_own_file(flow: DotFlow) -> None:
    flow.task.add(words, params={"file": Path("conf.txt")})
    flow.task.add(marked, name="end", each={"word": words}, params=CONF)


def over_map(flow: DotFlow) -> None:
    flow.task.add(words, params=WORDS).add(marked, name="first", each={"word": words}, params=CONF)
    flow.task.add(marked, name="end", each={"word": "first"}, params=CONF)


def in_cross(flow: DotFlow) -> None:
    flow.task.add(words, params=WORDS)
    flow.task.add(marked_twice, name="end", cross={"word": words, "other_word": ["x", "y"]}, params=CONF)


def in_workflow(flow: DotFlow) -> None:
    flow.task.add(words, params=WORDS).add(inner_marked(), name="end", each={"word": words}, params=CONF)


def by_run_parameter(flow: DotFlow) -> None:
    flow.task.add(words, params=WORDS).add(marked, name="end", each={"word": words})


def from_cache(flow: DotFlow) -> None:
    step = action(cache=True)(marked.function)
    flow.task.add(words, params=WORDS).add(step, name="end", each={"word": words}, params=CONF)


def repeated(flow: DotFlow) -> None:
    flow.task.add(words, params=WORDS).add(marked_again, name="end", each={"word": words}, params=CONF)


def in_rounds(flow: DotFlow) -> None:
    inner = DotFlow(params={"text": ..., "conf": ..., "file": ...})
    inner.task.add(words).add(marked, name="one", each={"word": words})
    flow.task.add(inner, name="end", repeat=2, carry={}, params=CONF | WORDS | {"text": ""})


MADE_ANEW = [
    over_list,
    over_its_own_file,
    over_map,
    in_cross,
    in_workflow,
    by_run_parameter,
    from_cache,
    repeated,
    in_rounds,
]


def values_of(flow: DotFlow) -> list[Any]:
    return [task.value for task in flow.result_task()]


@pytest.mark.parametrize("add", MADE_ANEW)
def test_items_of_a_list_that_is_made_anew_are_judged_by_the_files_that_they_took(storage: Storage, add: Add) -> None:
    """The list and a file from outside have changed: no item keeps what it made with the file of before."""
    declared = {"conf": Path("conf.txt")} if add is by_run_parameter else None
    edit("words.txt", "a b")
    edit("conf.txt", "1 2")
    Path("tried.txt").touch()
    go(storage, add, resume=False, declared=declared)
    edit("words.txt", "a b c")
    edit("conf.txt", "2 1")

    resumed, _ = go(storage, add, declared=declared)

    fresh, _ = go(StorageDefault(), add, resume=False, declared=declared)
    assert values_of(resumed) == values_of(fresh)
    assert run(storage, add, declared=declared) == []


@pytest.mark.parametrize("is_first", [True, False])
def test_an_item_that_comes_back_is_judged_by_the_file_that_it_took(storage: Storage, is_first: bool) -> None:
    """It was away while the file was edited. Another item has taken the file as it is now."""

    def add(flow: DotFlow, entries: tuple[str, ...] = ("a", "b")) -> None:
        flow.task.add(marked, each={"word": list(entries)}, params=CONF)

    here, away = ("a", "b") if is_first else ("b", "a")
    edit("conf.txt", "1")
    assert run(storage, add, resume=False) == ["a", "b"]
    edit("conf.txt", "2")
    assert run(storage, lambda flow: add(flow, (here,))) == [here]

    assert run(storage, add) == [away]
    assert run(storage, add) == []
    edit("conf.txt", "1")
    Path("conf.txt").touch()
    assert run(storage, add) == ["a", "b"]


@pytest.mark.parametrize("how", ["removed", "skipped"])
def test_a_task_that_comes_back_is_judged_by_the_file_that_it_took(storage: Storage, how: str) -> None:
    """It was removed, or was skipped, while the file was edited."""

    def add(flow: DotFlow, *, is_there: bool = True) -> None:
        flow.task.add(marked, name="stays", params=CONF | {"word": "a"})
        if is_there or how == "skipped":
            flow.task.add(marked, name="goes", each={"word": ["b"]}, params=CONF, when="is_on")

    def options(is_on: bool) -> dict[str, Any]:
        return {"declared": {"is_on": is_on}}

    edit("conf.txt", "1")
    assert run(storage, add, resume=False, **options(True)) == ["a", "b"]
    edit("conf.txt", "2")
    assert run(storage, lambda flow: add(flow, is_there=False), **options(False)) == ["a"]

    assert run(storage, add, **options(True)) == ["b"]
    assert run(storage, add, **options(True)) == []


@action
def exists(path: Path) -> bool:
    note("exists")
    return path.exists()


@pytest.mark.parametrize("is_listed", [True, False])
def test_an_input_that_appears_is_an_input_that_changed(storage: Storage, is_listed: bool) -> None:
    """It was not there when the task took it."""

    def add(flow: DotFlow) -> None:
        if is_listed:
            flow.task.add(exists, each=[Path("new.txt")])
        else:
            flow.task.add(exists, params={"path": Path("new.txt")})

    assert run(storage, add, resume=False) == ["exists"]
    assert run(storage, add) == []
    edit("new.txt", "x")

    assert run(storage, add) == ["exists"]
    assert run(storage, add) == []


def test_an_item_whose_file_a_later_step_returns_is_judged_by_what_it_took(storage: Storage) -> None:
    """The later record of the file is no reason to keep the earlier one."""

    def add(flow: DotFlow) -> None:
        flow.task.add(exists, each=[Path("new.txt")])
        flow.task.add(action(lambda: [Path("new.txt")]), name="listed")

    edit("new.txt", "1")
    assert run(storage, add, resume=False) == ["exists"]
    edit("new.txt", "2")

    assert run(storage, add) == ["exists"]
    assert run(storage, add) == []


def test_a_step_that_left_files_out_runs_again_when_it_no_longer_does(storage: Storage) -> None:
    """Nothing shows which file it took. So it is with version=, and resume="changed"."""

    def add(flow: DotFlow, **options: Any) -> None:
        flow.task.add(action(**options)(marked.function), params=CONF | {"word": "a"})

    edit("conf.txt", "1")
    assert run(storage, lambda flow: add(flow, files=False), resume=False) == ["a"]
    edit("conf.txt", "2")
    assert run(storage, lambda flow: add(flow, files=False)) == []
    assert run(storage, add) == ["a"]
    assert run(storage, add) == []

    assert run(storage, lambda flow: add(flow, version="1"), resume=False) == ["a"]
    assert run(storage, lambda flow: add(flow, version="1"), resume="changed") == []
    assert run(storage, add, resume="changed") == ["a"]
    assert run(storage, add, resume="changed") == []


def test_a_file_that_was_edited_after_a_kill_is_named_with_its_tasks(storage: Storage) -> None:
    """One task keeps what it made before, and another one takes the file as it is: the plan and the log say so."""

    def add(flow: DotFlow) -> None:
        flow.task.add(marked, name="first", params=CONF | {"word": "a"})
        flow.task.add(other)
        flow.task.add(marked, name="later", params=CONF | {"word": "b"})

    edit("conf.txt", "1")
    killed_after(storage, add, 3)
    edit("conf.txt", "2")
    workflow = DotFlow(Config(storage=storage), workflow_id="w")
    add(workflow)

    plan = {task.name: task.reason for task in workflow.plan("sequential", resume=True).tasks}
    assert run(storage, add) == ["other", "b"]

    changed = "conf.txt has changed since the last run was cut off"
    assert plan["first"].endswith(f", {changed}")
    assert plan["later"].endswith(changed)
    assert changed not in plan["other"]
    assert "first keeps what it made with conf.txt as it was, later runs on it as it is." in log_lines()
    assert run(storage, add) == []


# Maps


@action
def split() -> list[Path]:
    note("split")
    content = Path("content.txt").read_text().split()
    paths = [Path(f"part{number}.txt") for number in range(len(content))]
    for path, text in zip(paths, content, strict=True):
        path.write_text(text)
    return paths


@action
def double(part: Path) -> str:
    note(part.stem)
    return part.read_text() * 2


@action
def compress(part: Path) -> Path:
    note(part.stem)
    target = part.with_suffix(".zip")
    target.write_text(part.read_text().upper())
    return target


@pytest.mark.exhaustive(keep_every=4)
@pytest.mark.parametrize("mode", MODES)
def test_an_item_whose_file_was_made_anew_with_other_content_runs_again(mode: str) -> None:
    """Its list is the same text, and its source ran again: one of three items runs."""
    storage = STORAGES["file"]()

    def add(flow: DotFlow) -> None:
        flow.task.add(split)
        flow.task.add(double, each="split")

    Path("content.txt").write_text("a b c")
    assert sorted(run(storage, add, resume=False, mode=mode)) == ["part0", "part1", "part2", "split"]
    assert run(storage, add, mode=mode) == []
    Path("content.txt").write_text("a B c")
    Path("part2.txt").unlink()

    workflow, names = go(storage, add, mode=mode)

    assert names == ["split", "part1"]
    assert workflow.result_storage()[1] == ["aa", "BB", "cc"]
    assert run(storage, add, mode=mode) == []


def test_a_kill_before_the_items_are_judged_does_not_restore_old_ones(storage: Storage) -> None:
    """The source ran again and was saved; then the process was killed."""

    def add(flow: DotFlow) -> None:
        flow.task.add(split)
        flow.task.add(double, each="split")

    Path("content.txt").write_text("a b c")
    run(storage, add, resume=False)
    Path("content.txt").write_text("a B c")
    Path("part2.txt").unlink()
    # The void checkpoint is deleted, the document is opened, and the source is saved.
    assert killed_after(storage, add, 3, resume=True) == ["split"]

    workflow, names = go(storage, add)

    assert names == ["part1"]
    assert workflow.result_storage()[1] == ["aa", "BB", "cc"]


def test_the_file_of_one_item_runs_one_item(storage: Storage) -> None:
    """And the tasks that take the whole list."""

    def add(flow: DotFlow) -> None:
        flow.task.add(split)
        flow.task.add(compress, each="split")
        flow.task.add(joined)

    Path("content.txt").write_text("a b c")
    run(storage, add, resume=False)
    Path("part1.zip").unlink()

    assert run(storage, add) == ["part1", "joined"]
    assert run(storage, add) == []


@action
def joined(compress: list[Path]) -> str:
    note("joined")
    return "".join(path.read_text() for path in compress)


def test_written_down_items_are_inputs(storage: Storage) -> None:
    """Of a list of paths only the item of the changed file runs."""

    def add(flow: DotFlow) -> None:
        flow.task.add(double, each=[Path("x.txt"), Path("y.txt")])

    edit("x.txt", "x")
    edit("y.txt", "y")
    assert run(storage, add, resume=False) == ["x", "y"]
    edit("y.txt", "yy")

    assert run(storage, add) == ["y"]
    assert run(storage, add) == []


def test_items_beside_a_shared_file_all_run_again(storage: Storage) -> None:
    """A file that all items are given counts for each of them."""

    def add(flow: DotFlow) -> None:
        flow.task.add(with_config, each=[1, 2])

    edit("config.txt", "one")
    declared = {"config": Path("config.txt")}
    run(storage, add, resume=False, declared=declared)
    edit("config.txt", "two")

    assert run(storage, add, declared=declared) == ["item1", "item2"]
    assert run(storage, add, declared=declared) == []


@action
def with_config(number: int, config: Path) -> str:
    note(f"item{number}")
    return config.read_text() * number


def test_an_item_that_fills_its_file_in_place(storage: Storage) -> None:
    """It is the run's own work; made anew, the file is filled anew."""

    def add(flow: DotFlow) -> None:
        flow.task.add(split)
        flow.task.add(append, each="split")

    Path("content.txt").write_text("a b")
    run(storage, add, resume=False)
    assert run(storage, add) == []
    Path("part0.txt").unlink()

    assert sorted(run(storage, add)) == ["part0", "part1", "split"]
    assert Path("part1.txt").read_text() == "b!"
    assert run(storage, add) == []


@action
def append(part: Path) -> int:
    note(part.stem)
    part.write_text(part.read_text() + "!")
    if Path("fail").exists():
        raise RuntimeError("fail")
    return 1


def test_what_a_failed_item_has_changed_is_the_runs_own_work(storage: Storage) -> None:
    """The files of failed attempts of items are known, too: the list is not made again."""

    def add(flow: DotFlow) -> None:
        flow.task.add(split)
        flow.task.add(append, each="split")

    Path("content.txt").write_text("a b")
    Path("fail").touch()
    assert run(storage, add, resume=False) == ["split", "part0"]
    Path("fail").unlink()

    assert run(storage, add) == ["part0", "part1"]
    assert run(storage, add) == []


def test_files_of_items_are_judged_when_their_list_is_known_late(storage: Storage) -> None:
    """The first task has no path, and runs again; then each item's own file is looked at."""

    def add(flow: DotFlow) -> None:
        flow.task.add(names)
        flow.task.add(write_named, each="names")
        flow.task.add(joined_named)

    run(storage, add, resume=False)
    Path("b.txt").unlink()

    assert run(storage, add, rerun=["names"]) == ["names", "b", "joined"]
    Path("a.txt").touch()
    assert run(storage, add, rerun=["names"]) == ["names"]
    assert run(storage, add) == []


@action
def names() -> list[str]:
    note("names")
    return ["a", "b"]


@action
def write_named(name: str) -> Path:
    note(name)
    Path(f"{name}.txt").write_text(name)
    return Path(f"{name}.txt")


@action
def joined_named(write_named: list[Path]) -> str:
    note("joined")
    return "".join(path.read_text() for path in write_named)


def test_a_step_that_hands_a_file_on_does_not_make_it(storage: Storage) -> None:
    """Items took the file before another task filled it, and a third one returned it: a finished run stays finished."""

    def add(flow: DotFlow) -> None:
        flow.task.add(split)
        flow.task.add(double, each="split")
        flow.task.add(fill_all, needs={"paths": "split"}, after="double")
        flow.task.add(hand_on, needs={"paths": "split"}, after="fill_all")

    Path("content.txt").write_text("a b")
    run(storage, add, resume=False)

    assert run(storage, add) == []


@action
def fill_all(paths: list[Path]) -> None:
    note("fill")
    for path in paths:
        path.write_text(path.read_text() + "!")


@action
def hand_on(paths: list[Path]) -> list[Path]:
    note("hand")
    return paths


def test_what_a_failed_attempt_has_changed_is_in_the_record_of_the_next(storage: Storage) -> None:
    """Also where the process is killed before the end of the run, when nothing else shows it."""

    def add(flow: DotFlow) -> None:
        flow.task.add(split)
        flow.task.add(fill_once)

    Path("content.txt").write_text("a")
    assert killed_after(storage, add, 4) == ["split", "fill", "fill"]

    assert run(storage, add) == []


@action(retry=2, retry_delay=0)
def fill_once(split: list[Path]) -> int:
    note("fill")
    if "!" not in split[0].read_text():
        split[0].write_text("a!")
        raise RuntimeError("after the change")
    return 1


# Resume in other words


def test_unfinished_looks_at_files_only_where_a_checkpoint_is_missing(storage: Storage) -> None:
    """A report that was moved away does not start yesterday's run again."""
    run(storage, made_and_read, resume=False)
    Path("made.txt").unlink()

    assert run(storage, made_and_read, resume="unfinished") == ["make", "read"]  # a new run, since all had finished
    Path("fail").touch()
    assert run(storage, with_cleanup, resume=False) == ["make", "load", "tidy"]
    Path("fail").unlink()
    assert run(storage, with_cleanup, resume="unfinished") == ["make", "load", "tidy"]


def test_rerun_and_changed_add_their_reasons(storage: Storage) -> None:
    """A file that its maker writes anew is the same file for those that are restored, if they don't take it."""
    run(storage, etl, resume=False)

    assert run(storage, etl, rerun=["create"]) == ["create", "fill", "count"]
    assert run(storage, etl, resume="changed") == []


def test_a_run_that_was_moved_with_its_files_counts(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path leads from the folder of now. From a foreign folder the file is gone."""
    run(storage, made_and_read, resume=False)
    shutil.copytree(".", "../moved", symlinks=True)
    monkeypatch.chdir("../moved")

    assert run(StorageFile(Path("kept").absolute()), made_and_read) == []
    Path("empty").mkdir()
    monkeypatch.chdir("empty")
    assert run(StorageFile(Path("../kept").resolve()), made_and_read) == ["make", "read"]
    assert f"made.txt is gone from {Path.cwd()}" in log_lines()


def test_a_nested_workflow_has_files_of_its_own(storage: Storage) -> None:
    """A workflow that is added is part of the run; one that a step starts has a document of its own."""

    def add(flow: DotFlow) -> None:
        inner = DotFlow(Config(storage=storage))
        inner.task.add(make)
        flow.task.add(inner.task, name="inner")
        flow.task.add(read)

    assert run(storage, add, resume=False) == ["make", "read"]
    Path("made.txt").unlink()

    assert run(storage, add) == ["make", "read"]
    assert run(storage, add) == []


def test_a_run_inside_of_a_step_keeps_its_own_record(storage: Storage) -> None:
    """The step that returns its path has it in its record, too."""

    def add(flow: DotFlow) -> None:
        flow.task.add(outer)

    assert run(storage, add, resume=False) == ["outer", "make"]
    Path("made.txt").unlink()

    assert run(storage, add) == ["outer", "make"]
    assert run(storage, add) == []


@action
def outer() -> Any:
    note("outer")
    inner = DotFlow(
        Config(storage=StorageFile(Path("inner").absolute()), log=LogDefault(output="none")), workflow_id="i"
    )
    inner.task.add(make)
    return inner.start(resume=True).tasks[0].value


# The document


class Watching(StorageFile):
    """Notes the writes of the document."""

    def __init__(self) -> None:
        super().__init__(Path("kept").absolute())
        self.written: list[tuple[str, Any]] = []

    def post(self, key: str, context: Context) -> None:
        is_document = key.endswith("@origin")
        self.written.append((key, context.storage["files"]["open"] if is_document else None))
        super().post(key, context)


def test_a_run_with_files_writes_its_document_twice() -> None:
    """Before the first checkpoint that names a file, and at its end; a run without files, and a resume that runs
    nothing, never."""
    storage = Watching()
    run(storage, made_and_read, resume=False)
    assert storage.written == [("w/@origin", True), ("w/0", None), ("w/1", None), ("w/@origin", False)]
    storage.written.clear()
    run(storage, made_and_read)
    assert storage.written == []
    run(storage, lambda flow: flow.task.add(other), resume=False)
    assert storage.written == [("w/0", None)]

    def mapped(flow: DotFlow) -> None:
        flow.task.add(write_named, each=["a", "b"])

    run(storage, mapped, resume=False)
    storage.written.clear()
    run(storage, mapped)
    assert storage.written == []


@action
def list_numbers() -> list[int]:
    return [1, 2]


@action
def count_them(list_numbers: list[int]) -> dict[str, int]:
    return {"count": len(list_numbers)}


def test_a_run_without_paths_passes_through_no_code_of_files() -> None:
    """Its values are looked at where they are returned; nothing is made and nothing is asked for files.

    What would end a reading is set once a run.
    """
    workflow = DotFlow(Config(log=LogDefault(output="none")))
    workflow.task.add([list_numbers, count_them])
    called: set[str] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.endswith(("worker/files.py", "resume/files.py")):
            called.add(frame.f_code.co_qualname)

    sys.setprofile(note)
    try:
        run = workflow.start()
    finally:
        sys.setprofile(None)

    assert run.value(count_them) == {"count": 2}
    assert called == {"reading_until"}


def test_the_document_is_open_from_the_start_where_there_are_inputs() -> None:
    """Their states are those before the first attempt."""
    storage = Watching()
    edit("input.txt", "one")
    run(storage, with_input, resume=False)

    assert storage.written[0] == ("w/@origin", True)


def test_a_plan_writes_nothing_and_reads_little(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads the content of files whose size is the same and whose times are others, up to digest_limit."""
    names = ("same", "touched", "longer", "gone", "large")

    @action
    def make_all() -> list[Path]:
        for name in names:
            Path(name).write_text("x" * (100 if name == "large" else 10))
        return [Path(name) for name in names]

    def build() -> DotFlow:
        config = Config(storage=storage, log=LogDefault(output="none"), digest_limit=50)
        workflow = DotFlow(config, workflow_id="w", params={"source": Path("in.txt")})
        workflow.task.add(make_all)
        workflow.task.add(read_source)
        return workflow

    def tree() -> dict[Path, tuple[int, int]]:
        return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in Path().rglob("*")}

    Path("in.txt").write_text("given")
    build().start()
    for name in ("touched", "large", "in.txt"):
        os.utime(name, ns=(10**18, 10**18))
    edit("longer", "x" * 11)
    Path("gone").unlink()
    before, contents, read_now = tree(), worker_files._digest_of, list[str]()
    monkeypatch.setattr(
        worker_files, "_digest_of", lambda path, found: (read_now.append(Path(path).name), contents(path, found))[1]
    )

    plan = build().plan(resume=True)

    assert [task.decision for task in plan.tasks] == ["run", "restore"]
    assert sorted(read_now) == ["in.txt", "touched"]
    assert tree() == before


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize("is_cut", [True, False])
def test_a_damaged_document_stops_a_resume(storage: Storage, is_cut: bool) -> None:
    """The error says what it is and what its deletion does, and nothing is changed."""
    run(storage, etl, resume=False)
    (document,) = Path("kept/w.checkpoints").glob("origin~*")
    if is_cut:
        cut(document)
    else:
        storage.post("w/@origin", Context({"files": {"open": True, "inputs": {"shop.db": [1, 2, 3]}}}, -1, "w"))
    before = document.read_bytes()

    with pytest.raises(CheckpointUnreadable, match=r"^The journal of earlier runs in .*origin") as caught:
        run(storage, etl)

    assert "Repair it, or delete it: a resume then knows files from the checkpoints alone" in str(caught.value)
    assert document.read_bytes() == before
    document.unlink()
    assert run(storage, etl) == []


def test_the_document_is_no_removed_task(storage: Storage) -> None:
    """`plan` lists tasks that are no longer there, and nothing else."""
    run(storage, made_and_read, resume=False)
    workflow = DotFlow(Config(storage=storage), workflow_id="w")
    made_and_read(workflow)

    assert workflow.plan(resume=True).removed == []


def test_a_new_run_drops_the_document(storage: Storage) -> None:
    """Without resume nothing is judged, and the states of earlier runs are gone."""
    for kind in ("file", "three methods"):
        kept = STORAGES[kind]()
        run(kept, etl, resume=False)
        edit("shop.db", "rubbish")
        assert run(kept, etl, resume=False) == ["create", "fill", "count"]
        assert run(kept, etl) == []


def test_a_newer_run_keeps_its_document(storage: Storage) -> None:
    """A run that a newer one has voided writes no document."""

    def add(flow: DotFlow) -> None:
        flow.task.add(make)
        flow.task.add(start_anew, needs=["make"])

    @action
    def start_anew() -> None:
        note("anew")
        if not Path("nested").exists():
            Path("nested").touch()
            workflow = DotFlow(Config(storage=storage, log=LogDefault(output="none")), workflow_id="w")
            made_and_read(workflow)
            workflow.start()

    run(storage, add, resume=False)

    assert run(storage, made_and_read) == []


def test_a_values_only_storage_keeps_no_states_and_says_so() -> None:
    """Nothing is judged, and the log says it once for a task."""

    class Values(Storage):
        def __init__(self) -> None:
            self.kept: dict[str, Any] = {}

        def post(self, key: str, context: Context) -> None:
            self.kept[key] = context.storage

        def get(self, key: str) -> Context:
            return Context(self.kept.get(key))

        def key(self, task: Any) -> str:
            return f"{task.workflow_id}-{task.key_name}"

    storage = Values()
    run(storage, made_and_read, resume=False)
    Path("made.txt").unlink()

    assert run(storage, made_and_read) == []
    assert log_lines().count("its checkpoint does not record the states of its files") == 1


# Commands that leave a file open


def test_a_connection_that_nobody_closes_does_not_void_its_database(storage: Storage) -> None:
    """SQLite writes the file once more when the process ends. Gone and smaller are found all the same."""

    def add(flow: DotFlow) -> None:
        flow.task.add(open_database)
        flow.task.add(other)

    run(storage, add, resume=False)
    assert Path("shop.db-wal").exists()
    connections.pop().close()
    assert not Path("shop.db-wal").exists()

    assert run(storage, add) == []
    Path("shop.db").unlink()
    assert run(storage, add) == ["open"]
    connections.pop().close()


connections: list[sqlite3.Connection] = []


@action
def open_database() -> Path:
    note("open")
    connection = sqlite3.connect("shop.db")
    connection.execute("pragma journal_mode=wal")
    with connection:
        connection.execute("create table orders (n int)")
    connections.append(connection)
    return Path("shop.db")


# The cache


@action(cache=True)
def cached(source: Path) -> str:
    note("cached")
    return source.read_text()


@action(cache=True)
def cached_file(source: Path) -> Path:
    note("cached")
    Path("out.txt").write_text(source.read_text())
    return Path("out.txt")


def with_cached(step: Any) -> Add:
    return lambda flow: flow.task.add(step)


INPUT = {"source": Path("input.txt")}


def test_the_content_of_a_file_is_part_of_a_cached_steps_arguments(storage: Storage) -> None:
    """Another content is another value; the same one in a file that was touched is the same."""
    edit("input.txt", "old")
    assert run(storage, with_cached(cached), resume=False, declared=INPUT) == ["cached"]
    edit("input.txt", "old")
    assert run(storage, with_cached(cached), resume=False, declared=INPUT) == []
    edit("input.txt", "NEW")

    workflow, names = go(storage, with_cached(cached), resume=False, declared=INPUT)

    assert (names, workflow.result_storage()) == (["cached"], ["NEW"])


def test_a_folder_is_known_by_what_is_in_it(storage: Storage) -> None:
    """Names, sizes and times of its files."""

    def add(flow: DotFlow) -> None:
        flow.task.add(cached_folder)

    Path("folder/inner").mkdir(parents=True)
    edit("folder/inner/a.txt", "a")
    declared = {"folder": Path("folder")}
    assert run(storage, add, resume=False, declared=declared) == ["cached"]
    assert run(storage, add, resume=False, declared=declared) == []
    edit("folder/inner/a.txt", "b")
    assert run(storage, add, resume=False, declared=declared) == ["cached"]
    edit("folder/b.txt", "b")
    assert run(storage, add, resume=False, declared=declared) == ["cached"]


def test_a_folder_is_known_by_the_folders_and_links_in_it(storage: Storage) -> None:
    """By their names, and by the files behind a link; a folder that leads back to itself is read once."""

    def add(flow: DotFlow) -> None:
        flow.task.add(cached_folder)

    def is_made() -> bool:
        return run(storage, add, resume=False, declared={"folder": Path("folder")}) == ["cached"]

    Path("folder").mkdir()
    Path("beside").mkdir()
    assert is_made()
    Path("folder/empty").mkdir()
    assert is_made()
    Path("folder/link").symlink_to(Path("beside").absolute())
    assert is_made()
    edit("beside/a.txt", "a")
    assert is_made()
    Path("folder/back").symlink_to(Path("folder").absolute())
    assert is_made()
    assert not is_made()
    Path("folder/empty").rmdir()
    assert is_made()


@pytest.mark.parametrize(("returned", "is_cached"), [("folder/inner/a.txt", True), ("folder", False)])
def test_a_folder_that_a_step_makes_in_its_argument_is_a_change_of_that(
    storage: Storage, returned: str, is_cached: bool
) -> None:
    """A hit would leave it out, unless the step returns a file in it."""

    @action(cache=True)
    def make(folder: Path) -> Path:
        (folder / "inner").mkdir()
        if is_cached:
            edit(returned, "a")
        return Path(returned)

    Path("folder").mkdir()
    run(storage, lambda flow: flow.task.add(make), resume=False, declared={"folder": Path("folder")})

    assert (
        "inner, which it was given, changed while it ran, and it does not return it" not in Path("log.txt").read_text()
    ) is is_cached


@action(cache=True)
def cached_folder(folder: Path) -> list[str]:
    note("cached")
    return sorted(path.name for path in folder.rglob("*.txt"))


def test_a_cached_folder_that_is_gone_is_made_again(storage: Storage) -> None:
    """As a file."""

    def add(flow: DotFlow) -> None:
        flow.task.add(action(make_folder.function, cache=True))

    assert run(storage, add, resume=False) == ["fold"]
    assert run(storage, add, resume=False) == []
    Path("out").rmdir()
    assert run(storage, add, resume=False) == ["fold"]


@action
def make_folder() -> Path:
    note("fold")
    Path("out").mkdir(exist_ok=True)
    return Path("out")


def test_a_folder_counts_while_it_is_there(storage: Storage) -> None:
    """Whatever is in it."""

    def add(flow: DotFlow) -> None:
        flow.task.add(make_folder)

    assert run(storage, add) == ["fold"]
    Path("out/more.txt").touch()
    assert run(storage, add) == []
    Path("out/more.txt").unlink()
    Path("out").rmdir()
    assert run(storage, add) == ["fold"]
    assert run(storage, add) == []


@action(checkpoint=False)
def found_csvs() -> list[Path]:
    return sorted(Path().glob("*.csv"))


@action(retry=2)
def read_csv(path: Path) -> str:
    note(path.stem)
    if not Path("failed").exists():
        Path("failed").touch()
        raise ConnectionError
    return path.read_text()


def test_an_item_that_was_repeated_is_restored(storage: Storage) -> None:
    """Its file is found anew in each run, and is the same: a failed attempt has not changed it."""

    def add(flow: DotFlow) -> None:
        flow.task.add(found_csvs).add(read_csv, each=found_csvs)

    Path("a.csv").write_text("a")
    assert run(storage, add) == ["a", "a"]
    Path("b.csv").write_text("b")
    assert run(storage, add) == ["b"]
    assert run(storage, add) == []


@action
def leave() -> None:
    note("leave")
    Path("elsewhere").mkdir(exist_ok=True)
    os.chdir("elsewhere")


@action
def use(make: Path) -> str:
    note("use")
    return make.read_text()


def test_a_step_that_leaves_the_folder_makes_no_file_gone(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of the run its names mean what they meant before."""
    here = Path.cwd()

    def add(flow: DotFlow) -> None:
        flow.task.add(make).add(use).add(leave)

    monkeypatch.setattr(sys.modules[__name__], "RAN", here / RAN)
    go(storage, add)
    os.chdir(here)
    assert run(storage, add) == []
    os.chdir(here)


class NoHash(type):
    """A metaclass that compares classes, and so has no hash."""

    def __eq__(cls, other: object) -> bool:
        return cls is other

    __hash__ = None  # type: ignore[assignment]


class Compared(metaclass=NoHash):
    pass


@action
def compared() -> list[Any]:
    return [1, Compared()]


def test_a_class_without_a_hash_has_no_paths() -> None:
    """Its instances are values as any others."""
    workflow = DotFlow(Config(log=LogDefault(output="none")))
    workflow.task.add(compared)

    assert workflow.start().status is TypeStatus.COMPLETED


@action(cache=True)
def count_rows(path: Path) -> int:
    note("count")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT COUNT(*) FROM t").fetchone()[0])


def test_a_database_that_is_open_is_no_argument_of_a_cached_step(storage: Storage) -> None:
    """What was written last is in another file."""
    with contextlib.closing(sqlite3.connect("rows.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (n)")

        def add(flow: DotFlow) -> None:
            flow.task.add(count_rows)

        declared = {"path": Path("rows.db")}
        assert run(storage, add, resume=False, declared=declared) == ["count"]
        connection.execute("INSERT INTO t VALUES (1)")
        workflow, names = go(storage, add, resume=False, declared=declared)

    assert ([*names], workflow.result_storage()) == (["count"], [1])
    assert "is not cached: rows.db is a database that is open: 'rows.db-wal' lies beside it." in log_lines()


def test_a_folder_of_too_many_files_is_not_cached(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log says so once."""
    monkeypatch.setattr("dotflow.calls.cached.MAX_ENTRIES", 1)
    Path("folder").mkdir()
    edit("folder/a.txt", "a")
    edit("folder/b.txt", "b")

    def add(flow: DotFlow) -> None:
        flow.task.add(cached_folder)

    for _ in range(2):
        assert run(storage, add, resume=False, declared={"folder": Path("folder")}) == ["cached"]
    assert "is not cached: folder has more than 1 files." in log_lines()


@pytest.mark.parametrize("name", STORAGES)
def test_a_cached_file_counts_while_it_is_the_same(name: str) -> None:
    """Deleted, or overwritten by another run, it is made again; what was restored from the cache has its record."""
    storage = STORAGES[name]()
    edit("input.txt", "old")
    assert run(storage, with_cached(cached_file), resume=False, declared=INPUT) == ["cached"]
    assert run(storage, with_cached(cached_file), resume=False, declared=INPUT) == []
    edit("out.txt", "by another run")
    assert run(storage, with_cached(cached_file), resume=False, declared=INPUT) == ["cached"]
    assert Path("out.txt").read_text() == "old"
    assert run(storage, with_cached(cached_file), resume=False, declared=INPUT) == []
    Path("out.txt").unlink()
    assert run(storage, with_cached(cached_file), declared=INPUT) == ["cached"]


@action(cache=True)
def changes(source: Path) -> int:
    note("cached")
    source.write_text(source.read_text() + "!")
    return 1


def test_a_step_that_changes_a_file_that_it_was_given_is_not_cached(storage: Storage) -> None:
    """A hit would leave the change out. The log says so once."""
    edit("input.txt", "old")
    for _ in range(3):
        assert run(storage, with_cached(changes), resume=False, declared=INPUT) == ["cached"]
        edit("input.txt", "old")
    line = (
        "Task 0 changes is not cached: input.txt, which it was given, changed while it ran, and it does not return it."
    )
    assert line in log_lines()


@action(cache=True)
def fills(folder: Path) -> int:
    note("cached")
    (folder / "new.txt").write_text("new")
    return 1


@action(cache=True)
def fills_and_returns(folder: Path) -> Path:
    note("cached")
    (folder / "new.txt").write_text("new")
    return folder / "new.txt"


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_a_step_that_changes_a_folder_that_it_was_given_is_not_cached(storage: Storage, mode: str) -> None:
    """A hit would leave the change out; the log says so once for a run."""
    Path("folder").mkdir()
    edit("folder/old.txt", "old")
    declared = {"folder": Path("folder")}

    for _ in range(2):
        assert run(storage, with_cached(fills), resume=False, mode=mode, declared=declared) == ["cached"]
        Path("folder/new.txt").unlink()

    line = "is not cached: folder/new.txt, which it was given, changed while it ran, and it does not return it."
    assert log_lines().count(line) == 2


def test_a_step_that_returns_what_it_writes_into_a_given_folder_is_cached(storage: Storage) -> None:
    """A hit counts only while the file is there."""
    Path("folder").mkdir()
    declared = {"folder": Path("folder")}

    assert run(storage, with_cached(fills_and_returns), resume=False, declared=declared) == ["cached"]
    assert "is not cached" not in log_lines()
    Path("folder/new.txt").unlink()
    assert run(storage, with_cached(fills_and_returns), resume=False, declared=declared) == ["cached"]


@action(cache=True)
def part(name: str, out: Path) -> Path:
    note(name)
    out.mkdir(exist_ok=True)
    (out / f"{name}.txt").write_text(name)
    return out / f"{name}.txt"


def parts_in_one_folder(flow: DotFlow) -> None:
    """Tasks and items that write into the same folder."""
    flow.task.add(part, name="one", params={"name": "a"}).add(part, name="two", params={"name": "b"})
    flow.task.add(part, name="many", each={"name": ["c", "d"]})


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
@pytest.mark.parametrize("is_there", [True, False])
def test_a_folder_into_which_cached_steps_write_is_found_as_the_run_leaves_it(
    storage: Storage, mode: str, is_there: bool
) -> None:
    """No step blames another one for its file. A file that no step has made, and one that is gone, still count."""
    if is_there:
        Path("out").mkdir()
    declared = {"out": Path("out")}

    def made() -> list[str]:
        return sorted(run(storage, parts_in_one_folder, resume=False, mode=mode, declared=declared))

    assert made() == ["a", "b", "c", "d"]
    assert made() == []
    assert "is not cached" not in log_lines()
    edit("out/more.txt", "x")
    assert made() == ["a", "b", "c", "d"]
    assert made() == []
    Path("out/b.txt").unlink()
    assert "b" in made()


def test_a_file_that_a_cached_step_makes_at_a_given_path_is_found_as_it_is(storage: Storage) -> None:
    """From the second run on; edited, it is made again."""

    @action(cache=True)
    def write(out: Path) -> Path:
        note("write")
        out.write_text("text")
        return out.absolute()

    def made() -> list[str]:
        return run(storage, lambda flow: flow.task.add(write), resume=False, declared={"out": Path("out.txt")})

    assert made() == ["write"]
    assert made() == []
    edit("out.txt", "other")
    assert made() == ["write"]
    assert made() == []


def test_a_step_that_only_reads_a_folder_runs_again_after_others_have_filled_it(storage: Storage) -> None:
    """What it returned is not what it would return now, though only steps have changed the folder."""

    @action
    def fill(folder: Path) -> Path:
        (folder / "new.txt").write_text("new")
        return folder / "new.txt"

    def add(flow: DotFlow) -> None:
        flow.task.add(cached_folder).add(fill)

    Path("folder").mkdir()
    declared = {"folder": Path("folder")}
    go(storage, add, resume=False, declared=declared)
    workflow, names = go(storage, add, resume=False, declared=declared)

    assert (names, workflow.result_storage()[0]) == (["cached"], ["new.txt"])


def test_a_cached_path_is_a_text_with_files_false(storage: Storage) -> None:
    """@action(files=False) takes a path for its text in the cache, too."""

    def add(flow: DotFlow) -> None:
        flow.task.add(cached_text)

    edit("input.txt", "old")
    assert run(storage, add, resume=False, declared=INPUT) == ["cached"]
    edit("input.txt", "NEW")
    assert run(storage, add, resume=False, declared=INPUT) == []


@action(cache=True, files=False)
def cached_text(source: Path) -> str:
    note("cached")
    return source.name


# A build


@action
def compiled(source: Path) -> Path:
    note(source.stem)
    target = Path(f"{source.stem}.o")
    target.write_text(source.read_text().upper())
    return target


@action
def linked(compiled: list[Path]) -> Path:
    note("link")
    Path("program").write_text("".join(path.read_text() for path in compiled))
    return Path("program")


def test_a_build_makes_what_is_missing_or_old(storage: Storage) -> None:
    """An object that is gone is made again, and so is that of an edited source; nothing else but the program."""

    def add(flow: DotFlow) -> None:
        flow.task.add(compiled, each=[Path("lib.c"), Path("main.c")])
        flow.task.add(linked)

    edit("lib.c", "lib")
    edit("main.c", "main")
    assert run(storage, add, resume=False, mode="parallel") in (["lib", "main", "link"], ["main", "lib", "link"])
    Path("lib.o").unlink()
    assert run(storage, add) == ["lib", "link"]
    edit("main.c", "other")
    assert run(storage, add) == ["main", "link"]
    Path("program").unlink()
    assert run(storage, add) == ["link"]
    assert run(storage, add) == []
    assert Path("program").read_text() == "LIBOTHER"


# At random


#: Scenarios of the fuzz of inputs that were stale when states belonged to runs, and not to checkpoints.
ONCE_STALE = ["--seed", "10", "--seed", "23", "--seed", "25", "--seed", "39"]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("chosen", [ONCE_STALE, pytest.param(["--scenarios", "2000"], marks=pytest.mark.exhaustive)])
def test_random_inputs(chosen: list[str]) -> None:
    """Whatever comes from outside, goes and returns: nothing is stale, a second resume runs nothing, and plans are what
    the runs do."""
    result = subprocess.run([sys.executable, inputs_fuzz.__file__, *chosen], capture_output=True, text=True)

    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.exhaustive
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("scenarios", [4, pytest.param(1000, marks=pytest.mark.exhaustive)])
def test_random_edits(scenarios: int) -> None:
    """Whatever is edited between kills, failures and resumes: nothing is stale, a second resume runs nothing, and plans
    are what the runs do."""
    program = [sys.executable, files_fuzz.__file__, "--scenarios", str(scenarios), "--first", str(scenarios)]
    result = subprocess.run(program, capture_output=True, text=True)

    assert (result.returncode, result.stderr) == (0, ""), result.stdout


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    for connection in connections:
        connection.close()
    connections.clear()
