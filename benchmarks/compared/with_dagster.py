"""Dagster: ops in a job, its default IO manager, processes for ops, and a run that goes on from its failure."""

from typing import Any

import steps
from dagster import (
    DagsterInstance,
    DagsterRunStatus,
    FilesystemIOManager,
    In,
    Nothing,
    ReexecutionOptions,
    RunsFilter,
    execute_job,
    in_process_executor,
    job,
    op,
    reconstructable,
)


@op
def one() -> int:
    return 1


@op
def add(value: int) -> int:
    return value + 1


@op(ins={"before": In(Nothing)})
def nothing() -> None:
    pass


@op
def mortal_0() -> int:
    return steps.mortal(0)


@op
def mortal_1() -> int:
    return steps.mortal(1)


@op
def mortal_2() -> int:
    return steps.mortal(2)


@op
def mortal_3() -> int:
    return steps.mortal(3)


@op
def link_1() -> Any:
    return steps.link(1, steps.seed())


@op
def link_2(value: Any) -> Any:
    return steps.link(2, value)


@op
def link_3(value: Any) -> Any:
    return steps.link(3, value)


@op
def link_4(value: Any) -> Any:
    return steps.link(4, value)


@op
def link_5(value: Any) -> Any:
    return steps.link(5, value)


@job
def three() -> None:
    add(add.alias("add_first")(one()))


@job(config={"execution": {"config": {"multiprocess": {"max_concurrent": 4}}}})
def four() -> None:
    mortal_0()
    mortal_1()
    mortal_2()
    mortal_3()


@job(executor_def=in_process_executor)
def chained() -> None:
    link_5(link_4(link_3(link_2(link_1()))))


def timed(count: int, instance: DagsterInstance | None = None) -> None:
    resources = {"io_manager": FilesystemIOManager(base_dir="values")} if instance else None

    def run(count: int) -> None:
        @job
        def many() -> None:
            before = nothing.alias("n0")()
            for number in range(1, count):
                before = nothing.alias(f"n{number}")(before)

        many.execute_in_process(instance=instance, resources=resources)

    steps.per_step(run, count)


def died() -> None:
    with DagsterInstance.get() as instance, execute_job(reconstructable(four), instance=instance) as result:
        failed = [event.event_specific_data.error.cls_name for event in result.all_events if event.is_step_failure]
        steps.say(said=", ".join(failed))


def chain() -> None:
    with DagsterInstance.get() as instance:
        cut_off = instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.STARTED]))
        options = None
        for run in cut_off:  # what the daemon's run monitoring does where a daemon runs
            instance.report_run_failed(run)
            options = ReexecutionOptions.from_failure(run.run_id, instance)
        with execute_job(reconstructable(chained), instance=instance, reexecution_options=options) as result:
            steps.say(said="completed" if result.success else "failed")


if __name__ == "__main__":
    steps.main(
        {
            "first": lambda: steps.say(value=three.execute_in_process().output_for_node("add")),
            "overhead": timed,
            "durable": lambda count: timed(count, DagsterInstance.get()),
            "died": died,
            "chain": chain,
        }
    )
