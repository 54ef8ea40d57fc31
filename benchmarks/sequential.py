"""What a step costs beside its own work, in the calling thread."""

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from measure import Row, best, cpu_of, fresh
from peers import hamilton_chain, huey_attempts, huey_calls, huey_pipeline
from workflows import completed, fail, no_op, no_op_with_timeout, nothing, quiet, workflow_of

from dotflow import Config, DotFlow, action
from dotflow.providers import LogDefault

LINE = "%(asctime)s %(levelname)s %(message)s"


def no_op_rows(quick: bool) -> Iterator[Row]:
    """A chain of steps that do nothing, log off: all that is left is dotflow's own work, in `add` and `start` together.

    The limit is a loop that hands each value to the next call. Huey's pipeline does that, too; its calls beside it
    share nothing. joblib is what one would pick; Flowpipe is a pipeline library as light as they come.
    """
    found = fresh(measure_no_op, 1_000, 5 if quick else 25)
    yield Row.beside("a no-op step of a chain of 1,000, add and start", found, 0.25, "Huey, a pipeline of 100")


def measure_no_op(count: int, repeats: int) -> dict[str, float]:
    """Seconds of CPU time for each step."""
    graph = graph_of(count)
    contenders: dict[str, Callable[[], object]] = {
        "dotflow": lambda: build_and_run(count, quiet()),
        "Huey, a pipeline of 100": lambda: [huey_pipeline(100) for _ in range(count // 100)],
        "Huey, calls": lambda: huey_calls(count),
        "joblib, n_jobs=1": lambda: joblib_here(count),
        "flowpipe": lambda: graph.evaluate(mode="linear"),
        "limit: a loop": lambda: loop(count),
    }
    return per_piece(contenders, count, repeats)


def many_rows(quick: bool) -> Iterator[Row]:
    """The same with more steps: each costs what one of 1,000 does."""
    for count in (10_000,) if quick else (10_000, 100_000):
        found = fresh(measure_many, count, max(3, 60_000 // count))
        ours = found.pop("dotflow")
        what = f"a no-op step of a chain of {count:,}, add and start"
        yield Row(what=what, ours=ours, peers=found, budget="8 µs", within=ours < 8e-6)


def measure_many(count: int, repeats: int) -> dict[str, float]:
    """Seconds of CPU time for each step."""
    return per_piece({"dotflow": lambda: build_and_run(count, quiet()), "a loop": lambda: loop(count)}, count, repeats)


def build_and_run(count: int, config: Config) -> None:
    """From the first line that speaks of the workflow to the end of its run."""
    workflow = DotFlow(config)
    for _ in range(count):
        workflow.task.add(no_op)
    completed(workflow)


def again_rows(quick: bool) -> Iterator[Row]:
    """`start` of a chain of 1,000 that is built and has run before, beside `execute` of a driver that is built.

    "What is kept, by hand" is a loop that keeps what a run of dotflow keeps of each step, and decides nothing.
    """
    found = fresh(measure_again, 1_000, 5 if quick else 25)
    yield Row.beside("a no-op step of a chain of 1,000, start again", found, 0.7, "Hamilton, execute")


def measure_again(count: int, repeats: int) -> dict[str, float]:
    """Seconds of CPU time for each step."""
    workflow = workflow_of(no_op, count)
    contenders = {
        "dotflow": lambda: completed(workflow),
        "Hamilton, execute": hamilton_chain(count),
        "Huey, calls": lambda: huey_calls(count),
        "what is kept, by hand": lambda: kept_by_hand(count),
        "limit: a loop": lambda: loop(count),
    }
    return per_piece(contenders, count, repeats)


class Kept:
    """A record, or a value with its origin, with as many fields as dotflow's own."""

    __slots__ = tuple(f"field_{number}" for number in range(16))

    def __init__(self, *fields: Any) -> None:
        (self.field_0, self.field_1, self.field_2, self.field_3, self.field_4, self.field_5, self.field_6,
         self.field_7, self.field_8, self.field_9, self.field_10, self.field_11, self.field_12, self.field_13,
         self.field_14, self.field_15) = fields  # fmt: skip


def kept_by_hand(count: int) -> None:
    """For each step a record, its moments, its duration, its value with an origin, and that value under its key."""
    storage: dict[str, dict[int, Kept]] = {}
    lock, records, previous = threading.RLock(), [], None
    nones = (None,) * 9
    for number in range(count):
        records.append(Kept(number, no_op, None, None, "default", "workflow", "run", *nones))
    for record in records:
        record.field_7, record.field_8, record.field_9 = "In progress", 1, previous
        record.field_10, began = time.time(), time.monotonic()
        try:
            value = no_op.function()
        except Exception:  # a step may raise anything
            record.field_7 = "Failed"
            continue
        context = Kept(value, record.field_0, "workflow", time.time(), "module:step", "origin", previous, *nones)
        ended = time.monotonic()
        with lock:
            storage.setdefault("workflow", {})[record.field_0] = context
        record.field_7, record.field_11, record.field_12 = "Completed", context, context.field_3
        record.field_13, previous = ended - began, context


def log_rows(quick: bool) -> Iterator[Row]:
    """The chain with the default log: two lines for each step, on stderr and in a file, both the null device.

    Huey logs nothing here. A user would write the two lines through the standard library's logging, with two handlers.
    """
    found = fresh(measure_log, 1_000, 5 if quick else 25)
    yield Row.beside("the same with the default log to the null device", found, 0.55, "Huey, a pipeline of 100")


def measure_log(count: int, repeats: int) -> dict[str, float]:
    """Seconds of CPU time for each step; stderr is the null device already."""
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

    contenders = {
        "dotflow": lambda: build_and_run(count, config),
        "Huey, a pipeline of 100": lambda: [huey_pipeline(100) for _ in range(count // 100)],
        "Huey, calls": lambda: huey_calls(count),
        "a loop with logging": logged_loop,
    }
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

    The limit is a loop around try; tenacity is what one would pick. Both keep the last exception only. Huey, with its
    log off, keeps each one's traceback as text.
    """
    found = fresh(measure_failure, 500, 5 if quick else 25)
    logged = found.pop("dotflow, default log")
    yield Row.beside("a repeated attempt, no delay, log off", found, 0.1, "Huey")
    what = "the same with the default log to the null device"
    yield Row.beside(what, found | {"dotflow": logged}, 0.25, "Huey")


def measure_failure(count: int, repeats: int) -> dict[str, float]:
    """Seconds of CPU time for each attempt."""
    from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_none

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
        "Huey": lambda: huey_attempts(count),
        "tenacity": with_tenacity,
        "limit: a loop around try": by_hand,
    }
    return per_piece(contenders, count, repeats)


def per_piece(contenders: dict[str, Callable[[], object]], count: int, repeats: int) -> dict[str, float]:
    """The least CPU time of each contender in seconds, for each of *count* pieces."""
    timed = {name: lambda work=work: cpu_of(work) for name, work in contenders.items()}
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
