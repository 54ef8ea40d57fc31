"""Whether what is late is over: for the run, for the interpreter and for the system."""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout

from measure import Row, run_and_exit
from workflows import hang, stuck, workflow_of

LATE = 5


def rows(quick: bool) -> Iterator[Row]:
    """5 steps of 3 s with a timeout of 0.2 s, one after the other: from the first line to the interpreter's end.

    A future's result(timeout=...) gives up waiting, and the interpreter waits for its thread all the same. Pebble ends
    the process that is late, and starts another one.
    """
    found: dict[str, float] = {}
    left: dict[str, int] = {}
    contenders: dict[str, Callable[[], None]] = {
        "sequential": in_order,
        "pebble": with_pebble,
    }
    if not quick:
        contenders |= {"background": in_background, "future.result(timeout=0.2)": with_futures}
    for name, contender in contenders.items():
        taken = [run_and_exit(contender) for _ in range(1 if quick else 2)]
        found[name], left[name] = min(seconds for seconds, _ in taken), max(count for _, count in taken)
    ours = {mode: found.pop(mode) for mode in ("sequential", "background") if mode in found}
    for mode, seconds in ours.items():
        yield Row(
            what=f"{LATE} timeouts of 0.2 s and exit, {mode}",
            ours=seconds,
            peers=found,
            budget="1.2 s, nothing left" + (f" (left: {left[mode]} processes)" if left[mode] else ""),
            within=seconds < 1.2 and not left[mode],
        )
    taken = [run_and_exit(at_once) for _ in range(1 if quick else 3)]
    yield Row(what="the same, parallel", ours=min(seconds for seconds, _ in taken), peers={})


def in_order() -> None:
    _check(lambda: workflow_of(stuck, LATE).start(keep_going=True).tasks)


def in_background() -> None:
    def run() -> list[object]:
        started = workflow_of(stuck, LATE).start("background", keep_going=True)
        started.wait()
        return started.tasks

    _check(run)


def at_once() -> None:
    _check(lambda: workflow_of(stuck, LATE).start("parallel", keep_going=True).tasks)


def _check(run: Callable[[], object]) -> None:
    errors = [task.error.exception for task in run()]  # type: ignore[attr-defined]
    if errors != ["TimeoutError"] * LATE:
        raise RuntimeError(f"the steps ended with {errors}")


def with_pebble() -> None:
    from pebble import ProcessPool

    with ProcessPool(max_workers=1) as pool:
        for _ in range(LATE):
            with contextlib.suppress(FutureTimeout):
                pool.schedule(hang, timeout=0.2).result()


def with_futures() -> None:
    pool = ThreadPoolExecutor(max_workers=LATE)
    for _ in range(LATE):
        with contextlib.suppress(FutureTimeout):
            pool.submit(hang).result(timeout=0.2)
