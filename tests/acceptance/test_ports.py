"""The ports from other libraries on the page "Before and after": no longer than their originals, and they go on."""

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PORTS = ROOT / "docs_src" / "ports"
#: The block of an original, which no test can run, the file of its port, and its text.
PAIR = re.compile(
    r"^```py\n((?:.*\n)*?)```$(?:.*\n)*?`docs_src/ports/(\w+)_after\.py`\n\n```python.*\n((?:.*\n)*?)```$", re.M
)
PAIRS = {port: (original, text) for original, port, text in PAIR.findall((ROOT / "docs" / "ports.md").read_text())}

#: Runs a program, one step at a time, and prints the calls of its functions; SIGKILL at one of them.
WATCHED = """
import os, runpy, signal, sys
from dotflow import DotFlow
from dotflow.testing import virtual_clock

path, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
start, calls = DotFlow.start, []

def start_in_order(self, mode=None, **options):
    return start(self, "sequential", **options)

def watch(frame, event, argument):
    code = frame.f_code
    if event == "call" and code.co_filename == path and code.co_name[0] != "<":
        calls.append(code.co_name)
        print(code.co_name, file=sys.stderr, flush=True)
        if code.co_name == name and calls.count(name) == count:
            os.kill(os.getpid(), signal.SIGKILL)

DotFlow.start = start_in_order
with virtual_clock():
    sys.setprofile(watch)
    runpy.run_path(path, run_name="__main__")
"""


class Kill(NamedTuple):
    """A kill in the middle of a port.

    Attributes:
        step: The step that is killed.
        call: Which of its calls.
        rest: The steps that the next start calls, in order.
    """

    step: str
    call: int
    rest: str


KILLS = {
    "branch": Kill("in_memory", 1, "in_memory report orders"),  # the last one is of the other day
    "essay": Kill("refine", 3, "refine judge good refine judge good refine judge good publish"),
    "crawl": Kill("fetch", 5, "fetch seen linked is_last fetch seen linked is_last"),
    "climate": Kill("measure", 4, "measure measure measure means"),
    "payment": Kill("payment", 1, "payment ship"),
}


def run(program: Path, step: str = "", call: int = 0) -> subprocess.CompletedProcess[str]:
    """Runs a program in its folder, and kills it at a call."""
    command = [sys.executable, "-W", "error", "-c", WATCHED, str(program), step, str(call)]
    return subprocess.run(command, cwd=program.parent, capture_output=True, text=True, timeout=50)


def calls_of(ended: subprocess.CompletedProcess[str]) -> list[str]:
    """Returns the functions of the program that were called, without its log."""
    return [line for line in ended.stderr.splitlines() if line.isidentifier()]


@pytest.mark.parametrize("port", PAIRS)
def test_a_port_is_no_longer_than_its_original(port: str) -> None:
    """In lines with text. An original compiles; what it imports is not here."""
    original, text = PAIRS[port]
    compile(original, port, "exec")

    here, there = (sum(map(bool, map(str.strip, program.splitlines()))) for program in (text, original))

    assert here <= there


def test_every_original_has_a_port_that_is_killed() -> None:
    """Each workflow that stands beside its original is killed below."""
    assert PAIRS.keys() == KILLS.keys()


@pytest.mark.exhaustive(keep_every=6)
@pytest.mark.slow
@pytest.mark.parametrize("port", KILLS)
def test_a_port_goes_on_after_a_kill(port: str, tmp_path: Path) -> None:
    """SIGKILL in the middle of a step: the next start makes this step and the rest, and prints what the page shows."""
    kill = KILLS[port]
    program = tmp_path / "program.py"
    program.write_text((PORTS / f"{port}_after.py").read_text())

    killed = run(program, kill.step, kill.call)
    assert (killed.returncode, killed.stdout) == (-signal.SIGKILL, ""), killed.stderr
    assert calls_of(killed)[-1] == kill.step

    resumed = run(program)
    assert (resumed.returncode, calls_of(resumed)) == (0, kill.rest.split()), resumed.stderr
    assert resumed.stdout == (PORTS / f"{port}_after.txt").read_text()
