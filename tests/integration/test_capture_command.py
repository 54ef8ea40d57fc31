"""Output of attempts in the process of the command line: captured by its descriptors, so that nothing is missing."""

import contextlib
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.captured import WAYS
from tests.integration.children import COMMAND, PATIENCE, SOURCES, Scripts
from tests.integration.terminals import Terminal

TESTS = Path(__file__).parents[2]

JOBS = f"""\
import ctypes, os, subprocess, sys, time
from pathlib import Path
sys.path.append({str(TESTS)!r})
from dotflow import Config, DotFlow, action
from dotflow.providers import ExecutorProcess, HistorySQLite, LogDefault
from tests.captured import WAYS, with_c, with_print

def config(history=True, **options):
    return Config(
        history=HistorySQLite("history.db", output_limit=10_000_000) if history else None,
        log=LogDefault(output="none"),
        **options,
    )

def all_ways(history=True):
    workflow = DotFlow(config=config(history))
    for way in WAYS.values():
        workflow.task.add(way.step)
    return workflow

def all_ways_without():
    return all_ways(history=False)

@action
def inner():
    print("inner")

@action(isolate=True)
def isolated():
    print("isolated")

@action
def outer():
    print("before", flush=True)
    for executor in (None, ExecutorProcess(1)):
        workflow = DotFlow(config=config(executor=executor))
        workflow.task.add(inner)
        workflow.start()
    os.system("echo after")

def nested():
    workflow = DotFlow(config=config())
    for step in (outer, isolated):
        workflow.task.add(step)
    return workflow

@action
def hold():
    print("printed")
    ctypes.CDLL(None).printf(b"C code\\n")
    ctypes.CDLL(None).fflush(None)
    os.write(1, b"a part")
    Path("begun").touch()
    while not Path("go").exists():
        time.sleep(0.01)
    for number in range(50_000):
        print("line", number)

@action
def hold_program():
    Path("begun").touch()
    while not Path("go").exists():
        time.sleep(0.01)
    subprocess.run("yes | head -n 200000; echo line 49999", shell=True, check=True)

def held(step=hold):
    workflow = DotFlow(config=config())
    workflow.task.add(step)
    return workflow

def held_program():
    return held(hold_program)

def held_before_its_end():
    wait = os.waitpid
    os.waitpid = lambda pid, options: (0, 0) if options else wait(pid, options)
    return held()

def native():
    workflow = DotFlow(config=config())
    for name in ("print", "os.write", "C printf", "program"):
        workflow.task.add(WAYS[name].step)
    return workflow
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "jobs.py").write_text(JOBS)
    return tmp_path


def start(folder: Path, workflow: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Runs `dotflow start`, whose output may be no text."""
    command = [sys.executable, "-c", COMMAND, "start", "--workflow", f"jobs:{workflow}"]
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=PATIENCE, **options)


def outputs(folder: Path) -> dict[tuple[str, int], bytes]:
    """Returns the output in the history by step and stream."""
    found: dict[tuple[str, int], bytes] = defaultdict(bytes)
    with contextlib.closing(sqlite3.connect(folder / "history.db")) as connection:
        for step, stream, data in connection.execute(
            "SELECT steps.name, stream, data FROM output JOIN runs USING (run) JOIN steps USING (plan, task)"
            " ORDER BY run, seq"
        ):
            found[step, stream] += data
    return found


def wait_for(path: Path) -> None:
    while not path.exists():  # the test's own timeout ends it
        time.sleep(0.01)


def without_seconds(text: bytes) -> bytes:
    return re.sub(rb"\d+\.\d+ s", b"", text)


def without_frames(text: bytes) -> list[bytes]:
    """Returns the lines without those of tracebacks."""
    return [line for line in text.splitlines() if not line.startswith((b"  File", b"Current thread", b"Thread"))]


@pytest.mark.exhaustive
def test_each_attempt_has_all_that_it_prints(folder: Path) -> None:
    """However it is printed, and the command shows the same bytes as without a history."""
    with_history, without = start(folder, "all_ways"), start(folder, "all_ways_without")

    assert (with_history.returncode, without.returncode) == (0, 0)
    kept = outputs(folder)
    for way in WAYS.values():
        assert kept[way.step.name, 1] == way.stdout, way.step.name
        assert way.stderr in kept[way.step.name, 2], way.step.name
    assert without_seconds(with_history.stdout) == without_seconds(without.stdout)
    assert without_frames(with_history.stderr) == without_frames(without.stderr)


def test_runs_in_steps_and_processes_have_their_own(folder: Path) -> None:
    """What the workers of a run in a step print is not the step's."""
    assert b"before\ninner\ninner\nafter\nisolated\n" in start(folder, "nested").stdout

    kept = outputs(folder)
    assert (kept["outer", 1], kept["inner", 1], kept["isolated", 1]) == (
        b"before\nafter\n",
        b"inner\n" * 2,
        b"isolated\n",
    )


