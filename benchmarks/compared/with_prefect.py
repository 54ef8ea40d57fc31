"""Prefect: tasks in a flow, its temporary server, results persisted and cached by inputs for what is started again."""

from collections.abc import Callable
from typing import Any

import steps
from prefect import flow, task
from prefect.cache_policies import INPUTS, TASK_SOURCE
from prefect.task_runners import ProcessPoolTaskRunner

cached = task(persist_result=True, cache_policy=INPUTS + TASK_SOURCE)


@task
def add(value: int) -> int:
    return value + 1


@task
def nothing(number: int) -> None:
    pass


@cached
def nothing_kept(number: int) -> None:
    pass


@task(timeout_seconds=1)
def late() -> str:
    return steps.late()


@task(timeout_seconds=1)
def stuck() -> str:
    return steps.stuck()


@task
def mortal(number: int) -> int:
    return steps.mortal(number)


@cached
def link(number: int, value: Any) -> Any:
    return steps.link(number, value)


@flow
def three() -> int:
    return add(add(add(0)))


@flow
def many(step: Callable[[int], None], count: int) -> None:
    for number in range(count):
        step(number + count * 1000)


@flow
def limited(step: Callable[[], str]) -> None:
    state = step(return_state=True)
    steps.say(said=state.name)


@flow(task_runner=ProcessPoolTaskRunner(max_workers=4))
def died() -> None:
    futures = [mortal.submit(number) for number in range(4)]
    for future in futures:
        future.wait()
    steps.say(said=", ".join(sorted({future.state.name for future in futures})))


@flow
def chain() -> None:
    value = steps.seed()
    for number in steps.CHAIN:
        value = link(number, value)
    steps.say(said="completed")


if __name__ == "__main__":
    steps.main(
        {
            "first": lambda: steps.say(value=three()),
            "overhead": lambda count: steps.per_step(lambda count: many(nothing, count), count),
            "durable": lambda count: steps.per_step(lambda count: many(nothing_kept, count), count),
            "late": lambda: limited(late),
            "stuck": lambda: limited(stuck),
            "died": died,
            "chain": chain,
        }
    )
