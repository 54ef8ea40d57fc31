"""Maps: a step for each item of a list: values, failures, statuses, chains, limits and what is reported of them."""

import asyncio
import os
import re
import threading
import time
from collections.abc import Callable, Hashable
from typing import Any

import pytest

from dotflow import Context, DotFlow, Task, action
from dotflow.abc.executor import CompletedCall, Executor, ExecutorSession
from dotflow.abc.history import History
from dotflow.core.call import Call
from dotflow.core.events import Event, MapEnded, MapOpened, TaskFailed
from dotflow.errors import InvalidLink
from dotflow.processes.channel import Channel
from dotflow.processes.process_session import ProcessSession
from dotflow.providers import ExecutorAsync, ExecutorProcess, ExecutorThread
from dotflow.worker.attempt import attempt
from dotflow.worker.loops import Loops
from tests.integration.modes import COMPLETED, FAILED, MODES, NOT_STARTED, SKIPPED, group, start, statuses
from tests.marks import in_any_worker

MakeWorkflow = Callable[..., DotFlow]
WAIT = 45.0  # seconds, for what happens at once


@action
def numbers() -> list[int]:
    return [1, 2, 3]


@action
def square(number: int) -> int:
    return number * number


@action
def total(square: list[int]) -> int:
    return sum(square)


@in_any_worker
@pytest.mark.parametrize("mode", MODES)
def test_a_step_for_each_item(make_workflow: MakeWorkflow, mode: str) -> None:
    """The value of a mapped task is the list of its items' values, in the list's order; a reduce is a plain step."""
    workflow = make_workflow()
    workflow.task.add(numbers, group_name=group(mode, 0)).add(square, each=numbers, group_name=group(mode, 1))
    workflow.task.add(total, group_name=group(mode, 0))

    run = start(workflow, mode)

    assert run.status is COMPLETED
    assert workflow.result_storage() == [[1, 2, 3], [1, 4, 9], 14]
    items = workflow.result_task()[1].items
    assert [(item.item, item.input, item.status, item.current_context.storage) for item in items] == [
        (0, 1, COMPLETED, 1),
        (1, 2, COMPLETED, 4),
        (2, 3, COMPLETED, 9),
    ]
    assert all(item.duration is not None and item.attempt == 1 for item in items)


@pytest.mark.parametrize("executor", [ExecutorThread, ExecutorAsync, ExecutorProcess])
def test_on_every_executor(make_workflow: MakeWorkflow, executor: Callable[[], Executor]) -> None:
    """Items run in threads, in one event loop and in processes, and a coroutine's beside a function's."""

    @action
    async def double(number: int) -> int:
        return 2 * number

    workflow = make_workflow(executor=executor())
    workflow.task.add(numbers).add(square, each=numbers).add(double, each="numbers").add(total)

    assert workflow.start(mode="parallel").status is COMPLETED
    assert workflow.result_storage()[1:] == [[1, 4, 9], [2, 4, 6], 14]


