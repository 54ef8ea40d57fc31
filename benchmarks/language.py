"""The language: rounds, workflows for each item, and steps that wait, each beside what it is made of."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

from measure import Row, fresh
from sequential import per_piece
from workflows import completed, quiet

from dotflow import DotFlow, action

ITEMS = 10_000
POLLS = 1_000
INTERVAL = 10  # seconds between two calls of a poll


@action
def first() -> int:
    return 1


@action
def better(draft: int) -> int:
    return draft + 1


@action
def one(item: int) -> int:
    return item


@action
def two(one: int) -> int:
    return one


@action
def three(two: int) -> int:
    return two


def round_rows(quick: bool) -> Iterator[Row]:
    """A round of a step that takes what the round before returned, beside a task of a chain that takes it by name."""
    found = fresh(measure_rounds, 1_000, 5 if quick else 25)
    for part in ("add and start", "start alone"):
        sides = {"dotflow": found[f"round, {part}"], "a task with a named need": found[f"task, {part}"]}
        yield Row.beside(f"a round of 1,000, {part}", sides, 1.2, "a task with a named need")


def measure_rounds(count: int, repeats: int) -> dict[str, float]:
    """Seconds of CPU time for each round or task."""
    rounds, tasks = in_rounds(count), in_tasks(count)
    contenders = {
        "round, add and start": lambda: completed(in_rounds(count)),
        "task, add and start": lambda: completed(in_tasks(count)),
        "round, start alone": lambda: completed(rounds),
        "task, start alone": lambda: completed(tasks),
    }
    return per_piece(contenders, count, repeats)


def in_rounds(count: int) -> DotFlow:
    workflow = DotFlow(quiet())
    workflow.task.add(first)
    workflow.task.add(better, needs={"draft": first}, repeat=count)
    return workflow


def in_tasks(count: int) -> DotFlow:
    workflow = DotFlow(quiet())
    workflow.task.add(first, name="t0")
    for number in range(1, count + 1):
        workflow.task.add(better, name=f"t{number}", needs={"draft": f"t{number - 1}"})
    return workflow


def nest_rows(quick: bool) -> Iterator[Row]:
    """A workflow of three steps for each of 10,000 items, beside three maps over each other."""
    count = ITEMS // 5 if quick else ITEMS
    for mode in ("sequential", "parallel"):
        found = fresh(measure_nests, count, mode, 2 if quick else 5)
        what = f"three steps as a workflow for each of {count:,} items, {mode}"
        yield Row.beside(what, found, 1.3, "three maps over each other")


def measure_nests(count: int, mode: str, repeats: int) -> dict[str, float]:
    """Seconds of CPU time of this process for each item; in parallel mode the workers' own is left out."""
    items = list(range(count))
    contenders = {
        "dotflow": lambda: completed(nested(items), mode),
        "three maps over each other": lambda: completed(mapped_thrice(items), mode),
    }
    return per_piece(contenders, count, repeats)


def nested(items: list[int]) -> DotFlow:
    inner = DotFlow(params={"item": 0})
    inner.task.add([one, two, three])
    workflow = DotFlow(quiet())
    workflow.task.add(inner, name="each", each=items)
    return workflow


def mapped_thrice(items: list[int]) -> DotFlow:
    workflow = DotFlow(quiet())
    workflow.task.add(one, each={"item": items})
    workflow.task.add(two, each={"one": one})
    workflow.task.add(three, each={"two": two})
    return workflow


def poll_rows(quick: bool) -> Iterator[Row]:
    """1,000 steps that wait and look every 10 seconds, at different moments: what that costs while nothing comes.

    Their calls are made in worker processes, whose CPU time counts, too. The look itself does nothing.
    """
    share = fresh(measure_polls, INTERVAL if quick else 2 * INTERVAL)
    what = f"{POLLS:,} steps that wait, a look every {INTERVAL} s: CPU time in a second"
    yield Row(what=what, ours=share, peers={}, budget="40 ms: 4 % of a core", within=share <= 0.04)


def measure_polls(seconds: int) -> float:
    """Seconds of CPU time in a second."""

    @action(poll=INTERVAL / 0.75, jitter=0.5)  # INTERVAL in the mean
    def look(number: int) -> None:
        return None

    workflow = DotFlow(quiet())
    workflow.task.add(look, each={"number": list(range(POLLS))})
    run = workflow.launch(mode="parallel")
    time.sleep(2 * INTERVAL)  # all have looked, and no longer together
    before, began = cpu_of_all(), time.monotonic()
    time.sleep(seconds)
    used, passed = cpu_of_all() - before, time.monotonic() - began
    run.cancel()
    run.wait()
    return used / passed


def cpu_of_all() -> float:
    """Seconds of CPU time that this process and its living children have used; Linux only."""
    ticks = 0
    children = [
        Path(f"/proc/{pid}")
        for task in Path("/proc/self/task").iterdir()
        for pid in (task / "children").read_text().split()
    ]
    for process in (Path("/proc/self"), *children):
        fields = (process / "stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
