"""Luigi: tasks with a file each, the local scheduler, and two workers where a task has to be killed."""

import json
from typing import Any

import luigi
import steps


class Step(luigi.Task):
    """A task that writes what it made into a JSON file of its own, as its documentation does."""

    number = luigi.IntParameter()
    run_id = luigi.Parameter(default="")

    def requires(self) -> list[luigi.Task]:
        return [type(self)(self.number - 1, self.run_id)] if self.number > 1 else []

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(f"{type(self).__name__}-{self.run_id}-{self.number}.json")

    def before(self) -> Any:
        if self.number == 1:
            return None
        with self.input()[0].open() as file:
            return json.load(file)

    def keep(self, value: Any) -> None:
        with self.output().open("w") as file:
            json.dump(value, file)


class Add(Step):
    def run(self) -> None:
        self.keep((self.before() or 0) + 1)


class Nothing(Step):
    def run(self) -> None:
        self.keep(None)


class PerProcess(Step):
    worker_timeout = 1

    def run(self) -> None:
        self.keep(steps.late())


class Stuck(Step):
    worker_timeout = 1

    def run(self) -> None:
        self.keep(steps.stuck())


class Mortal(Step):
    def requires(self) -> list[luigi.Task]:
        return []

    def run(self) -> None:
        self.keep(steps.mortal(self.number))


class Link(Step):
    def run(self) -> None:
        self.keep(steps.link(self.number, self.before() if self.number > 1 else steps.seed()))


def build(tasks: list[luigi.Task], **options: Any) -> str:
    result = luigi.build(tasks, local_scheduler=True, log_level="ERROR", detailed_summary=True, **options)
    return str(result.status.name)


def first() -> None:
    build([Add(3)])
    with Add(3).output().open() as file:
        steps.say(value=json.load(file))


def durable(count: int) -> None:
    steps.per_step(lambda count: build([Nothing(count, str(count))]), count)


if __name__ == "__main__":
    steps.main(
        {
            "first": first,
            "durable": durable,
            "late": lambda: steps.say(said=build([PerProcess(1)], workers=2)),
            "stuck": lambda: steps.say(said=build([Stuck(1)], workers=2)),
            "died": lambda: steps.say(said=build([Mortal(number) for number in range(4)], workers=4)),
            "chain": lambda: steps.say(said=build([Link(5)])),
        }
    )
