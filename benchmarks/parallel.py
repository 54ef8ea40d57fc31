"""Many at once: what starting, feeding and ending workers costs.

Each contender runs in an interpreter of its own, since the threads of a pool that was there before would change how the
next one starts. All imports are done before the clock runs.
"""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any

from measure import Row, best, fresh, fresh_contender, seconds_of
from workflows import busy, completed, count_up, napping, no_op, nothing, quiet, workflow_of

from dotflow.providers import ExecutorProcess

QUICK = ("dotflow", "ProcessPoolExecutor")
CONTENDERS = (*QUICK, "joblib", "pebble")
FORKS = "limit: forks by hand"
PIECES = 8


def no_op_rows(quick: bool) -> Iterator[Row]:
    """200 no-op steps, workers started, fed and ended within the time.

    The pools of the standard library, of joblib (loky) and of Pebble, each with as many workers as it takes by itself.
    """
    found = _raced(measure_no_op, QUICK if quick else CONTENDERS, 200, repeats=3 if quick else 9)
    yield Row.beside("parallel, 200 no-op steps, start included", found, 0.8, "ProcessPoolExecutor")


def method_rows(quick: bool) -> Iterator[Row]:
    """The same with workers that are started by the fork server."""
    contenders = {name: fresh_contender(measure_method, name, 200, "forkserver") for name in QUICK}
    found = best(contenders, 1 if quick else 3)
    what = "parallel, 200 no-op steps, start_method='forkserver'"
    yield Row(what=what, ours=found.pop("dotflow"), peers=found)


def measure_no_op(contender: str, count: int) -> float:
    """Seconds for all."""
    return seconds_of(_ready(contender, no_op, nothing, count, None))


def measure_method(contender: str, count: int, method: str) -> float:
    """Seconds for all, with workers that are started in one way."""
    if contender == "ProcessPoolExecutor":
        return seconds_of(lambda: _map(ProcessPoolExecutor(mp_context=get_context(method)), nothing, [None] * count))
    workflow = workflow_of(no_op, count, quiet(ExecutorProcess(start_method=method)))
    return seconds_of(lambda: completed(workflow, "parallel"))


def nap_rows(quick: bool) -> Iterator[Row]:
    """16 steps that sleep 0.2 s: what is over 0.2 s is the start and end of 16 workers.

    The pools are told to have 16 workers, which dotflow has by itself; the limit are 16 forks by hand.
    """
    contenders = (*CONTENDERS, "ThreadPoolExecutor", FORKS)
    found = _raced(measure_nap, (*QUICK, FORKS) if quick else contenders, 16, repeats=2 if quick else 9)
    yield Row.beside("parallel, 16 steps of sleep(0.2), start included", found, 1, "ProcessPoolExecutor")


def measure_nap(contender: str, count: int) -> float:
    """Seconds for all."""
    return seconds_of(_ready(contender, napping, time.sleep, count, 0.2, workers=count))


def busy_rows(quick: bool) -> Iterator[Row]:
    """8 steps of pure Python that keep a core busy: whether the work is what takes the time.

    The pools have a worker for each core, which is the best there is for this; dotflow may have more.
    """
    rounds = fresh(rounds_for, 0.05 if quick else 0.2)
    found = _raced(measure_busy, QUICK if quick else CONTENDERS, rounds, repeats=2 if quick else 5)
    ours = found.pop("dotflow")
    within = ours <= found["ProcessPoolExecutor"] * 1.03
    yield Row(
        what=f"parallel, {PIECES} CPU-bound steps",
        ours=ours,
        peers=found,
        budget="ProcessPoolExecutor's (3% for noise)",
        within=within,
    )


def rounds_for(seconds: float) -> int:
    """How far to count for so many seconds on this machine."""
    rounds = 200_000
    return int(rounds * seconds / best({"": lambda: seconds_of(lambda: count_up(rounds))}, 5)[""])


def measure_busy(contender: str, rounds: int) -> float:
    """Seconds for all."""
    return seconds_of(_ready(contender, busy, count_up, PIECES, rounds))


def _raced(function: Callable[..., float], contenders: tuple[str, ...], number: int, repeats: int) -> dict[str, float]:
    return best({name: fresh_contender(function, name, number) for name in contenders}, repeats)


def _ready(
    contender: str, step: Any, function: Callable[..., Any], count: int, value: Any, workers: int | None = None
) -> Callable[[], object]:
    """What runs it *count* times at once. Only the contender's own modules are imported, before the clock runs."""
    values = [value] * count
    match contender:
        case "dotflow":
            return lambda: completed(workflow_of(step, count, initial_context=value), "parallel")
        case "ProcessPoolExecutor":
            return lambda: _map(ProcessPoolExecutor(workers), function, values)
        case "ThreadPoolExecutor":
            return lambda: _map(ThreadPoolExecutor(workers), function, values)
        case "joblib":
            return _joblib(function, values, workers or -1)
        case "pebble":
            return _pebble(function, values, {"max_workers": workers} if workers else {})
        case "limit: forks by hand":
            return lambda: _forked(function, values)
    raise ValueError(contender)


def _map(executor: Executor, function: Callable[..., Any], values: list[Any]) -> None:
    with executor as pool:
        list(pool.map(function, values))


def _forked(function: Callable[..., Any], values: list[Any]) -> None:
    children = []
    for value in values:
        child = os.fork()
        if not child:
            function(value)
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)


def _joblib(function: Callable[..., Any], values: list[Any], workers: int) -> Callable[[], object]:
    from joblib import Parallel, delayed
    from joblib.externals.loky import get_reusable_executor

    def run() -> None:
        Parallel(n_jobs=workers)(delayed(function)(value) for value in values)
        get_reusable_executor().shutdown(wait=True)

    return run


def _pebble(function: Callable[..., Any], values: list[Any], settings: dict[str, int]) -> Callable[[], object]:
    from pebble import ProcessPool

    def run() -> None:
        with ProcessPool(**settings) as pool:
            for future in [pool.schedule(function, args=[value]) for value in values]:
                future.result()

    return run
