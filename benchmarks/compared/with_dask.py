"""Dask: a LocalCluster of worker processes with one thread each, and futures."""

import operator
from collections.abc import Callable

import steps
from distributed import Client, LocalCluster


def add(value: int) -> int:
    return value + 1


def on_cluster(work: Callable[[Client], None], workers: int = 1) -> None:
    with LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as c:
        work(c)


def first(client: Client) -> None:
    future = client.submit(add, 0)
    for _ in range(2):
        future = client.submit(add, future)
    steps.say(value=future.result())


def overhead(client: Client, count: int) -> None:
    def run(count: int) -> None:
        future = client.submit(operator.add, 0, 1, pure=False)
        for _ in range(count - 1):
            future = client.submit(operator.add, future, 1, pure=False)
        future.result()

    steps.per_step(run, count)


def limited(step: Callable[[], str]) -> None:
    """What is late can only be waited for no longer; it is over when the cluster is closed: that is when it is told."""
    said = []

    def work(client: Client) -> None:
        future = client.submit(step, retries=0)
        try:
            said.append(future.result(timeout=1))
        except TimeoutError as error:
            said.append(steps.name_of(error))
            future.cancel(force=True)

    on_cluster(work)
    steps.say(said=said[0])


def died(client: Client) -> None:
    futures = client.map(steps.mortal, range(4), retries=0)
    steps.say(said=", ".join({steps.name_of(error) for future in futures if (error := future.exception())}))


if __name__ == "__main__":
    steps.main(
        {
            "first": lambda: on_cluster(first),
            "overhead": lambda count: on_cluster(lambda client: overhead(client, count)),
            "late": lambda: limited(steps.late),
            "stuck": lambda: limited(steps.stuck),
            "died": lambda: on_cluster(died, workers=4),
        }
    )
