"""How things are measured: side by side, many times, each in an interpreter that nothing else has touched."""

import contextlib
import functools
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

LIMIT: Final = 300  # seconds that one fresh interpreter may take

Contender = Callable[[], float]
"""Does its work once and returns what that cost; what it sets up before costs nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the table.

    Args:
        what: What was measured.
        ours: What dotflow took, in *unit*.
        peers: What the others took, by name; the first is whom the budget speaks of.
        unit: "s", "B", or "" for a number of things.
        budget: The budget, in words.
        within: Whether it was kept; None where there is none.
    """

    what: str
    ours: float
    peers: Mapping[str, float]
    unit: str = "s"
    budget: str = ""
    within: bool | None = None

    @classmethod
    def beside(cls, what: str, found: Mapping[str, float], times: float, peer: str, unit: str = "s") -> "Row":
        """Makes a row whose budget is so many times what a peer takes. What dotflow takes is found by its name."""
        peers = {peer: found[peer]} | {name: taken for name, taken in found.items() if name != "dotflow"}
        within = found["dotflow"] <= times * found[peer]
        return cls(
            what=what, ours=found["dotflow"], peers=peers, unit=unit, budget=f"{times:.3g} × {peer}", within=within
        )


def interleaved(contenders: Mapping[str, Contender], repeats: int) -> dict[str, list[float]]:
    """Lets each contender run *repeats* times, in turn, so that noise on the machine meets all of them alike."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, contender in contenders.items():
            gc.collect()
            found[name].append(contender())
    return found


def best(contenders: Mapping[str, Contender], repeats: int) -> dict[str, float]:
    """The least that each took: what it costs when nobody else uses the machine."""
    return {name: min(taken) for name, taken in interleaved(contenders, repeats).items()}


def median(contenders: Mapping[str, Contender], repeats: int) -> dict[str, float]:
    """What each took in the middle."""
    return {name: statistics.median(taken) for name, taken in interleaved(contenders, repeats).items()}


@contextlib.contextmanager
def stopwatch() -> Iterator[Callable[[], float]]:
    """Gives a function that tells the seconds from here to the end of the block."""
    began = time.perf_counter()
    ended: list[float] = []
    yield lambda: ended[0] - began
    ended.append(time.perf_counter())


def seconds_of(work: Callable[[], object]) -> float:
    """The seconds that *work* takes."""
    with stopwatch() as taken:
        work()
    return taken()


def cpu_of(work: Callable[[], object]) -> float:
    """The seconds of CPU time that *work* takes in this process: how busy the machine is hardly counts."""
    began = time.process_time()
    work()
    return time.process_time() - began


def fresh(function: Callable[..., Any], *arguments: Any) -> Any:
    """What *function* returns in an interpreter of its own, whose output goes to the null device.

    The parallel rows need this: threads and workers that one contender leaves would change how the next one starts.
    """
    return _run(function, arguments)[0]


def fresh_contender(function: Callable[..., float], *arguments: Any) -> Contender:
    """A contender that measures itself, each time in an interpreter of its own."""
    return lambda: float(fresh(function, *arguments))


def run_and_exit(function: Callable[..., Any], *arguments: Any) -> tuple[float, int]:
    """Seconds from the beginning of *function* to the end of its interpreter, and how many processes it left behind."""
    answer, ended, left = _run(function, arguments, timed=True)
    return ended - answer["began"], left


def _run(function: Callable[..., Any], arguments: tuple[Any, ...], timed: bool = False) -> tuple[Any, float, int]:
    reading, writing = os.pipe()
    request = json.dumps([function.__module__, function.__qualname__, arguments, timed, writing])
    process = subprocess.Popen(
        [sys.executable, __file__, request],
        pass_fds=[writing],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(),
        start_new_session=True,
    )
    os.close(writing)
    try:
        process.wait(LIMIT)
        ended = time.monotonic()
        left = processes_of(process.pid)
        os.set_blocking(reading, False)  # somebody who was left behind may hold the other end
        with open(reading, "rb", closefd=False) as file:
            text = file.read()
    finally:
        process.kill()
        os.close(reading)
    answers = [json.loads(line) for line in text.splitlines()] or [{"error": f"it ended with {process.returncode}"}]
    if isinstance(answers[-1], dict) and "error" in answers[-1]:
        raise RuntimeError(answers[-1]["error"])
    return answers[-1], ended, left


@functools.cache
def _bytecode() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="dotflow-benchmarks-")


def environment() -> dict[str, str]:
    """Ours, but for the bytecode, which is kept as it is for an installed package, and thrown away at the end."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"PYTHONPYCACHEPREFIX": _bytecode().name}


def processes_of(session: int) -> int:
    """How many processes of a session live; zombies don't count. 0 where there is no /proc."""
    count = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, its_session = stat.read_text().rpartition(")")[2].split()[:4]
            count += int(its_session) == session and state not in "ZX"
    return count


def _answer() -> None:
    module, name, arguments, timed, writing = json.loads(sys.argv[1])
    os.set_inheritable(writing, False)

    def say(answer: object) -> None:
        os.write(writing, json.dumps(answer).encode() + b"\n")

    try:
        function = getattr(import_module(module), name)
        if timed:
            say({"began": time.monotonic()})
            function(*arguments)
        else:
            say(function(*arguments))
    except Exception as error:  # whatever it is, the table shows it in the place of a number
        say({"error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    _answer()
