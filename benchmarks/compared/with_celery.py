"""Celery: a worker of four processes that this program starts, and a Redis that the harness starts, beside it."""

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import steps
from celery import Celery, chain, group

REDIS = os.environ.get("COMPARED_REDIS", "redis://127.0.0.1:6379/0")
app = Celery("with_celery", broker=REDIS, backend=REDIS)
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=False,
    worker_prefetch_multiplier=1,
    broker_transport_options={"visibility_timeout": 5},  # seconds until an unacknowledged task is sent again
    result_backend_transport_options={"visibility_timeout": 5},
)


@app.task
def add(value: int) -> int:
    return value + 1


@app.task
def nothing(_: None) -> None:
    pass


@app.task(time_limit=1)
def late() -> str:
    return steps.late()


@app.task(time_limit=1)
def stuck() -> str:
    return steps.stuck()


@app.task
def mortal(number: int) -> int:
    return steps.mortal(number)


@app.task
def link(value: Any, number: int) -> Any:
    return steps.link(number, value)


def with_worker(work: Callable[[], None]) -> None:
    command = [sys.executable, "-m", "celery", "--app=with_celery", "worker", "--concurrency=4", "--loglevel=ERROR"]
    worker = subprocess.Popen(command, env=os.environ | {"C_FORCE_ROOT": "1"})
    try:
        work()
    finally:
        worker.terminate()
        worker.wait()


def first() -> None:
    steps.say(value=chain(add.s(0), add.s(), add.s())().get())


def overhead(count: int) -> None:
    def run(count: int) -> None:
        chain(nothing.s(None), *(nothing.s() for _ in range(count - 1)))().get()

    steps.per_step(run, count)


def limited(task: Any) -> None:
    try:
        steps.say(said=task.delay().get())
    except Exception as error:
        steps.say(said=steps.name_of(error))


def died() -> None:
    results = group(mortal.s(number) for number in range(4))()
    said = set()
    for result in results:
        try:
            result.get()
        except Exception as error:
            said.add(steps.name_of(error))
    steps.say(said=", ".join(said))


def linked() -> None:
    """The first life sends the chain; the second only starts the worker again: the rest lies in the broker."""
    if (steps.FOLDER / "killed").exists():
        last = app.AsyncResult((steps.FOLDER / "task-id").read_text())
    else:
        last = chain(link.s(steps.seed(), 1), *(link.s(number) for number in steps.CHAIN[1:]))()
        (steps.FOLDER / "task-id").write_text(last.id)
    last.get()
    steps.say(said="completed")


if __name__ == "__main__":
    steps.main(
        {
            "first": lambda: with_worker(first),
            "overhead": lambda count: with_worker(lambda: overhead(count)),
            "late": lambda: with_worker(lambda: limited(late)),
            "stuck": lambda: with_worker(lambda: limited(stuck)),
            "died": lambda: with_worker(died),
            "chain": lambda: with_worker(linked),
        }
    )
