"""What a step costs beside its own work, in the calling thread."""

import contextlib
import logging
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from measure import Row, best, fresh, seconds_of
from workflows import completed, no_op, no_op_with_timeout, nothing, quiet, workflow_of

from dotflow import Config, DotFlow, action
from dotflow.providers import LogDefault

LINE = "%(asctime)s %(levelname)s %(message)s"


def no_op_rows(quick: bool) -> Iterator[Row]:
    """A step that does nothing, log off: all that is left is dotflow's own work, in `add` and `start` together.

    What one would write instead is a loop that hands each value to the next call. joblib and a pool of one thread are
    what one would pick; Flowpipe is a pipeline library as light as they come, in which a step is a node of a graph.
    """
    for count in (10_000,) if quick else (1_000, 10_000, 100_000):
        found = fresh(measure_no_op, count, 3 if quick else max(3, min(15, 60_000 // count)))
        ours = found.pop("dotflow")
        what = f"no-op step, {count:,} of them, add and start"
        yield Row(what=what, ours=ours, peers=found, budget="8 µs", within=ours < 8e-6)
    found = fresh(measure_start, 10_000, 2 if quick else 5)
    yield Row(what="the same, 10,000, start alone", ours=found.pop("dotflow"), peers=found)


def measure_no_op(count: int, repeats: int) -> dict[str, float]:
    """Seconds for each step."""
    contenders: dict[str, Callable[[], object]] = {
        "dotflow": lambda: build_and_run(count, quiet()),
        "bare loop": lambda: loop(count),
        "ThreadPoolExecutor(1)": lambda: thread_pool(count),
    }
    if count <= 1_000:
        graph = graph_of(count)
        contenders["joblib, n_jobs=1"] = lambda: joblib_here(count)
        contenders["flowpipe"] = lambda: graph.evaluate(mode="linear")
    return per_piece(contenders, count, repeats)


def build_and_run(count: int, config: Config) -> None:
    """From the first line that speaks of the workflow to the end of its run."""
    workflow = DotFlow(config)
    for _ in range(count):
        workflow.task.add(no_op)
    completed(workflow)


def measure_start(count: int, repeats: int) -> dict[str, float]:
    """Seconds for each step of a workflow that is there already."""
    workflow = workflow_of(no_op, count)
    return per_piece({"dotflow": lambda: completed(workflow), "bare loop": lambda: loop(count)}, count, repeats)


def log_rows(quick: bool) -> Iterator[Row]:
    """The same with the default providers: two lines for each step, on stderr and in a file, both the null device.

    A user would write the two lines through the standard library's logging, with the same two handlers.
    """
    found = fresh(measure_log, 2_000 if quick else 10_000, 3 if quick else 7)
    ours = found.pop("dotflow")
    what = "no-op step, default log to the null device, add and start"
    yield Row(what=what, ours=ours, peers=found, budget="20 µs", within=ours < 20e-6)


def measure_log(count: int, repeats: int) -> dict[str, float]:
    """Seconds for each step; stderr is the null device already."""
    config = logging_config()
    logger = logging.getLogger("by hand")
    logger.setLevel(logging.INFO)
    for handler in (logging.StreamHandler(), logging.FileHandler(os.devnull)):
        handler.setFormatter(logging.Formatter(LINE))
        logger.addHandler(handler)

    def logged_loop() -> None:
        for number in range(count):
            logger.info("task %d %s: %s", number, "nothing", "In progress")
            nothing()
            logger.info("task %d %s: %s", number, "nothing", "Completed")

    contenders = {"dotflow": lambda: build_and_run(count, config), "loop with logging": logged_loop}
    return per_piece(contenders, count, repeats)


def logging_config() -> Config:
    """The default log to the null device; stderr is that already."""
    return Config(log=LogDefault(path=os.devnull))


def timeout_rows(quick: bool) -> Iterator[Row]:
    """What `timeout=` adds to a step that needs it not, in the main thread.

    By hand it is an interval timer, set and unset. What people write instead is a future's result(timeout=...), which
    starts nothing new for each call but does not end what is late, either.
    """
    found = fresh(measure_timeout, 2_000 if quick else 10_000, 3 if quick else 9)
    ours = found.pop("dotflow, timeout=10") - found.pop("dotflow")
    bare = found.pop("bare loop")
    peers = {name: seconds - bare for name, seconds in found.items()}
    yield Row(what="`timeout=` on a no-op step, on top", ours=ours, peers=peers, budget="10 µs", within=ours < 10e-6)


def measure_timeout(count: int, repeats: int) -> dict[str, float]:
    """Seconds for each step, with and without."""
    without, with_one = workflow_of(no_op, count), workflow_of(no_op_with_timeout, count)

    def by_hand() -> None:
        signal.signal(signal.SIGALRM, lambda signum, frame: None)
        for _ in range(count):
            signal.setitimer(signal.ITIMER_REAL, 10)
            nothing()
            signal.setitimer(signal.ITIMER_REAL, 0)

    contenders: dict[str, Callable[[], object]] = {
        "dotflow": lambda: completed(without),
        "dotflow, timeout=10": lambda: completed(with_one),
        "bare loop": lambda: loop(count),
        "setitimer by hand": by_hand,
        "future.result(timeout=10)": lambda: thread_pool(count),
    }
    return per_piece(contenders, count, repeats)


def failure_rows(quick: bool) -> Iterator[Row]:
    """An attempt that fails and is repeated at once; dotflow keeps each one's type, message and traceback.

    By hand it is a loop around try; what one would pick is tenacity. Both keep the last exception only.
    """
    count = 1_000 if quick else 5_000
    found = fresh(measure_failure, count, 3 if quick else 9)
    ours, logged = found.pop("dotflow"), found.pop("dotflow, default log")
    yield Row(what="a repeated attempt, no delay", ours=ours, peers=found, budget="12 µs", within=ours < 12e-6)
    what = "the same, default log to the null device"
    yield Row(what=what, ours=logged, peers={}, budget="30 µs", within=logged < 30e-6)


def measure_failure(count: int, repeats: int) -> dict[str, float]:
    """Seconds for each attempt."""
    from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_none

    def fail() -> None:
        raise ValueError("as always")

    step = action(retry=count, retry_delay=0)(fail)
    silent, logging_one = workflow_of(step, 1), workflow_of(step, 1, logging_config())

    def ours(workflow: DotFlow) -> None:
        run = workflow.start()
        if len(run.tasks[0].errors) != count:
            raise RuntimeError(f"{len(run.tasks[0].errors)} attempts instead of {count}")

    def by_hand() -> None:
        for _ in range(count):
            try:
                fail()
            except Exception:
                continue

    def with_tenacity() -> None:
        retry = retry_if_exception_type(Exception)
        retrying = Retrying(stop=stop_after_attempt(count), wait=wait_none(), retry=retry, reraise=True)
        with contextlib.suppress(ValueError):
            retrying(fail)

    contenders: dict[str, Callable[[], object]] = {
        "dotflow": lambda: ours(silent),
        "dotflow, default log": lambda: ours(logging_one),
        "retry loop": by_hand,
        "tenacity": with_tenacity,
    }
    return per_piece(contenders, count, repeats)


def per_piece(contenders: dict[str, Callable[[], object]], count: int, repeats: int) -> dict[str, float]:
    """The best seconds of each contender, for each of *count* pieces."""
    timed = {name: lambda work=work: seconds_of(work) for name, work in contenders.items()}
    return {name: seconds / count for name, seconds in best(timed, repeats).items()}


def loop(count: int) -> None:
    value = None
    for _ in range(count):
        value = nothing(value)


def thread_pool(count: int) -> None:
    with ThreadPoolExecutor(max_workers=1) as pool:
        for _ in range(count):
            pool.submit(nothing, None).result(timeout=10)


def joblib_here(count: int) -> None:
    from joblib import Parallel, delayed

    Parallel(n_jobs=1)(delayed(nothing)(None) for _ in range(count))


def graph_of(count: int) -> Any:
    from flowpipe import Graph, Node

    graph = Graph(name="pipeline")
    previous = None
    for number in range(count):
        node = Node(outputs=["value"])(lambda value: {"value": None})(graph=graph, name=f"step {number}")
        if previous is not None:
            previous.outputs["value"] >> node.inputs["value"]
        previous = node
    return graph
