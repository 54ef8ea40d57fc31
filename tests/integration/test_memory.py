"""@action(memory=...): an attempt that uses more is killed, with all that it has started."""

import gc
import mmap
import os
import subprocess
import sys
import threading
import time
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import psutil
import pytest

from dotflow import Config, DotFlow, action
from dotflow.errors import InvalidPolicy, MemoryExceeded
from dotflow.providers import ExecutorProcess, HistorySQLite

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux alone"),
]

MB = 1_000_000
#: Uses 300 MB and stays, in a program of its own.
EATER = f"import time\nkept = bytearray(b'x') * {300 * MB}\ntime.sleep(60)"


def eat_list() -> None:
    kept = []
    while True:
        kept.append([0] * 1000)


def eat_bytes() -> None:
    kept = bytearray(b"x") * (300 * MB)
    time.sleep(60)
    del kept


def eat_shared() -> None:
    """Pages that belong to no process alone."""
    shared = SharedMemory(create=True, size=300 * MB)
    try:
        shared.unlink()  # it ends with this process
        for place in range(0, 300 * MB, mmap.PAGESIZE):
            shared.buf[place] = 1
        time.sleep(60)
    finally:
        shared.close()


def eat_in_grandchild() -> None:
    subprocess.run([sys.executable, "-c", f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {EATER!r}])"])


def eat_in_thread() -> None:
    """A thread's child is not among those of the main thread."""
    thread = threading.Thread(target=subprocess.run, args=([sys.executable, "-c", EATER],))
    thread.start()
    thread.join()


@pytest.mark.parametrize("eat", [eat_list, eat_bytes, eat_shared, eat_in_grandchild, eat_in_thread])
def test_what_counts(eat: object) -> None:
    """Whatever holds the memory, the attempt is ended, and says how much it was."""
    workflow = DotFlow()
    workflow.task.add(action(memory="60 MB")(eat))  # type: ignore[call-overload]

    (error,) = workflow.start().tasks[0].errors

    assert error.exception == "MemoryExceeded"
    assert error.message.startswith(f"Step '{eat.__name__}' has used ")  # type: ignore[attr-defined]
    assert error.message.endswith(", and memory= allows 60 MB.")
    assert ("of it in 2 child processes" if eat is eat_in_grandchild else "of memory") in error.message


def test_a_daemon_is_found_and_ended(tmp_path: Path) -> None:
    """A process whose parents have ended, in a session of its own, stays the attempt's."""
    pid_file = tmp_path / "pid"
    starts = (
        f"import os\nif os.fork(): os._exit(0)\nos.setsid()\nif os.fork(): os._exit(0)\n"
        f"open({str(pid_file)!r}, 'w').write(str(os.getpid()))\n{EATER}"
    )

    @action(memory="60 MB")
    def step() -> None:
        subprocess.run([sys.executable, "-c", starts], check=True)
        time.sleep(60)

    workflow = DotFlow()
    workflow.task.add(step)

    (error,) = workflow.start().tasks[0].errors

    assert error.exception == "MemoryExceeded"
    assert "of it in 1 child process" in error.message
    daemon = int(pid_file.read_text())
    until = time.monotonic() + 30
    while psutil.pid_exists(daemon) and psutil.Process(daemon).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_pages_of_files_are_free(tmp_path: Path) -> None:
    """The system takes them back when it needs them."""
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(200 * MB)

    @action(memory="40 MB")
    def step() -> int:
        with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
            for place in range(0, 200 * MB, mmap.PAGESIZE):
                mapped[place] = 1
            time.sleep(0.3)
            return psutil.Process().memory_info().rss

    workflow = DotFlow()
    workflow.task.add(step)
    run = workflow.start()

    assert run.value("step") > 200 * MB