def test_a_program_may_have_its_descriptors_captured(scripts: Scripts, folder: Path) -> None:
    """capture="fd": while its run goes on. Then stdout is as before."""
    scripts.run("""
from dotflow.providers import HistorySQLite
@action
def step():
    os.system("echo captured")

@action
def nested():
    make(step).start()

def make(*steps):
    workflow = DotFlow(config=Config(history=HistorySQLite("history.db", capture="fd"), log=LogDefault(output="none")))
    for step in steps:
        workflow.task.add(step)
    return workflow

def outside():
    return [os.fstat(number) for number in (1, 2)], sys.stdout.line_buffering

before = outside()
make(step, nested).start().raise_for_failure()
assert outside() == before
print("not captured")
""")
    assert outputs(folder) == {("step", 1): b"captured\n" * 2}


def test_a_background_run_is_captured_in_every_way(folder: Path) -> None:
    """Its steps are made in a thread, one at a time, so that marks part them."""
    command = [sys.executable, "-c", COMMAND, "start", "--workflow", "jobs:native", "--mode", "background"]
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=PATIENCE, check=True)

    kept = outputs(folder)
    for name in ("print", "os.write", "C printf", "program"):
        way = WAYS[name]
        assert (kept[way.step.name, 1], kept[way.step.name, 2]) == (way.stdout, way.stderr), name


def ends(folder: Path) -> int:
    """Returns how many runs of `nested` have printed their last line; the history may have no tables yet."""
    with contextlib.suppress(sqlite3.OperationalError):
        return outputs(folder)["outer", 1].count(b"after")
    return 0


@pytest.mark.exhaustive
def test_a_schedule_captures_each_of_its_runs(scripts: Scripts, folder: Path) -> None:
    """By the same collector."""
    arguments = ("schedule", "--workflow", "jobs:nested", "--cron", "* * * * * *")
    with scripts.command(*arguments) as command:
        while not (folder / "history.db").exists() or ends(folder) < 2:
            time.sleep(0.1)
        command.send(signal.SIGINT)
        command.end()
    kept = outputs(folder)
    assert kept["outer", 1].count(b"before\nafter\n") >= 2


def test_the_live_view_shows_it_as_before(scripts: Scripts, folder: Path) -> None:
    """Output above the view, and all of it is kept."""
    with contextlib.closing(Terminal(100, 30)) as terminal:
        arguments = ("start", "--workflow", "jobs:held")
        with scripts.command(*arguments, terminal=terminal.descriptor, TERM="xterm-256color", NO_COLOR="") as command:
            terminal.see(lambda lines: "C code" in lines and any("In progress" in line for line in lines))
            assert len(command.family()) == 2  # one process writes to the terminal and records
            (folder / "go").touch()
            assert command.process.wait(PATIENCE) == 0
            terminal.wait_for(b"1 of 1 task completed")
            assert command.left_behind() == []
    shown = terminal.sent.decode()
    assert shown.count("line 49999\r\n") == 1
    assert outputs(folder)["hold", 1].startswith(b"printed\nC code\na partline 0\n")
    assert outputs(folder)["hold", 1].endswith(b"line 49999\n")


def test_kill_9_loses_nothing(scripts: Scripts, folder: Path) -> None:
    """The collector outlives the run: it records the last output, passes it on, and ends."""
    with scripts.command("start", "--workflow", "jobs:held") as command:
        wait_for(folder / "begun")
        command.send(signal.SIGKILL)
        end = command.end()
        assert command.left_behind() == []
    assert end.out == "printed\nC code\na part"
    assert outputs(folder)["hold", 1] == b"printed\nC code\na part"


@pytest.mark.exhaustive(keep_every=3)
@pytest.mark.parametrize("workflow", ["held", "held_before_its_end", "held_program"])
def test_a_collector_that_is_killed_fails_no_print(workflow: str, scripts: Scripts, folder: Path) -> None:
    """The descriptors lead back, even where a print waits, and the command says so.

    It does not depend on whether the collector can be waited for at that moment: the kernel closes its sockets before.
    """
    with scripts.command("start", "--workflow", f"jobs:{workflow}") as command:
        wait_for(folder / "begun")
        (collector,) = [process for process in command.family() if process.pid != command.process.pid]
        collector.suspend()
        (folder / "go").touch()
        time.sleep(0.05)  # the pipe fills meanwhile
        collector.kill()
        end = command.end()
    assert end.code == 0
    assert "line 49999\n" in end.out
    assert "the process that records the output has ended" in end.err
