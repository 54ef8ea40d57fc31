"""A workflow for type checkers. mypy and Pyright read this file."""

import uuid
from typing import Any, assert_type

from dotflow import Config, Context, DotFlow, FireTime, Run, Task, TaskError, WorkflowPlan, action
from dotflow.abc.storage import Storage
from dotflow.core.types import TypeExecution, TypeStatus
from dotflow.graph.builder import TaskBuilder
from dotflow.providers import ExecutorProcess, LogDefault, SchedulerCron, StorageDefault


@action
def extract() -> int:
    return 1


@action(retry=2)
async def fetch(previous_context: Context) -> str:
    return str(previous_context.storage)


@action
class Pipeline:
    @action
    def first(self) -> int:
        return 1


class Report:
    @action
    def load(self) -> int:
        return 1


def plain() -> int:
    return 1


def notify(task: Task) -> None: ...


def done(tasks: list[Task]) -> None: ...


# Providers

config = Config(storage=StorageDefault(), log=LogDefault(format="json"), executor=ExecutorProcess(max_workers=4))
assert_type(config.storage, Storage)
Config(storage=LogDefault())  # type: ignore[arg-type]
Config(nonsense=1)  # type: ignore[arg-type]
DotFlow(nonsense=1)  # type: ignore[arg-type]
SchedulerCron("@daily", tz="Europe/Berlin")  # type: ignore[arg-type]

# Steps

workflow = DotFlow(config, workflow_id=uuid.uuid4(), name="nightly")
assert_type(workflow.task, TaskBuilder)
assert_type(workflow.task.add(extract), TaskBuilder)
workflow.task.add([extract, fetch, "pkg.mod.fn", [Pipeline]]).add(Report().load)
workflow.task.add(Pipeline, callback=notify, initial_context={"a": 1}, group_name="g")
workflow.task.add("pkg.mod:fn", callback="pkg.mod:notify")
assert_type(workflow.task.count(), int)
workflow.task.add(5)  # type: ignore[arg-type]
workflow.task.add(plain)  # type: ignore[arg-type]
workflow.task.add(extract, callback=5)  # type: ignore[arg-type]
workflow.task.add(extract, retries=3)  # type: ignore[arg-type]

# Callbacks: called by name, so the name of their parameter counts

workflow.task.add(extract, callback=lambda task: print(task.name, task.status, task.errors))
workflow.task.add(extract, callback=done)  # type: ignore[arg-type]
workflow.task.add(extract, callback=print)  # type: ignore[arg-type]

# Runs

run = workflow.start(mode="parallel", keep_going=True, resume=False, on_success=done, on_failure="pkg.mod:notify")
assert_type(run, Run)
assert_type(run.wait(1.0), bool)
assert_type(run.wait("90s"), bool)
assert_type(run.raise_for_failure(), Run)
assert_type(run.status, TypeStatus)
assert_type(run.tasks, list[Task])
assert_type(workflow.start(mode=TypeExecution.BACKGROUND), Run)
assert_type(workflow.start(rerun="report", cache=False), Run)
assert_type(workflow.start(timeout="4h"), Run)
assert_type(workflow.start(timeout=3600), Run)
assert_type(workflow.plan(resume="changed", rerun=["report"]), WorkflowPlan)
workflow.plan(resume="all")  # type: ignore[arg-type]
assert_type(workflow.start(only="report", resume=True), Run)
assert_type(workflow.plan(only=["report"]), WorkflowPlan)
workflow.start(only=5)  # type: ignore[arg-type]
workflow.start(keep_going="yes")  # type: ignore[arg-type]
workflow.start(timeout=[4])  # type: ignore[arg-type]


async def starts() -> None:
    assert_type(await workflow.astart(), Run)
    assert_type(workflow.launch(), Run)


workflow.start(on_success=lambda tasks: print([task.duration for task in tasks]), on_failure=done)
workflow.start(on_failure=notify)  # type: ignore[arg-type]
workflow.start(on_failure=print)  # type: ignore[arg-type]

# Results

assert_type(workflow.result_task(), list[Task])
assert_type(workflow.result_context(), list[Context])
assert_type(workflow.result_storage(), list[Any])
assert_type(workflow.result().status, TypeStatus)
assert_type(workflow.result().model_dump_json(), str)
assert_type(workflow.result_task()[0].errors, list[TaskError])
assert_type(workflow.result_task()[0].errors[-1].message, str)
assert_type(SchedulerCron("@daily").preview(3), list[FireTime])
