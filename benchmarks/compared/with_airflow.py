"""Airflow: DAGs run by dag.test(), in this process, with its SQLite and no scheduler. The DAGs' folder is this one."""

from datetime import UTC, datetime, timedelta
from typing import Any

import steps
from airflow.sdk import DAG, task

START = datetime(2026, 1, 1, tzinfo=UTC)


@task
def add(value: int) -> int:
    return value + 1


@task
def check(value: int) -> None:
    steps.say(value=value + 1)


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
    return steps.link(number, value if number > 1 else steps.seed())


def many(count: int) -> DAG:
    with DAG(f"many-{count}", schedule=None, start_date=START) as dag:
        before = nothing()
        for _ in range(count - 1):
            after = nothing()
            before >> after
            before = after
    return dag


with DAG("three", schedule=None, start_date=START) as three:
    check(add(add(0)))
with DAG("late", schedule=None, start_date=START) as late_dag:
    late()
with DAG("stuck", schedule=None, start_date=START) as stuck_dag:
    stuck()
with DAG("died", schedule=None, start_date=START) as died:
    for number in range(4):
        mortal(number)
with DAG("chain", schedule=None, start_date=START) as chain:
    value = None
    for number in steps.CHAIN:
        value = link(number, value)
few, more = many(2), many(20)


def tested(dag: DAG, **arguments: Any) -> None:
    steps.say(said=str(dag.test(**arguments).state))


if __name__ == "__main__":
    steps.main(
        {
            "first": three.test,
            "durable": lambda count: steps.per_step(lambda count: {2: few, 20: more}[count].test(), count),
            "late": lambda: tested(late_dag),
            "stuck": lambda: tested(stuck_dag),
            "died": lambda: tested(died),
            "chain": lambda: tested(chain, logical_date=START),
        }
    )
