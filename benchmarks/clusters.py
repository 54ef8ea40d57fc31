"""What an attempt costs on a cluster, beside the same work given to Dask and Ray by hand, on the same cluster.

Each is a real one on this machine: a scheduler, or a head, and two workers in processes of their own.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from measure import Row, best, fresh, median, seconds_of
from workflows import completed, quiet

from dotflow import Context, DotFlow, action
from dotflow.abc.executor import Executor
from dotflow.providers import ExecutorDask, ExecutorRay

MB: Final = 1_000_000

#: What is measured -> the words of its row, how many steps, and how many with --quick.
MEASURED: Final[Mapping[str, tuple[str, int, int]]] = {
    "one": ("run of one no-op step", 1, 1),
    "small": ("no-op steps at once", 10_000, 1_000),
    "made": ("steps that return 5 MB", 100, 20),
    "echoed": ("steps that are given 5 MB and return them", 100, 20),
    "lane": ("steps of a lane that hand on 20 MB", 10, 5),
    "thread lane": ("steps of a lane that hand on 20 MB, with isolate=False", 10, 5),
    "calls": ("calls in a durable step", 2_000, 200),
    "thread calls": ("calls in a durable step, with isolate=False", 2_000, 200),
}

#: What is mapped -> the words of its row, the number of items, that with --quick, and the limit beside the bare map.
MAPPED: Final[Mapping[str, tuple[str, int, int, float]]] = {
    "nothing": ("items that do nothing", 1_000, 200, 0.8),
    "short": ("items of 1 ms", 10_000, 500, 0.8),
    "busy": ("items of 0.2 s of CPU", 16, 8, 1.05),
    "large": ("items of 1 MB", 300, 50, 1.1),
}

Work = Callable[[int], object]


class ByHand(NamedTuple):
    """A cluster as one would use it without dotflow.

    Attributes:
        name: What is called.
        submit: Has a function called there; gives something that stands for its value.
        map: Has a function called there for each member of a range; gives the list of values.
        put: Sends a value there; gives something that stands for it.
        fetch: Brings the values here for which the members of a list stand.
    """

    name: str
    submit: Callable[..., Any]
    map: Callable[[Callable[[int], Any], range], list[Any]]
    put: Callable[[Any], Any]
    fetch: Callable[[Any], Any]


def dask_rows(quick: bool) -> Iterator[Row]:
    """Steps on two Dask workers with two threads each, beside `client.submit` and `client.gather`."""
    yield from _rows("ExecutorDask", measure_dask, quick)


def ray_rows(quick: bool) -> Iterator[Row]:
    """Steps on two Ray nodes with two CPUs each, beside a function made with `ray.remote`, and `ray.get`."""
    yield from _rows("ExecutorRay", measure_ray, quick)


def _rows(executor: str, measure: Callable[[str, bool], dict[str, float]], quick: bool) -> Iterator[Row]:
    """By hand nothing is recorded, the cluster repeats by itself what it lost, and a step that crashes takes its worker
    along. dotflow brings each value here once, for the record; so do those who fetch all of a lane's by hand, while
    the last one alone is all that is needed without a record.
    """
    for name, (words, many, few) in MEASURED.items():
        found = fresh(measure, name, quick)
        what = f"{executor}, {few if quick else many:,} {words}, each"
        yield Row(what=what, ours=found.pop("dotflow"), peers=found)
    for name, (words, many, few, limit) in MAPPED.items():
        found = fresh(measure, name, quick)
        what = f"{executor}, map of {few if quick else many:,} {words}"
        yield Row.beside(what, found, limit, "by hand")


def measure_dask(name: str, quick: bool) -> dict[str, float]:
    """Seconds for a step, by who has it made."""
    sys.path.append(str(Path(__file__).parents[1]))
    from distributed import Client

    from tests.clusters.dask import DaskProcesses

    with DaskProcesses() as cluster, Client(cluster.address, set_as_default=False) as client:
        client.wait_for_workers(2)
        by_hand = ByHand(
            "client.submit and gather",
            lambda function, *arguments: client.submit(function, *arguments, pure=False),
            lambda function, items: client.gather(client.map(function, items, pure=False)),
            lambda value: client.scatter(value, hash=False),
            client.gather,
        )
        return _measured(name, quick, ExecutorDask(client), by_hand)


def measure_ray(name: str, quick: bool) -> dict[str, float]:
    """Seconds for a step, by who has it made."""
    sys.path.append(str(Path(__file__).parents[1]))
    from tests.clusters.ray import RayProcesses

    with RayProcesses() as cluster, cluster.connection():
        import ray

        remotes: dict[Any, Any] = {}

        def submit(function: Callable[..., Any], *arguments: Any) -> Any:
            if function not in remotes:
                remotes[function] = ray.remote(function)
            return remotes[function].remote(*arguments)

        def map_there(function: Callable[[int], Any], items: range) -> list[Any]:
            return list(ray.get([submit(function, item) for item in items]))

        by_hand = ByHand("ray.remote and ray.get", submit, map_there, ray.put, ray.get)
        return _measured(name, quick, ExecutorRay(), by_hand)


def _measured(name: str, quick: bool, executor: Executor, by_hand: ByHand) -> dict[str, float]:
    """Before the clock runs, each has a few steps made: nobody pays for the first connection, process and import."""
    if name in MAPPED:
        return _mapped(name, quick, executor, by_hand)
    _, many, few = MEASURED[name]
    count = few if quick else many
    works = {"dotflow": OURS[name](executor), **BARE[name](by_hand)}
    for work in works.values():
        work(4)
    contenders = {who: lambda work=work: seconds_of(lambda: work(count)) / count for who, work in works.items()}
    return best(contenders, 1 if quick else 2)


def _mapped(name: str, quick: bool, executor: Executor, by_hand: ByHand) -> dict[str, float]:
    """Seconds for a whole map and its values: medians, in turn, so that other load meets both alike."""
    _, many, few, _ = MAPPED[name]
    function, items = MAPS[name](), range(few if quick else many)

    def ours(count: int) -> None:
        workflow = DotFlow(quiet(executor))
        workflow.task.add(action(function), each=list(range(count)))
        completed(workflow, "parallel")

    ours(8)
    by_hand.map(function, range(8))
    contenders = {
        "dotflow": lambda: seconds_of(lambda: ours(len(items))),
        "by hand": lambda: seconds_of(lambda: by_hand.map(function, items)),
    }
    return median(contenders, 1 if quick else 5)


# Functions that a step is made of are local ones: they travel by value to workers that can't import this module.


def _our_small(executor: Executor) -> Work:
    return _at_once(executor, lambda: None)


def _our_made(executor: Executor) -> Work:
    return _at_once(executor, lambda: bytes(5 * MB))


def _our_echoed(executor: Executor) -> Work:
    return _at_once(executor, lambda initial_context: initial_context.storage, bytes(5 * MB))


def _our_lane(executor: Executor, isolate: bool | None = None) -> Work:
    def hand_on(previous_context: Context) -> Any:
        return previous_context.storage or bytes(20 * MB)

    return lambda count: completed(_workflow(executor, hand_on, count, isolate=isolate))


def _our_thread_lane(executor: Executor) -> Work:
    return _our_lane(executor, isolate=False)


def _our_calls(executor: Executor, isolate: bool | None = None) -> Work:
    @action
    def call(number: int) -> int:
        return number

    @action(durable=True, isolate=isolate)
    def body(count: int) -> None:
        for number in range(count):
            call(number)

    def start(count: int) -> None:
        workflow = DotFlow(quiet(executor))
        workflow.task.add(body, params={"count": count})
        completed(workflow)

    return start


def _our_thread_calls(executor: Executor) -> Work:
    return _our_calls(executor, isolate=False)


def _at_once(executor: Executor, function: Callable[..., Any], given: Any = None) -> Work:
    return lambda count: completed(_workflow(executor, function, count, given), "parallel")


def _workflow(
    executor: Executor, function: Callable[..., Any], count: int, given: Any = None, isolate: bool | None = None
) -> DotFlow:
    workflow = DotFlow(quiet(executor))
    workflow.task.add([action(isolate=isolate)(function)] * count, initial_context=given)
    return workflow


def _bare_small(by_hand: ByHand) -> dict[str, Work]:
    nothing = lambda: None  # noqa: E731 (a function of this module would travel by its name)
    return {by_hand.name: lambda count: by_hand.fetch([by_hand.submit(nothing) for _ in range(count)])}


def _bare_made(by_hand: ByHand) -> dict[str, Work]:
    make = lambda: bytes(5 * MB)  # noqa: E731
    return {by_hand.name: lambda count: by_hand.fetch([by_hand.submit(make) for _ in range(count)])}


def _bare_echoed(by_hand: ByHand) -> dict[str, Work]:
    echo, value = lambda value: value, bytes(5 * MB)
    return {by_hand.name: lambda count: by_hand.fetch([by_hand.submit(echo, by_hand.put(value)) for _ in range(count)])}


def _bare_lane(by_hand: ByHand) -> dict[str, Work]:
    hand_on = lambda value: value or bytes(20 * MB)  # noqa: E731

    def futures(count: int) -> list[Any]:
        made: list[Any] = [None]
        for _ in range(count):
            made.append(by_hand.submit(hand_on, made[-1]))
        return made[1:]

    def in_turn(count: int) -> None:
        last: Any = None
        for _ in range(count):  # as for a record of each step before the next one begins
            last = by_hand.submit(hand_on, last)
            by_hand.fetch([last])

    return {
        f"{by_hand.name}, of all": lambda count: by_hand.fetch(futures(count)),
        f"{by_hand.name}, of each before the next": in_turn,
        f"{by_hand.name}, of the last": lambda count: by_hand.fetch(futures(count)[-1:]),
    }


def _bare_calls(by_hand: ByHand) -> dict[str, Work]:
    nothing = lambda: None  # noqa: E731

    def in_turn(count: int) -> None:
        for _ in range(count):
            by_hand.fetch([by_hand.submit(nothing)])

    return {f"{by_hand.name}, a task for each": in_turn}


def _nothing() -> Callable[[int], Any]:
    return lambda item: None


def _short() -> Callable[[int], Any]:
    def short(item: int) -> int:
        import time

        time.sleep(0.001)
        return item

    return short


def _busy() -> Callable[[int], Any]:
    def busy(item: int) -> int:
        import time

        end = time.thread_time() + 0.2
        while time.thread_time() < end:
            pass
        return item

    return busy


def _large() -> Callable[[int], Any]:
    return lambda item: bytes(MB)


MAPS: Final = {"nothing": _nothing, "short": _short, "busy": _busy, "large": _large}
OURS: Final = {
    "one": _our_small,
    "small": _our_small,
    "made": _our_made,
    "echoed": _our_echoed,
    "lane": _our_lane,
    "thread lane": _our_thread_lane,
    "calls": _our_calls,
    "thread calls": _our_thread_calls,
}
BARE: Final = {
    "one": _bare_small,
    "small": _bare_small,
    "made": _bare_made,
    "echoed": _bare_echoed,
    "lane": _bare_lane,
    "thread lane": _bare_lane,
    "calls": _bare_calls,
    "thread calls": _bare_calls,
}
