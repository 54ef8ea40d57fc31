"""concurrent.futures: a pool of threads for steps in order, a pool of processes where something may go wrong."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import steps


def add(value: int) -> int:
    return value + 1


def nothing() -> None:
    pass


def first() -> None:
    with ThreadPoolExecutor(1) as pool:
        value = 0
        for _ in range(3):
            value = pool.submit(add, value).result()
    steps.say(value=value)


def overhead(count: int) -> None:
    def run(count: int) -> None:
        for _ in range(count):
            pool.submit(nothing).result()

    with ThreadPoolExecutor(1) as pool:
        steps.per_step(run, count)


def limited(step: Callable[[], str]) -> None:
    pool = ProcessPoolExecutor(1)
    try:
        steps.say(said=pool.submit(step).result(timeout=1))
    except TimeoutError as error:
        steps.say(said=steps.name_of(error))
    pool.shutdown(wait=False, cancel_futures=True)


def died() -> None:
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("forkserver")) as pool:
        futures = [pool.submit(steps.mortal, number) for number in range(4)]
    steps.say(said=", ".join(sorted({steps.name_of(error) for f in futures if (error := f.exception())})))


if __name__ == "__main__":
    steps.main(
        {
            "first": first,
            "overhead": overhead,
            "late": lambda: limited(steps.late),
            "stuck": lambda: limited(steps.stuck),
            "died": died,
        }
    )
