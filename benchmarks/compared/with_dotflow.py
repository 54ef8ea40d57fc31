"""dotflow: actions, storages, isolate=True for what must be killed, resume=True after a crash."""

import sys
from typing import Any

import steps

from dotflow import Config, Context, DotFlow, action
from dotflow.abc.storage import Storage
from dotflow.providers import StorageDefault, StorageFile, StorageSQLite


@action
def one() -> int:
    return 1


@action
def add(previous_context: Context) -> int:
    return previous_context.storage + 1


@action
def nothing() -> None:
    pass


@action(timeout=1)
def late() -> str:
    return steps.late()


@action(timeout=1, isolate=True)
def stuck() -> str:
    return steps.stuck()


@action
def mortal(initial_context: Context) -> int:
    return steps.mortal(initial_context.storage)


@action
def link_1() -> Any:
    return steps.link(1, steps.seed())


@action
def link_2(previous_context: Context) -> Any:
    return steps.link(2, previous_context.storage)


@action
def link_3(previous_context: Context) -> Any:
    return steps.link(3, previous_context.storage)


@action
def link_4(previous_context: Context) -> Any:
    return steps.link(4, previous_context.storage)


@action
def link_5(previous_context: Context) -> Any:
    return steps.link(5, previous_context.storage)


def first() -> None:
    workflow = DotFlow()
    workflow.task.add([one, add, add])
    workflow.start()
    steps.say(value=workflow.result_storage()[-1])


def timed(storage: Storage, count: int) -> None:
    def run(count: int) -> None:
        workflow = DotFlow(Config(storage=storage))
        workflow.task.add([nothing] * count)
        workflow.start()

    steps.per_step(run, count)


def limited(step: Any) -> None:
    workflow = DotFlow()
    workflow.task.add(step)
    workflow.start()
    [task] = workflow.result_task()
    steps.say(said=task.errors[-1].exception if task.errors else str(task.status))


def died() -> None:
    workflow = DotFlow()
    for number in range(4):
        workflow.task.add(mortal, initial_context=number)
    workflow.start(mode="parallel", keep_going=True)
    steps.say(said=workflow.result_task()[1].errors[-1].exception)


def chain() -> None:
    workflow = DotFlow(Config(storage=StorageFile()), workflow_id="chain")
    workflow.task.add([link_1, link_2, link_3, link_4, link_5])
    workflow.start(resume=True)
    failed = [task.errors[-1].exception for task in workflow.result_task() if task.errors]
    steps.say(said=failed[0] if failed else "completed")


if __name__ == "__main__":
    steps.main(
        {
            "first": first,
            "overhead": lambda count: timed(StorageDefault(), count),
            "durable": lambda count: timed(StorageFile(), count),
            "sqlite": lambda count: timed(StorageSQLite(), count),
            "late": lambda: limited(late),
            "stuck": lambda: limited(stuck),
            "died": died,
            "chain": chain,
        }
    )
    sys.exit()
