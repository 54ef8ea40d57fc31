"""What every contender's steps do, and how a program tells what it saw. Standard library only: it runs in any venv.

A program runs in a folder of its own, named by COMPARED_FOLDER, in which the steps leave their traces.
"""

import collections
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(os.environ.get("COMPARED_FOLDER", "."))
RICH: Final = (1, 2.5, Decimal("1.10"), date(2026, 1, 31), {1: "a"}, b"x")
C_LOOP: Final = 7_000_000_000  # turns of a loop in C that holds the GIL and sees no signal: some ten seconds
CHAIN: Final = range(1, 6)  # the steps that hand one value on
CRASH: Final = 3  # the one in which all processes are killed

Answer = object


def trace(what: str) -> None:
    """Appends a line with the time, in one write, so that several processes may do it at once."""
    with (FOLDER / "trace").open("a") as file:
        file.write(f"{time.time()} {what}\n")


def say(**answer: Answer) -> None:
    """Tells the harness what the program saw; the last word counts."""
    (FOLDER / "answer").write_text(json.dumps(answer | {"at": time.time()}))


def name_of(error: BaseException) -> str:
    """The class of an error, for a cell of the table."""
    return type(error).__name__


def late() -> str:
    """Ten seconds of sleep in Python, where one is allowed; then the line that should not run."""
    trace("began")
    for _ in range(100):
        time.sleep(0.1)
    trace("later line")
    return "slept"


def stuck() -> str:
    """The same in C: no Python line runs, no signal handler is called, no other thread gets the GIL."""
    trace("began")
    collections.deque(itertools.repeat(None, C_LOOP), maxlen=0)
    trace("later line")
    return "counted"


def mortal(number: int) -> int:
    """One of four that run at once: number 1 ends its process with exit code 7, the others take two seconds."""
    trace(f"began {number}")
    time.sleep(0.5)
    if number == 1:
        os._exit(7)
    time.sleep(1.5)
    trace(f"ended {number}")
    return number


def seed() -> Any:
    """What the first step of the chain hands on: plain for the resume, rich for the values."""
    return RICH if os.environ.get("COMPARED_VALUE") == "rich" else 1


def link(number: int, value: Any) -> Any:
    """Step *number* of the chain. In its first life, CRASH waits for the harness to kill everything."""
    trace(f"began {number}")
    if number == CRASH:
        trace(f"came {difference(value)}")
        if not (FOLDER / "killed").exists():
            (FOLDER / "kill-me").touch()
            time.sleep(60)
    trace(f"ended {number}")
    return value


def difference(value: Any) -> str:
    """How *value* differs from the seed, types included; "equal" if it doesn't."""
    if shape(value) == shape(seed()):
        return "equal"
    whole = [] if type(value) is type(seed()) else [f"{type(seed()).__name__} → {type(value).__name__}"]
    if not isinstance(value, (tuple, list)) or len(value) != len(RICH):
        return "; ".join(whole) or "another length"
    return "; ".join(whole + [f"{a!r} → {b!r}" for a, b in zip(seed(), value, strict=True) if shape(a) != shape(b)])


def shape(value: Any) -> Any:
    """A value with the types of all its parts."""
    if isinstance(value, (tuple, list)):
        return (type(value), [shape(part) for part in value])
    if isinstance(value, dict):
        return (type(value), [(shape(key), shape(part)) for key, part in value.items()])
    return (type(value), value)


def per_step(run: Callable[[int], object], count: int) -> None:
    """Tells the seconds that each of *count* steps takes, after a short run that pays for what is paid once."""
    run(2)
    began = time.perf_counter()
    run(count)
    say(seconds=(time.perf_counter() - began) / count)


def main(measurements: Mapping[str, Callable[..., None]]) -> None:
    """Runs the measurement that the command line names; a number after it is the count of steps."""
    name, *rest = sys.argv[1:]
    measurements[name](*map(int, rest))
