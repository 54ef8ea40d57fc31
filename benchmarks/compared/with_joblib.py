"""joblib: Parallel with its default backend, loky, and Memory for what shall outlive the process."""

from collections.abc import Callable
from typing import Any

import steps
from joblib import Memory, Parallel, delayed

memory = Memory("cache", verbose=0)


def add(value: int) -> int:
    return value + 1


def nothing() -> None:
    pass


@memory.cache
def nothing_kept(number: int) -> None:
    pass


@memory.cache
def link(number: int, value: Any) -> Any:
    return steps.link(number, value)


def first() -> None:
    value = 0
    for _ in range(3):
        [value] = Parallel()([delayed(add)(value)])
    steps.say(value=value)


def overhead(count: int) -> None:
    steps.per_step(lambda count: Parallel()(delayed(nothing)() for _ in range(count)), count)


def durable(count: int) -> None:
    def run(count: int) -> None:
        for number in range(count):
            nothing_kept(number + count * 1000)

    steps.per_step(run, count)


def limited(step: Callable[[], str]) -> None:
    try:
        steps.say(said=Parallel(n_jobs=2, timeout=1)([delayed(step)()])[0])
    except Exception as error:
        steps.say(said=steps.name_of(error))


def died() -> None:
    try:
        Parallel(n_jobs=4)(delayed(steps.mortal)(number) for number in range(4))
    except Exception as error:
        steps.say(said=steps.name_of(error))


def chain() -> None:
    value = steps.seed()
    for number in steps.CHAIN:
        value = link(number, value)
    steps.say(said="completed")


if __name__ == "__main__":
    steps.main(
        {
            "first": first,
            "overhead": overhead,
            "durable": durable,
            "late": lambda: limited(steps.late),
            "stuck": lambda: limited(steps.stuck),
            "died": died,
            "chain": chain,
        }
    )
