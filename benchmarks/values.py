"""What a large value costs on its way, and what a finished task leaves in memory."""

import gc
import itertools
import pickle
import statistics
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

from measure import Row, best, fresh, fresh_contender, seconds_of
from peers import dbos_steps
from workflows import MEGABYTES_50, completed, echo, no_op, quiet, workflow_of

from dotflow import Context, DotFlow, action
from dotflow.providers import ExecutorProcess

_made: list[bytearray] = []


def make() -> bytearray:
    """50 MB. The memory is touched before the clock runs, so that the kernel's part of it is nobody's."""
    if not _made:
        _made.append(bytearray(b"x") * MEGABYTES_50)
    return _made[0]


def same(value: Any) -> bool:
    """Whether this is the very object that `make` returned here."""
    return bool(_made) and value is _made[0]


def give_back(value: Any) -> Any:
    return value


making = action(make)


@action
def checking(previous_context: Context) -> bool:
    return same(previous_context.storage)


def lane_rows(quick: bool) -> Iterator[Row]:
    """50 MB from one step to the next: as the same object in a lane; of a group lane only the result travels, once.

    A plain call hands the object on as well; one copy is what it would cost not to. With a pool, the value of the first
    call comes back and travels out again to the second.
    """
    found = fresh(measure_sequential_lane, 3 if quick else 15)
    ours, copy = found.pop("dotflow"), found["one copy"]
    yield Row(what="50 MB to the next step", ours=ours, peers=found, budget="no copy", within=ours < copy / 10)
    contenders = {
        "dotflow": fresh_contender(measure_group_lane),
        "ProcessPoolExecutor": fresh_contender(measure_pool_lane),
    }
    found = best(contenders, 1 if quick else 5)
    ours = found.pop("dotflow")
    one_way = fresh(measure_round_trip, 3 if quick else 9)
    yield Row(
        what="50 MB to the next step of a group, start included",
        ours=ours,
        peers=found | {"pickled and unpickled here": one_way},
        budget="no copy in the lane",
        within=True,  # measure_group_lane raises otherwise
    )


def measure_sequential_lane(repeats: int) -> dict[str, float]:
    """Seconds for the two steps."""
    workflow = DotFlow(quiet())
    workflow.task.add([making, checking])
    value = make()

    def ours() -> None:
        if completed(workflow).result_storage()[1] is not True:
            raise RuntimeError("the value was copied")

    contenders: dict[str, Callable[[], object]] = {
        "dotflow": ours,
        "plain calls": lambda: same(make()),
        "one copy": lambda: bytes(value),
    }
    return best({name: lambda work=work: seconds_of(work) for name, work in contenders.items()}, repeats)


def measure_group_lane() -> float:
    """Seconds for a group of the two steps, beside another group."""
    workflow = DotFlow(quiet())
    workflow.task.add([making, checking], group_name="large").add(no_op, group_name="other")
    taken = seconds_of(lambda: completed(workflow))
    if workflow.result_storage()[1] is not True:
        raise RuntimeError("the value was copied")
    return taken


def measure_pool_lane() -> float:
    """Seconds for the same with a pool: the value comes back and is sent again."""

    def run() -> None:
        with ProcessPoolExecutor(max_workers=2) as pool:
            pool.submit(same, pool.submit(make).result()).result()

    return seconds_of(run)


def measure_round_trip(repeats: int) -> float:
    """Seconds to pickle it and back, within one process."""
    value = make()
    return best({"": lambda: seconds_of(lambda: pickle.loads(pickle.dumps(value, protocol=5)))}, repeats)[""]


def process_rows(quick: bool) -> Iterator[Row]:
    """50 MB as the initial context of a parallel step, which returns them: to the worker and back.

    The pool does the same. Pickling both ways within one process is the least that a worker that was not born with the
    value can take; one that was forked has it already, so only the way back is left.
    """
    repeats = 1 if quick else 5
    found = best(
        {
            "fork": fresh_contender(measure_there_and_back, "fork"),
            "forkserver": fresh_contender(measure_there_and_back, "forkserver"),
            "ProcessPoolExecutor": fresh_contender(measure_pool),
        },
        repeats,
    )
    one_way = fresh(measure_round_trip, 3 if quick else 9)
    ours = {method: found.pop(method) for method in ("fork", "forkserver")}
    for method, seconds in ours.items():
        ways = 1 if method == "fork" else 2
        yield Row(
            what=f"50 MB to a process and back, {method}, start included",
            ours=seconds,
            peers=found | {f"pickled and unpickled here, {ways}×": one_way * ways},
            budget="one pickle each way",
        )


def measure_there_and_back(method: str) -> float:
    """Seconds from start() to its end."""
    workflow = workflow_of(echo, 1, quiet(ExecutorProcess(start_method=method)), make())
    return seconds_of(lambda: completed(workflow, "parallel"))


def measure_pool() -> float:
    """Seconds for the same with a pool."""
    value = make()

    def run() -> None:
        with ProcessPoolExecutor(max_workers=1) as pool:
            pool.submit(give_back, value).result()

    return seconds_of(run)


def memory_rows(quick: bool) -> Iterator[Row]:
    """What a finished task keeps, its value included: definition, record, context, place in the storage.

    It is what the process grows by. The limit is a list of the values: dicts with an int. DBOS keeps them in SQLite,
    and in a list; the object that stands for a finished call elsewhere is a Future.
    """
    found = {name: fresh(measure_memory, name, 5_000) for name in ("dotflow", "Future", "limit: its value")}
    found |= {} if quick else {"DBOS": fresh(measure_memory, "DBOS", 1_000)}
    ours = found.pop("dotflow")
    what = "memory, a task that was added and has finished"
    yield Row(what=what, ours=ours, peers=found, unit="B", budget="850 B", within=ours < 850)


def measure_memory(contender: str, count: int) -> float:
    """Bytes for each."""
    import psutil

    kept: list[Any] = []
    numbers = iter(range(10**6, 10**9))
    counted = action(lambda: {"row": next(numbers)})

    def grown(keep: Callable[[int], Any]) -> float:
        """Returns the median of three growths. What is made once is made before."""
        process = psutil.Process()
        kept.append(keep(100))
        sizes = []
        for _ in range(4):
            gc.collect()
            sizes.append(process.memory_info().rss)
            kept.append(keep(count))
        return statistics.median(after - before for before, after in itertools.pairwise(sizes)) / count

    match contender:
        case "dotflow":
            return grown(lambda number: completed(workflow_of(counted, number)))
        case "Future":
            with ThreadPoolExecutor(max_workers=1) as pool:
                return grown(lambda number: [pool.submit(counted.function) for _ in range(number)])
        case "DBOS":
            with dbos_steps(counted.function) as workflow:
                return grown(workflow)
    return grown(lambda number: [counted.function() for _ in range(number)])
