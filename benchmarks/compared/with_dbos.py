"""DBOS: a workflow of steps, recorded in SQLite; launch() takes up again what was cut off."""

from collections.abc import Callable
from typing import Any

import steps
from dbos import DBOS, DBOSConfig, SetWorkflowID, SetWorkflowTimeout


@DBOS.step()
def add(value: int) -> int:
    return value + 1


@DBOS.step()
def nothing() -> None:
    pass


@DBOS.step()
def late() -> str:
    return steps.late()


@DBOS.step()
def stuck() -> str:
    return steps.stuck()


@DBOS.step()
def link(number: int, value: Any) -> Any:
    return steps.link(number, value)


@DBOS.workflow()
def three() -> int:
    return add(add(add(0)))


@DBOS.workflow()
def many(count: int) -> None:
    for _ in range(count):
        nothing()


@DBOS.workflow()
def late_flow() -> str:
    return late()


@DBOS.workflow()
def stuck_flow() -> str:
    return stuck()


@DBOS.workflow()
def mortal(number: int) -> int:
    return steps.mortal(number)


@DBOS.workflow()
def chain_flow() -> None:
    value = steps.seed()
    for number in steps.CHAIN:
        value = link(number, value)


def launched(work: Callable[[], None]) -> None:
    config: DBOSConfig = {"name": "compared", "system_database_url": "sqlite:///dbos.sqlite", "log_level": "ERROR"}
    DBOS(config=config)
    DBOS.launch()
    work()
    DBOS.destroy()


def limited(flow: Callable[[], str]) -> None:
    # A step's own timeout_seconds is for coroutines only; a plain step has what its workflow has.
    try:
        with SetWorkflowTimeout(1):
            steps.say(said=flow())
    except Exception as error:
        steps.say(said=steps.name_of(error))


def died() -> None:
    queue = DBOS.register_queue("four", concurrency=4)
    handles = [queue.enqueue(mortal, number) for number in range(4)]
    for handle in handles:
        handle.get_result()
    steps.say(said="completed")


def chain() -> None:
    with SetWorkflowID("chain"):
        handle = DBOS.start_workflow(chain_flow)
    handle.get_result()
    steps.say(said="completed")


if __name__ == "__main__":
    steps.main(
        {
            "first": lambda: launched(lambda: steps.say(value=three())),
            "durable": lambda count: launched(lambda: steps.per_step(many, count)),
            "late": lambda: launched(lambda: limited(late_flow)),
            "stuck": lambda: launched(lambda: limited(stuck_flow)),
            "died": lambda: launched(died),
            "chain": lambda: launched(chain),
        }
    )
