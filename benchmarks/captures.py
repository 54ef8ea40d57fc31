"""What capturing the output of steps costs, and measuring what they use."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from measure import Row, best, fresh
from workflows import completed, no_op, workflow_of

from dotflow import Config, action
from dotflow.abc.history import History
from dotflow.capture.collector import Collector
from dotflow.core.events import Event
from dotflow.core.types.capture import TypeCapture
from dotflow.providers import ExecutorProcess, LogDefault

STORE = "the benchmark's"


class Wanting(History):
    """A history that keeps nothing, so that only the capture costs."""

    output_limit = 1_000_000

    def __init__(self, capture: TypeCapture = TypeCapture.NONE, *, measures_usage: bool = False) -> None:
        self.capture = capture
        self.measures_usage = measures_usage
        self.store = STORE

    def record(self, run_id: str, event: Event) -> None:
        pass


@action
def line() -> None:
    """Prints a line."""
    print("a line of output")


def rows(quick: bool) -> Iterator[Row]:
    """What usage and capture add to a step, in CPU time of the process that runs it.

    Streams and descriptors are measured on top of the usage, which every attempt that a history watches has.
    """
    found = fresh(measure, 1_000 if quick else 5_000, 3 if quick else 7)
    base, usage = found["nothing"], found["usage"]
    peers = {"without": base}
    yield _row("CPU time and memory of a no-op step, on top", usage - base, peers, 4)
    yield _row("its streams, on top", found["streams"] - usage, peers, 1)
    yield _row("a line in them", found["streams, a line"] - found["streams"] - (found["a line"] - base), peers)
    yield _row("its descriptors on the command line, on top", found["collector"] - usage, peers, 4)
    found = fresh(measure_workers, 300 if quick else 2_000, 2 if quick else 5)
    base, usage = found["nothing"], found["usage"]
    peers = {"without": base}
    yield _row("the coordinator of two workers: CPU time and memory, on top", usage - base, peers)
    yield _row("their output, if there is none", found["captured"] - usage, peers, 10)
    yield _row("their output, a line each", found["captured, a line"] - usage, peers, 10)


def _row(what: str, ours: float, peers: Mapping[str, float], budget: int | None = None) -> Row:
    if budget is None:
        return Row(what=what, ours=ours, peers=peers)
    return Row(what=what, ours=ours, peers=peers, budget=f"{budget} µs", within=ours < budget * 1e-6)


def measure(count: int, repeats: int) -> dict[str, float]:
    """Seconds for each step."""
    by_descriptor = Wanting(TypeCapture.FD)
    return _measured(
        {
            "nothing": _runner(count, no_op, Wanting()),
            "usage": _runner(count, no_op, Wanting(measures_usage=True)),
            "streams": _runner(count, no_op, Wanting(TypeCapture.STREAMS)),
            "collector": _runner(count, no_op, by_descriptor, within=lambda: Collector(by_descriptor)),
            "a line": _runner(count, line, Wanting()),
            "streams, a line": _runner(count, line, Wanting(TypeCapture.STREAMS)),
        },
        count,
        repeats,
    )


def measure_workers(count: int, repeats: int) -> dict[str, float]:
    """Seconds for each step."""
    more: dict[str, Any] = {"mode": "parallel", "executor": ExecutorProcess(2)}
    return _measured(
        {
            "nothing": _runner(count, no_op, Wanting(), **more),
            "usage": _runner(count, no_op, Wanting(measures_usage=True), **more),
            "captured": _runner(count, no_op, Wanting(TypeCapture.AUTO), **more),
            "captured, a line": _runner(count, line, Wanting(TypeCapture.AUTO), **more),
        },
        count,
        repeats,
    )


def _measured(contenders: Mapping[str, Callable[[], float]], count: int, repeats: int) -> dict[str, float]:
    """Measures with stdout led to nowhere."""
    shown = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        return {name: seconds / count for name, seconds in best(contenders, repeats).items()}
    finally:
        os.dup2(shown, 1)
        os.close(shown)
        os.close(nowhere)


def _runner(
    count: int,
    step: Any,
    history: History,
    mode: str = "sequential",
    executor: Any = None,
    within: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
) -> Callable[[], float]:
    workflow = workflow_of(step, count, Config(log=LogDefault(output="none"), history=history, executor=executor))

    def run() -> float:
        with within():
            began = time.process_time()
            completed(workflow, mode)
            return time.process_time() - began

    return run
