"""The graph: tasks by name, maps, and graphs that are wide, deep or both."""

import time
from collections.abc import Callable, Iterator, Mapping

from measure import Row, best, fresh, fresh_contender
from peers import chain_module
from sequential import per_piece
from workflows import completed, no_op, quiet

from dotflow import DotFlow, action
from dotflow.core.action import Action

COLUMNS = 40  # of the lattice


@action
def source() -> int:
    return 1


@action
def follow(source: int) -> int:
    return source


@action
def join(**values: int) -> int:
    return len(values)


@action
def add_up(left: int, right: int) -> int:
    return (left + right) % 1000


def same(value: int) -> int:
    return value


def need_rows(quick: bool) -> Iterator[Row]:
    """A task that receives another one's value by name, beside a task that receives none."""
    times = fresh(measure_need, 1_000, 5 if quick else 25)
    for part, budget in (("", 0), ("start alone, ", 1.4)):
        plain, ours = times[f"{part}plain"], times[f"{part}named"]
        yield Row(
            what=f"a task with a named need, {part or 'add and start, '}1,000 of them",
            ours=ours,
            peers={"task without needs": plain},
            budget=f"{budget} × a task without needs" if budget else "",
            within=ours <= plain * budget if budget else None,
        )


def measure_need(count: int, repeats: int) -> dict[str, float]:
    """Seconds for each task."""
    built = {"plain": plain(count), "named": star(count)}
    contenders: dict[str, Callable[[], object]] = {
        "plain": lambda: completed(plain(count)),
        "named": lambda: completed(star(count)),
        "start alone, plain": lambda: completed(built["plain"]),
        "start alone, named": lambda: completed(built["named"]),
    }
    return per_piece(contenders, count, repeats)


def type_rows(quick: bool) -> Iterator[Row]:
    """What it costs to compare annotations at `add`: a task that takes a typed value, beside one without types."""
    times = fresh(measure_types, 1_000, 5 if quick else 25)
    ours, untyped = times["typed"], times["untyped"]
    yield Row(
        what="adding a task that takes a list[dict[str, int]], 1,000 of them",
        ours=ours,
        peers={"without annotations": untyped},
        budget="5 µs more",
        within=ours <= untyped + 5e-6,
    )


def measure_types(count: int, repeats: int) -> dict[str, float]:
    """Seconds for each task."""

    @action
    def rows() -> list[dict[str, int]]:
        return []

    @action
    def typed(rows: list[dict[str, int]]) -> int:
        return len(rows)

    @action
    def untyped(rows):  # type: ignore[no-untyped-def]
        return len(rows)

    def adding(step: Action[..., object]) -> Callable[[], object]:
        return lambda: DotFlow(quiet()).task.add([rows, *[step] * count])

    return per_piece({"typed": adding(typed), "untyped": adding(untyped)}, count, repeats)


def chain_rows(quick: bool) -> Iterator[Row]:
    """A chain in which each task takes the value of the one before by its name: building the graph and running it.

    Hamilton finds a function's arguments by their names, too. Dask's graph is made of calls that are put off.
    """
    count = 200  # Hamilton's limit is Python's recursion limit
    times = fresh(measure_chain, count, 5 if quick else 25)
    yield Row(what=f"a chain of {count} tasks by name, each", ours=times.pop("dotflow"), peers=times)


def measure_chain(count: int, repeats: int) -> dict[str, float]:
    """Seconds for each task."""
    from dask.delayed import delayed
    from hamilton import driver

    module = chain_module(count)
    steps = [action(vars(module)[f"t{number}"]) for number in range(count)]

    def ours() -> None:
        workflow = DotFlow(quiet())
        for step in steps:
            workflow.task.add(step)
        completed(workflow)

    def with_dask() -> None:
        value = delayed(source.function)()
        for _ in range(count - 1):
            value = delayed(same)(value)
        value.compute(scheduler="synchronous")

    contenders: dict[str, Callable[[], object]] = {
        "dotflow": ours,
        "Hamilton": lambda: driver.Builder().with_modules(module).build().execute([f"t{count - 1}"]),
        "dask.delayed": with_dask,
    }
    return per_piece(contenders, count, repeats)


def shape_rows(quick: bool) -> Iterator[Row]:
    """Large graphs, beside the same graph of a quarter of the size: a task costs the same in both if all is linear."""
    shapes: Mapping[str, tuple[str, int]] = {
        "a fan-in of 2,000": ("fan_in", 2_000),
        "a width of 10,000": ("star", 10_000),
        "a diamond lattice of 2,000": ("lattice", 2_000),
        "500 tasks and 500 cleanups": ("cleanups", 500),
    }
    for mode in ("sequential",) if quick else ("sequential", "parallel"):
        for what, (shape, count) in shapes.items():
            sizes = {"a quarter": count // 4, "half": count // 2, "all": count}
            times = best({name: fresh_contender(measure_shape, shape, size, mode) for name, size in sizes.items()}, 3)
            ours = times.pop("all")
            yield Row(
                what=f"a task in {what}, {mode}",
                ours=ours,
                peers={f"{name} of them": seconds for name, seconds in times.items()},
                budget="1.3 × a quarter of them",
                within=ours <= times["a quarter"] * 1.3,
            )


def measure_shape(shape: str, count: int, mode: str) -> float:
    """Seconds of this process's CPU time for each task, add and start: how busy the machine is does not count."""
    began = time.process_time()
    completed(globals()[shape](count), mode)
    return (time.process_time() - began) / count


def plain(count: int) -> DotFlow:
    workflow = DotFlow(quiet())
    for _ in range(count):
        workflow.task.add(no_op)
    return workflow


def star(count: int) -> DotFlow:
    """One source, and the others take its value."""
    workflow = DotFlow(quiet())
    workflow.task.add(source)
    for _ in range(count - 1):
        workflow.task.add(follow)
    return workflow


def fan_in(count: int) -> DotFlow:
    workflow = DotFlow(quiet())
    names = [f"source_{number}" for number in range(count - 1)]
    for name in names:
        workflow.task.add(source, name=name)
    workflow.task.add(join, needs={name: name for name in names})
    return workflow


def lattice(count: int) -> DotFlow:
    """Rows in which each task takes the values of two of the row before."""
    workflow = DotFlow(quiet())
    for number in range(count):
        row, column = divmod(number, COLUMNS)
        if row:
            needs = {"left": f"t{row - 1}_{column}", "right": f"t{row - 1}_{(column + 1) % COLUMNS}"}
            workflow.task.add(add_up, name=f"t{row}_{column}", needs=needs)
        else:
            workflow.task.add(source, name=f"t{row}_{column}")
    return workflow


def cleanups(count: int) -> DotFlow:
    """So many tasks, and after each a cleanup."""
    workflow = DotFlow(quiet())
    for number in range(count):
        workflow.task.add(source, name=f"s{number}")
        workflow.task.add(follow, name=f"c{number}", needs={"source": f"s{number}"}, always=True)
    return workflow
