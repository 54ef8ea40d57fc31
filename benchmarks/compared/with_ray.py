"""Ray: tasks on a cluster of this machine; what is late is ended with cancel(force=True)."""

from collections.abc import Callable

import ray
import steps


@ray.remote
def add(value: int) -> int:
    return value + 1


@ray.remote(max_retries=0)
def call(step: Callable[[], str]) -> str:
    return step()


@ray.remote
def mortal(number: int) -> int:
    return steps.mortal(number)


def on_cluster(work: Callable[[], None], workers: int = 1) -> None:
    ray.init("local", num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    work()
    ray.shutdown()


def first() -> None:
    reference = add.remote(0)
    for _ in range(2):
        reference = add.remote(reference)
    steps.say(value=ray.get(reference))


def overhead(count: int) -> None:
    def run(count: int) -> None:
        reference = add.remote(0)
        for _ in range(count - 1):
            reference = add.remote(reference)
        ray.get(reference)

    steps.per_step(run, count)


def limited(step: Callable[[], str]) -> None:
    reference = call.remote(step)
    ready, _ = ray.wait([reference], timeout=1)
    if not ready:
        ray.cancel(reference, force=True)
    try:
        steps.say(said=ray.get(reference))
    except ray.exceptions.RayError as error:
        steps.say(said=steps.name_of(error))


def died() -> None:
    said = set()
    for reference in [mortal.options(max_retries=0).remote(number) for number in range(4)]:
        try:
            ray.get(reference)
        except ray.exceptions.RayError as error:
            said.add(steps.name_of(error))
    steps.say(said=", ".join(said))


if __name__ == "__main__":
    steps.main(
        {
            "first": lambda: on_cluster(first),
            "overhead": lambda count: on_cluster(lambda: overhead(count)),
            "late": lambda: on_cluster(lambda: limited(steps.late)),
            "stuck": lambda: on_cluster(lambda: limited(steps.stuck)),
            "died": lambda: on_cluster(died, workers=4),
        }
    )