def test_what_children_share_counts_once() -> None:
    """Eight forked children show the same pages."""

    @action(memory="150 MB")
    def step() -> str:
        kept = bytearray(b"x") * (60 * MB)
        pids = []
        for _ in range(8):
            pid = os.fork()
            if not pid:
                time.sleep(0.7)
                os._exit(kept[5] != ord("x"))
            pids.append(pid)
        codes = {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids}
        return str(codes)

    workflow = DotFlow()
    workflow.task.add(step)
    run = workflow.start()

    assert run.value("step") == "{0}"


def test_what_a_fork_inherits_is_free() -> None:
    """Also when the attempt writes to it, which makes the pages its own."""
    inherited = bytearray(b"x") * (150 * MB)

    @action(memory="60 MB")
    def step() -> int:
        for place in range(0, len(inherited), mmap.PAGESIZE):
            inherited[place] = 1
        if not (pid := os.fork()):
            time.sleep(0.7)
            os._exit(0)
        os.waitpid(pid, 0)
        return sum(inherited[:: mmap.PAGESIZE])

    workflow = DotFlow(Config(executor=ExecutorProcess(start_method="fork")))
    workflow.task.add(step)
    run = workflow.start(mode="parallel")

    assert run.value("step") == len(range(0, 150 * MB, mmap.PAGESIZE))


def test_one_item_fails_and_the_others_complete(tmp_path: Path) -> None:
    """It is retried as after any failure, by the error's own class or by MemoryError, and the history has it."""

    @action(memory="60 MB", retry=2, retry_delay=0, retry_on=MemoryError)
    def step(size: int) -> int:
        return len(bytearray(b"x") * size * MB)

    history = HistorySQLite(tmp_path / "history.db")
    workflow = DotFlow(Config(history=history))
    workflow.task.add(step, each={"size": [1, 300, 2]}, keep_going=True)
    run = workflow.start(mode="parallel")

    first, large, last = run.task("step").items
    assert [first.value, last.value] == [MB, 2 * MB]
    assert [error.exception for error in large.errors] == ["MemoryExceeded"] * 2
    assert history.load(run.run_id).steps[0].policy["memory"] == 60 * MB


def test_nothing_is_left_behind() -> None:
    """Neither the thread that watches nor a descriptor."""

    @action(memory="60 MB")
    def step(size: int) -> int:
        return len(bytearray(b"x") * size * MB)

    workflow = DotFlow()
    workflow.task.add(step, each={"size": [1, 300]}, keep_going=True)
    workflow.start()  # the fork server stays
    gc.collect()  # of tests before
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    workflow.start()

    until = time.monotonic() + 30
    while "dotflow-memory" in [thread.name for thread in threading.enumerate()]:
        assert time.monotonic() < until
        time.sleep(0.01)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_it_is_for_whole_steps() -> None:
    """A call of a durable step, and an action of a class, share their process with others."""

    @action(memory="1GB")
    def limited() -> int:
        return 1

    @action(durable=True)
    def durable() -> int:
        return limited()

    @action
    class Report:
        @action(memory="1GB")
        def load(self) -> int:
            return 1

    workflow = DotFlow()
    workflow.task.add([durable, Report])
    run = workflow.start(keep_going=True)

    assert run.tasks[0].errors[0].message.startswith("The call of 'limited' can't be kept: memory is for whole steps")
    assert "@action(memory=1000000000): memory is for whole steps" in run.tasks[1].errors[0].message


def test_other_systems_refuse_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing runs without the limit that was asked for."""
    workflow = DotFlow()
    workflow.task.add(action(memory="1GB")(eat_list))
    monkeypatch.setattr("dotflow.config.sys.platform", "darwin")

    with pytest.raises(InvalidPolicy, match="measured on Linux alone, and this is darwin"):
        workflow.start()


def test_the_error_says_what_of_it_children_had() -> None:
    """Its sizes have three digits."""
    error = MemoryExceeded("ask", 2 * 10**9, 2_134_000_000, 4, 1_900_000_000)

    text = "Step 'ask' has used 2.13 GB of memory, 1.9 GB of it in 4 child processes, and memory= allows 2 GB."
    assert str(error) == text
