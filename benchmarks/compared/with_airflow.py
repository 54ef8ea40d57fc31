"""Airflow: a DAG of tasks run by dag.test(), in this process, with its SQLite and no scheduler."""

from datetime import datetime, timedelta
from typing import Any

import steps
from airflow.sdk import DAG, task

START = datetime(2026, 1, 1)


@task
def add(value: int) -> int:
    return value + 1


@task
def nothing() -> None:
    pass


@task(execution_timeout=timedelta(seconds=1))
def late() -> str:
    return steps.late()


@task(execution_timeout=timedelta(seconds=1))
def stuck() -> str:
    return steps.stuck()


@task
def mortal(number: int) -> int:
    return steps.mortal(number)


@task
def link(number: int, value: Any) -> Any:
    return steps.link(number, value)


@task
def seed() -> Any:
    return steps.seed()


def first() -> None:
    with DAG("first", schedule=None, start_date=START) as dag:
        last = add(add(add(0)))
    run = dag.test()
    [value] = [ti.xcom_pull(task_ids=last.operator.task_id) for ti in run.get_task_instances()][-1:]
    steps.say(value=value)


def overhead(count: int) -> None:
    def run(count: int) -> None:
        with DAG(f"many-{count}", schedule=None, start_date=START) as dag:
            before = nothing()
            for _ in range(count - 1):
                after = nothing()
                before >> after
                before = after
        dag.test()

    steps.per_step(run, count)


def limited(step: Any) -> None:
    with DAG("limited", schedule=None, start_date=START) as dag:
        step()
    run = dag.test()
    steps.say(said=str(run.state))


def died() -> None:
    with DAG("died", schedule=None, start_date=START) as dag:
        for number in range(4):
            mortal(number)
    run = dag.test()
    steps.say(said=str(run.state))


def chain() -> None:
    with DAG("chain", schedule=None, start_date=START) as dag:
        value = seed()
        for number in steps.CHAIN:
            value = link(number, value)
    run = dag.test(logical_date=START)
    steps.say(said=str(run.state))


if __name__ == "__main__":
    steps.main(
        {
            "first": first,
            "durable": overhead,
            "late": lambda: limited(late),
            "stuck": lambda: limited(stuck),
            "died": died,
            "chain": chain,
        }
    )