def test_items_run_side_by_side_up_to_a_limit(make_workflow: MakeWorkflow) -> None:
    """max_parallel items at once, no more and no fewer."""
    lock = threading.Lock()
    running, most = 0, 0
    together = threading.Barrier(3)

    @action
    def work(number: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait(WAIT)
        with lock:
            running -= 1

    workflow = make_workflow(executor=ExecutorThread())
    workflow.task.add(work, each=list(range(9)), max_parallel=3)

    assert workflow.start(mode="parallel").status is COMPLETED
    assert most == 3


def test_coroutines_of_items_run_side_by_side_up_to_a_limit(make_workflow: MakeWorkflow) -> None:
    """In one event loop, max_parallel of them at once, and no more."""
    running, most = 0, 0
    together = asyncio.Barrier(7)

    @action
    async def work(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await together.wait()
        running -= 1
        return number

    workflow = make_workflow(executor=ExecutorAsync())
    workflow.task.add(work, each=list(range(21)), max_parallel=7)

    assert workflow.start(mode="parallel").status is COMPLETED
    assert workflow.result_storage() == [list(range(21))]
    assert most == 7


def test_in_order_one_at_a_time(make_workflow: MakeWorkflow) -> None:
    """Sequential mode runs items in the list's order."""
    seen = []
    workflow = make_workflow()
    workflow.task.add(action(lambda number: seen.append(number)), each=[3, 1, 2], name="work")
    workflow.start()

    assert seen == [3, 1, 2]


@in_any_worker
def test_lists_in_step(make_workflow: MakeWorkflow) -> None:
    """each={...} takes entries of several lists together; other parameters are the same for all items."""

    @action
    def put(numbers: list[int], number: int, size: str, unit: str = "cm") -> str:
        return f"{number} {size} {unit} of {len(numbers)}"

    workflow = make_workflow()
    workflow.task.add(numbers).add(put, each={"number": numbers, "size": ["s", "m", "l"]})
    workflow.start(mode="parallel")

    assert workflow.result_storage()[1] == ["1 s cm of 3", "2 m cm of 3", "3 l cm of 3"]
    assert workflow.result_task()[1].items[1].input == {"number": 2, "size": "m"}


@in_any_worker
def test_an_item_as_previous_context(make_workflow: MakeWorkflow) -> None:
    """A step without an open parameter takes the item as its previous_context."""

    @action
    def double(previous_context: Context) -> int:
        return 2 * previous_context.storage

    workflow = make_workflow()
    workflow.task.add(numbers).add(double, each=numbers)

    for mode in ("sequential", "parallel"):
        workflow.start(mode=mode)
        assert workflow.result_storage()[1] == [2, 4, 6]


@pytest.mark.parametrize("mode", MODES)
def test_an_empty_list(make_workflow: MakeWorkflow, mode: str) -> None:
    """It completes with an empty list, and the reduce runs."""
    workflow = make_workflow()
    workflow.task.add(action(list), name="numbers", group_name=group(mode, 0))
    workflow.task.add(square, each="numbers", group_name=group(mode, 1)).add(total, group_name=group(mode, 0))

    assert start(workflow, mode).status is COMPLETED
    assert workflow.result_storage() == [[], [], 0]


@pytest.mark.parametrize(
    ("value", "exception", "message"),
    [
        ({"a": 1}, "NotAList", r"list\(d.items\(\)\)"),
        (iter([1]), "NotAList", "list_iterator"),
        ("text", "NotAList", "str"),
    ],
)
def test_a_source_that_is_no_list_fails(make_workflow: MakeWorkflow, value: Any, exception: str, message: str) -> None:
    """It fails and says what to return instead."""
    workflow = make_workflow()
    workflow.task.add(action(lambda: value), name="numbers").add(square, each="numbers").add(total)

    assert workflow.start(keep_going=True).status is FAILED
    assert statuses(workflow) == [COMPLETED, FAILED, SKIPPED]
    error = workflow.result_task()[1].errors[0]
    assert error.exception == exception
    assert re.search(message, error.message)


def test_lists_of_unequal_lengths(make_workflow: MakeWorkflow) -> None:
    """The lengths are in the message."""
    workflow = make_workflow()
    workflow.task.add(numbers).add(action(lambda a, b: 0), each={"a": numbers, "b": [1]}, name="both")

    assert workflow.start().status is FAILED
    assert workflow.result_task()[1].errors[0].exception == "UnequalLists"
    assert "3" in workflow.result_task()[1].errors[0].message


# Failures


@action
def fragile(number: int) -> int:
    if number == 2:
        raise ConnectionError("lost")
    return number


@in_any_worker
@pytest.mark.parametrize("mode", MODES)
def test_keep_going_goes_on_with_the_others(make_workflow: MakeWorkflow, mode: str) -> None:
    """The map is FAILED, the reduce gets the values that came, and the run is FAILED at its end."""

    @action
    def gather(fragile: list[int], fragile_context: Context) -> Any:
        return fragile, fragile_context.storage, sorted(fragile_context.errors)

    workflow = make_workflow()
    workflow.task.add(fragile, each=[1, 2, 3], keep_going=True, group_name=group(mode, 0))
    workflow.task.add(gather, group_name=group(mode, 1))

    run = start(workflow, mode)

    mapped = workflow.result_task()[0]
    assert run.status is FAILED
    assert statuses(workflow) == [FAILED, COMPLETED]
    assert [item.status for item in mapped.items] == [COMPLETED, FAILED, COMPLETED]
    assert mapped.errors[-1].exception == "ItemsFailed"
    assert mapped.errors[-1].message.startswith("1 of 3 items failed: [1] 2 ConnectionError")
    assert workflow.result_storage()[1] == ([1, 3], [1, None, 3], [1])


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_keep_going_of_start_reaches_maps(make_workflow: MakeWorkflow, mode: str) -> None:
    """And a map's own keep_going=False wins."""
    workflow = make_workflow()
    workflow.task.add(fragile, each=[1, 2, 3])
    start(workflow, mode, keep_going=True)
    assert [item.status for item in workflow.result_task()[0].items] == [COMPLETED, FAILED, COMPLETED]

    workflow = make_workflow()
    workflow.task.add(fragile, each=[2, *[3] * 50], keep_going=False, max_parallel=1)
    start(workflow, mode, keep_going=True)
    assert [item.status for item in workflow.result_task()[0].items[:2]] == [FAILED, NOT_STARTED]


@in_any_worker
def test_without_keep_going_no_new_item_begins(make_workflow: MakeWorkflow) -> None:
    """The run stops, and who needs the map stays NOT_STARTED."""
    workflow = make_workflow()
    workflow.task.add(fragile, each=[1, 2, 3]).add(action(lambda fragile: 0), name="after")

    assert workflow.start().status is FAILED
    assert [item.status for item in workflow.result_task()[0].items] == [COMPLETED, FAILED, NOT_STARTED]
    assert statuses(workflow) == [FAILED, NOT_STARTED]


def test_each_item_is_tried_by_the_policy(make_workflow: MakeWorkflow) -> None:
    """Retries, timeouts and fallbacks are of the item."""
    tries: dict[int, int] = {}

    @action(retry=2, retry_delay=0)
    def flaky(number: int) -> int:
        tries[number] = tries.get(number, 0) + 1
        if tries[number] < number:
            raise ValueError(number)
        return number

    mend = action(lambda number: -number)
    workflow = make_workflow()
    workflow.task.add(flaky, each=[1, 2, 3], fallback=mend)

    assert workflow.start().status is COMPLETED
    assert workflow.result_storage() == [[1, 2, -3]]
    assert [item.attempt for item in workflow.result_task()[0].items] == [1, 2, 3]
    assert [len(item.errors) for item in workflow.result_task()[0].items] == [0, 1, 2]


def test_a_run_that_is_cancelled_midway(make_workflow: MakeWorkflow) -> None:
    """The map says after how many items."""
    workflow = make_workflow()

    @action
    def work(number: int) -> None:
        if number == 3:
            workflow._last.cancel()

    workflow.task.add(work, each=[1, 2, 3, 4, 5])
    run = workflow.start()

    mapped = run.tasks[0]
    assert run.status is FAILED
    assert mapped.status is FAILED
    assert "after 3 of 5 items" in mapped.errors[-1].message


# Chains of maps


@in_any_worker
def test_a_map_that_keeps_going_is_cancelled_midway(make_workflow: MakeWorkflow) -> None:
    """Failures before the stop do not hide that items are left: the error is that of the stop."""
    begun = threading.Event()

    @action
    def work(number: int) -> None:
        if number < 2:
            raise ValueError("no")
        begun.set()
        while True:
            time.sleep(0.01)

    workflow = make_workflow(executor=ExecutorThread())
    workflow.task.add(work, each=list(range(5)), keep_going=True, max_parallel=1)
    run = workflow.launch(lambda: None, mode="parallel")
    assert begun.wait(WAIT)
    run.cancel()
    run.wait()

    task = workflow.result_task()[0]
    assert task.error is not None
    assert task.error.exception == "RunCancelled"
    assert "after 2 of 5 items" in task.error.message
    assert [item.status for item in task.items] == [FAILED, FAILED, FAILED, NOT_STARTED, NOT_STARTED]


class RaisingList(list[int]):
    def __iter__(self) -> Any:
        raise ValueError("my own list")


@pytest.mark.parametrize("mode", MODES)
def test_a_list_whose_own_code_raises(make_workflow: MakeWorkflow, mode: str) -> None:
    """It fails the map, not the run."""
    workflow = make_workflow(executor=ExecutorThread())
    workflow.task.add(action(lambda: RaisingList([1])), name="source").add(square, each="source", keep_going=True)
    workflow.task.add(numbers)

    start(workflow, mode)
    run = start(workflow, mode, resume=True)

    assert statuses(workflow) == [COMPLETED, FAILED, COMPLETED]
    assert run.task("square").error.message == "my own list"


@pytest.mark.parametrize("mode", MODES)
def test_a_map_over_a_map(make_workflow: MakeWorkflow, mode: str) -> None:
    """Item k takes the value of item k."""
    workflow = make_workflow()
    workflow.task.add(numbers, group_name=group(mode, 0)).add(square, each=numbers, group_name=group(mode, 0))
    workflow.task.add(action(lambda root: root + 1), each=square, name="next", group_name=group(mode, 1))

    assert start(workflow, mode).status is COMPLETED
    assert workflow.result_storage()[-1] == [2, 5, 10]


def test_an_item_waits_for_its_own_only(make_workflow: MakeWorkflow) -> None:
    """The second map's first item ends while the first map's last one still runs."""
    go = threading.Event()

    @action
    def first(number: int) -> int:
        if number == 3:
            assert go.wait(WAIT)
        return number

    @action
    def second(number: int) -> int:
        if number == 1:
            go.set()
        return 10 * number

    workflow = make_workflow(executor=ExecutorThread())
    workflow.task.add(first, each=[1, 2, 3]).add(second, each=first)

    assert workflow.start(mode="parallel").status is COMPLETED
    assert workflow.result_storage()[1] == [10, 20, 30]


@pytest.mark.parametrize("start_method", ["fork", "forkserver"])
@pytest.mark.parametrize("limit", [None, 2])
def test_an_item_runs_where_the_item_that_it_takes_has_run(
    make_workflow: MakeWorkflow, monkeypatch: pytest.MonkeyPatch, start_method: str, limit: int | None
) -> None:
    """So its value is not sent to a worker, with and without a limit of the first map."""
    size = 1_000_000
    sent: list[int] = []
    queue = Channel.queue

    def count(channel: Channel, kind: int, number: int, parts: list[Any]) -> None:
        sent.append(sum(memoryview(part).nbytes for part in parts))
        queue(channel, kind, number, parts)

    @action
    def make(number: int) -> dict[str, Any]:
        return {"pid": os.getpid(), "data": bytes(size + number)}

    @action
    def take(value: dict[str, Any]) -> tuple[bool, int]:
        return value["pid"] == os.getpid(), len(value["data"])

    monkeypatch.setattr(Channel, "queue", count)
    workflow = make_workflow(executor=ExecutorProcess(max_workers=2, start_method=start_method))
    workflow.task.add(make, each=list(range(12)), max_parallel=limit).add(take, each=make)
    run = workflow.start(mode="parallel")

    assert run.value("take") == [(True, size + number) for number in range(12)]
    assert sum(sent) < size


@in_any_worker
@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_an_item_whose_source_failed_is_skipped(make_workflow: MakeWorkflow, mode: str) -> None:
    """With a reason, and the others go on; the reduce gets the values that came."""

    @action
    def gather(negative: list[int]) -> list[int]:
        return negative

    workflow = make_workflow()
    workflow.task.add(fragile, each=[1, 2, 3], keep_going=True)
    workflow.task.add(action(lambda item: -item), each=fragile, name="negative").add(gather)

    start(workflow, mode)

    items = workflow.result_task()[1].items
    assert [item.status for item in items] == [COMPLETED, SKIPPED, COMPLETED]
    assert items[1].reason == "it needs 'fragile[1]', which failed"
    assert workflow.result_storage()[1:] == [[-1, None, -3], [-1, -3]]


# What is refused


def test_wrong_values_of_each_are_refused(make_workflow: MakeWorkflow) -> None:
    """Parameters that are not there, or more than one that is open."""
    add = make_workflow().task.add
    with pytest.raises(InvalidLink, match="'a' and 'b'"):
        add(action(lambda a, b: 0), each=[1])
    with pytest.raises(InvalidLink, match="no parameter 'c'"):
        add(action(lambda a: 0), each={"c": [1]})
    with pytest.raises(InvalidLink, match="has no parameter for its items"):
        add(action(lambda: 0), each=[1])
    with pytest.raises(InvalidLink, match=r"write each={'numbers': 'numbers'}"):  # which would be given the whole list
        add(numbers).add(action(lambda numbers: 0), each=numbers)


def test_a_list_where_one_is_annotated(make_workflow: MakeWorkflow) -> None:
    """A mapped task gives a list."""

    @action
    def one(square: int) -> int:
        return square

    workflow = make_workflow()
    workflow.task.add(square, each=[1])

    with pytest.raises(InvalidLink, match="it is mapped, and gives list"):
        workflow.task.add(one)


# What is told of it


class Events(History):
    """Keeps every event."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def record(self, run_id: str, event: Event) -> None:
        self.events.append(event)


def test_history_gets_every_event_of_an_item(make_workflow: MakeWorkflow) -> None:
    """With the item's index, between the map's own beginning and end."""
    history = Events()
    workflow = make_workflow(history=history)
    workflow.task.add(square, each=[1, 2])
    workflow.start()

    kinds = [(type(event).__name__, getattr(event, "item", None)) for event in history.events[1:-1]]
    assert kinds == [
        ("MapOpened", None),
        ("AttemptStarted", 0),
        ("TaskCompleted", 0),
        ("AttemptStarted", 1),
        ("TaskCompleted", 1),
        ("MapEnded", None),
    ]
    opened = next(event for event in history.events if isinstance(event, MapOpened))
    ended = next(event for event in history.events if isinstance(event, MapEnded))
    assert opened.items == 2
    assert ended.failure is None


def test_a_callback_is_called_once_at_the_end(make_workflow: MakeWorkflow) -> None:
    """Not for each item."""
    called: list[Task] = []
    workflow = make_workflow()
    workflow.task.add(square, each=[1, 2], callback=lambda task: called.append(task))
    workflow.start()

    assert [task.status for task in called] == [COMPLETED]


@in_any_worker
def test_the_result_counts(make_workflow: MakeWorkflow) -> None:
    """result() has the counts and the failed items, and its JSON never fails."""
    workflow = make_workflow()
    workflow.task.add(fragile, each=[1, 2, 3], keep_going=True)
    workflow.start()

    items = workflow.result().tasks[0].items
    assert items is not None
    assert (items.count, items.completed, items.failed) == (3, 2, 1)
    assert [(item.item, item.errors[0].exception) for item in items.failures] == [(1, "ConnectionError")]
    assert '"ConnectionError"' in workflow.result().model_dump_json()


class Batches(Executor):
    """Makes two calls and returns both outcomes at once."""

    def open(self, tasks: object, report: object) -> ExecutorSession:
        return BatchSession()


class BatchSession(ExecutorSession):
    def __init__(self) -> None:
        self.calls: list[Call] = []

    def make_room(self, pool: Hashable, lane: int, waiting: int) -> bool:
        return len(self.calls) < 2

    def submit(self, call: Call) -> None:
        self.calls.append(call)

    def wait(self, timeout: float | None) -> list[CompletedCall]:
        calls, self.calls = self.calls, []
        return [(call, attempt(call, Loops())) for call in calls]

    def wake(self) -> None: ...
    def close(self) -> None: ...


def test_no_item_begins_after_a_failure_that_arrived_with_a_success(make_workflow: MakeWorkflow) -> None:
    """The success makes the next item ready, and the failure right behind it stops the map."""
    workflow = make_workflow(executor=Batches())
    workflow.task.add(fragile, each=[1, 2, 3, 4], max_parallel=2)
    workflow.start(mode="parallel")

    mapped = workflow.result_task()[0]
    assert mapped.status is FAILED
    assert [item.status for item in mapped.items] == [COMPLETED, FAILED, NOT_STARTED, NOT_STARTED]


@pytest.mark.parametrize(("workers", "max_parallel"), [(3, None), (8, 3)])
def test_items_that_are_ready_with_a_failing_one_begin(
    make_workflow: MakeWorkflow, monkeypatch: pytest.MonkeyPatch, workers: int, max_parallel: int | None
) -> None:
    """As many as `max_workers` and `max_parallel` allow, though their workers were not up yet."""
    failed = threading.Event()
    make_room, begun = ProcessSession.make_room, [0]

    def make_room_late(session: ProcessSession, pool: Hashable, lane: int, waiting: int) -> bool:
        room = (failed.is_set() or not begun[0]) and make_room(session, pool, lane, waiting)
        begun[0] += room
        return room

    class Listener(History):
        def record(self, run_id: str, event: Event) -> None:
            if isinstance(event, TaskFailed):
                failed.set()

    monkeypatch.setattr(ProcessSession, "make_room", make_room_late)
    workflow = make_workflow(executor=ExecutorProcess(workers), history=Listener())
    workflow.task.add(fragile, each=[2, 1, 1, 1, 1], **({"max_parallel": max_parallel} if max_parallel else {}))
    workflow.start(mode="parallel")

    mapped = workflow.result_task()[0]
    assert [item.status for item in mapped.items] == [FAILED, COMPLETED, COMPLETED, NOT_STARTED, NOT_STARTED]
    assert "1 of 5 items failed" in mapped.errors[0].message


def test_many_items(make_workflow: MakeWorkflow) -> None:
    """Ten thousand, in threads; time is in the benchmarks."""
    workflow = make_workflow(executor=ExecutorThread())
    workflow.task.add(square, each=list(range(10_000))).add(total)

    assert workflow.start(mode="parallel").status is COMPLETED
    assert workflow.result_storage()[1] == sum(number * number for number in range(10_000))


@pytest.mark.parametrize("fails", [False, True])
def test_items_do_not_see_each_others_changes(make_workflow: MakeWorkflow, fails: bool) -> None:
    """In processes each call has a copy of what all items share, a fallback's too."""

    @action
    def grow(shared: list[int], number: int) -> int:
        shared.append(number)
        return len(shared)

    @action
    def fail(number: int) -> int:
        raise ValueError(number)

    workflow = make_workflow(executor=ExecutorProcess(max_workers=2))
    workflow.task.add(action(lambda: [0]), name="shared")
    if fails:
        workflow.task.add(fail, each=[1, 2, 3, 4], fallback=grow)
    else:
        workflow.task.add(grow, each=[1, 2, 3, 4])
    workflow.start(mode="parallel")

    assert workflow.result_storage()[1] == [2, 2, 2, 2]


def test_more_maps_at_once_than_a_worker_keeps_shared_values_of(make_workflow: MakeWorkflow) -> None:
    """Maps that take turns get their own values, however often these are sent again."""

    @action
    def add_up(number: int, shared: int) -> int:
        return 100 * shared + number

    workflow = make_workflow(executor=ExecutorProcess(max_workers=2))
    for shared in range(12):
        workflow.task.add(action(lambda value=shared: value), name=f"shared{shared}")
    for shared in range(12):
        needs = {"shared": f"shared{shared}"}
        workflow.task.add(add_up, name=f"map{shared}", each={"number": [1, 2, 3, 4, 5]}, needs=needs)

    assert workflow.start(mode="parallel").status is COMPLETED
    assert workflow.result_storage()[12:] == [[100 * shared + n for n in (1, 2, 3, 4, 5)] for shared in range(12)]


def test_a_slow_map_leaves_room_for_another(make_workflow: MakeWorkflow) -> None:
    """Two maps take turns for the same workers."""
    order: list[str] = []

    def work(name: str) -> Any:
        def note(number: int) -> None:
            order.append(name)
            time.sleep(0.001)

        return action(note)

    workflow = make_workflow(executor=ExecutorThread(max_workers=1))
    workflow.task.add(work("a"), each=list(range(20)), name="a").add(work("b"), each=list(range(20)), name="b")
    workflow.start(mode="parallel")

    assert order[:10].count("b") >= 4
