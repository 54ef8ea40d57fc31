"""Durable steps: ordinary Python whose calls are kept when they have returned, in each way of running them."""

import asyncio
import functools
import gc
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import cloudpickle
import pytest

from dotflow import Config, Context, DotFlow, Run, action, atomic_path
from dotflow.abc.executor import Executor
from dotflow.abc.storage import Storage
from dotflow.core.calls import OPEN
from dotflow.core.task import Task
from dotflow.core.types.run_state import TypeRunState
from dotflow.core.types.status import TypeStatus
from dotflow.errors import CallsNotKept, InvalidPolicy, LeaseLost
from dotflow.providers import (
    ExecutorAsync,
    ExecutorInline,
    ExecutorProcess,
    ExecutorThread,
    HistorySQLite,
    StorageDefault,
    StorageFile,
    StorageSQLite,
)
from tests.logs import Reports
from tests.storages import StorageThree

EXECUTORS: Final = {
    "sequential": ExecutorInline,
    "threads": ExecutorThread,
    "loop": ExecutorAsync,
    "processes": ExecutorProcess,
}
CLUSTERS: Final = [
    pytest.param(name, marks=[pytest.mark.clusters, pytest.mark.exhaustive, pytest.mark.slow, pytest.mark.timeout(120)])
    for name in ("dask", "ray")
]
ENVIRONMENT: Final = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
COMPLETED, FAILED, PAUSED = TypeStatus.COMPLETED, TypeStatus.FAILED, TypeStatus.PAUSED

FOLDER = Path()  # of the test: a step in another process has it by fork


class ThreeMethods(StorageThree):
    """It lists and clears nothing."""

    def key(self, task: Task) -> str:
        return f"{task.workflow_id}.{task.key_name}"


class ValuesOnly(ThreeMethods):
    """Keeps the values of contexts, and nothing of where they are from."""

    def post(self, key: str, context: Context) -> None:
        super().post(key, Context(context.storage))


class Lab:
    """Runs one durable step again and again over one storage."""

    def __init__(self, executor: str | Executor, storage: Storage) -> None:
        self.executor = executor
        self.storage = storage
        self.log = Reports()

    def flow(self, *steps: Any, **options: Any) -> DotFlow:
        """A workflow of these steps."""
        executor = EXECUTORS[self.executor]() if isinstance(self.executor, str) else self.executor
        config = Config(storage=self.storage, executor=executor, log=self.log)
        workflow = DotFlow(config, workflow_id="w")
        for step in steps:
            workflow.task.add(step, **options)
        return workflow

    def start(self, *steps: Any, **options: Any) -> Run:
        """Runs them, and forgets what was made and logged before."""
        self.log.lines.clear()
        (FOLDER / "made").unlink(missing_ok=True)
        return self.flow(*steps).start(**options)

    @property
    def made(self) -> list[str]:
        """The calls that the last run has made, in order."""
        file = FOLDER / "made"
        return file.read_text().split() if file.exists() else []


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Iterator[Path]:
    """The folder, which a worker process has by value, as that of a script's module."""
    global FOLDER
    FOLDER = tmp_path
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield tmp_path
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    FOLDER = Path()


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return StorageFile(path=tmp_path / "values")


@pytest.fixture(params=[*EXECUTORS, *CLUSTERS])
def lab(request: pytest.FixtureRequest, storage: Storage) -> Lab:
    is_local = request.param in EXECUTORS
    return Lab(request.param if is_local else request.getfixturevalue(f"{request.param}_executor"), storage)


@pytest.fixture
def alone(storage: Storage) -> Lab:
    """In the thread of the test: what does not depend on the way of running it."""
    return Lab("sequential", storage)


def note(text: str) -> None:
    """Notes that a call was made, in whichever process."""
    with (FOLDER / "made").open("a") as file:
        file.write(f"{text}\n")


def is_set(name: str) -> bool:
    """Whether the test has let a step pass."""
    return (FOLDER / name).exists()


def let(name: str) -> None:
    (FOLDER / name).touch()


@action
def fetch(number: int) -> int:
    note(f"fetch{number}")
    return number * 10


@action
async def fetch_async(number: int) -> int:
    note(f"fetch{number}")
    await asyncio.sleep(0)
    if number == 2 and not is_set("open"):
        raise ValueError(number)
    return number * 10


@action
def charge(card: str) -> str:
    note(f"charge_{card}")
    if card == "declined":
        raise PermissionError(card)
    return f"paid by {card}"


@action(durable=True)
def three() -> list[int]:
    """Fails after two calls, until the test opens the way."""
    values = [fetch(number) for number in range(2)]
    if not is_set("open"):
        raise RuntimeError("closed")
    return [*values, fetch(2)]


@action(durable=True)
async def three_async() -> list[int]:
    values = [await fetch_async(number) for number in range(2)]
    if not is_set("open"):
        raise RuntimeError("closed")
    return [*values, await fetch_async(2)]


@pytest.mark.parametrize("step", [three, three_async], ids=["sync", "async"])
def test_a_resume_makes_only_the_calls_that_are_left(lab: Lab, step: Any) -> None:
    """What has returned before the failure is given back."""
    assert lab.start(step).status is FAILED
    assert lab.made == ["fetch0", "fetch1"]

    let("open")
    run = lab.start(step, resume=True)

    assert run.value(step) == [0, 10, 20]
    assert lab.made == ["fetch2"]


def test_a_start_without_resume_makes_all_calls(lab: Lab) -> None:
    """Another chain finds nothing of an earlier one."""
    lab.start(three)
    let("open")

    lab.start(three)

    assert lab.made == ["fetch0", "fetch1", "fetch2"]


@action(durable=True, retry=3, retry_delay=0)
def flaky() -> int:
    value = fetch(1)
    note("body")
    if lab_attempts() < 3:
        raise RuntimeError("again")
    return value


def lab_attempts() -> int:
    return (FOLDER / "made").read_text().count("body")


def test_a_retry_is_given_what_was_kept(lab: Lab) -> None:
    """The second attempt of one run makes no call again, in a fresh run too."""
    run = lab.start(flaky)

    assert run.value(flaky) == 10
    assert lab.made == ["fetch1", "body", "body", "body"]


@action(durable=True)
async def gathered() -> list[int]:
    return await asyncio.gather(*[fetch_async(number) for number in range(5)])


def test_a_failed_gather_makes_only_what_failed_again(lab: Lab) -> None:
    """Siblings of the failed call end first, and are kept."""
    assert lab.start(gathered).status is FAILED
    assert sorted(lab.made) == [f"fetch{number}" for number in range(5)]

    let("open")
    run = lab.start(gathered, resume=True)

    assert run.value(gathered) == [0, 10, 20, 30, 40]
    assert lab.made == ["fetch2"]


@action
async def fails_at_once(number: int) -> None:
    if not is_set("open"):
        raise ValueError(number)


@action
def fetch_late(number: int) -> int:
    let("begun")
    threading.Event().wait(0.1)
    return fetch.function(number)


@action(durable=True)
async def asks_late() -> list[Any]:
    async def helper() -> int:
        return await asyncio.to_thread(fetch_late, 1) + await asyncio.to_thread(fetch_late, 2)

    return await asyncio.gather(helper(), fails_at_once(1))


def test_no_call_begins_when_the_body_has_ended(lab: Lab) -> None:
    """What runs by then ends first, and is kept."""
    assert lab.start(asks_late).status is FAILED
    assert lab.made == ["fetch1"]
    let("open")

    assert lab.start(asks_late, resume=True).value(asks_late) == [30, None]
    assert lab.made == ["fetch2"]


@action(durable=True)
async def inner_in_thread() -> int:
    return await asyncio.to_thread(fetch_late, 1)


@action(durable=True)
async def cancels_inner() -> int:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(inner_in_thread())
        while not is_set("begun"):
            await asyncio.sleep(0.001)
        group.create_task(fails_at_once(1))
    return task.result()


def test_a_call_beneath_a_cancelled_durable_call_is_kept(lab: Lab) -> None:
    """Its thread goes on, so the step waits for it: it is paid for."""
    assert lab.start(cancels_inner).status is FAILED
    assert lab.made == ["fetch1"]
    let("open")

    assert lab.start(cancels_inner, resume=True).value(cancels_inner) == 10
    assert lab.made == []


@action(durable=True)
def pooled() -> list[int]:
    with ThreadPoolExecutor(2) as pool:
        values = list(pool.map(fetch, range(4)))
    if not is_set("open"):
        raise RuntimeError("closed")
    return values


def test_calls_in_threads_of_the_body_are_kept(lab: Lab) -> None:
    """A thread that the body has started belongs to it, where it is the only one of its process."""
    until = time.monotonic() + 30
    while OPEN[1:] and time.monotonic() < until:  # a body of an earlier test that its timeout has left behind
        gc.collect()
        time.sleep(0.05)
    lab.start(pooled)
    let("open")

    run = lab.start(pooled, resume=True)

    assert run.value(pooled) == [0, 10, 20, 30]
    assert lab.made == []


@action(durable=True)
def pay() -> str:
    for card in ("declined", "second"):
        try:
            paid = charge(card)
            break
        except PermissionError as error:
            note(f"caught_{type(error).__name__}_{error}")
    if not is_set("open"):
        raise RuntimeError("closed")
    return paid


def test_a_failure_that_was_caught_stays_one(lab: Lab) -> None:
    """The declined card is not charged again once the second one has paid."""
    lab.start(pay)
    let("open")

    run = lab.start(pay, resume=True)

    assert run.value(pay) == "paid by second"
    assert lab.made == ["caught_PermissionError_declined"]


@action(durable=True)
def pay_once(again: bool = False) -> str:
    fetch(1)
    return charge("declined") if not is_set("open") else charge("declined2")


@action
def unstable(number: int) -> int:
    note(f"unstable{number}")
    if not is_set("open"):
        raise ConnectionError(number)
    return number


@action(durable=True)
def raises() -> int:
    return fetch(1) + unstable(2)


@action(durable=True)
def raises_from() -> int:
    try:
        return fetch(1) + unstable(2)
    except ConnectionError as error:
        fetch(3)  # so that the failure is kept
        raise RuntimeError("translated") from error


@action(durable=True)
def raises_group() -> int:
    errors = []
    for number in range(2):
        try:
            unstable(number)
        except ConnectionError as error:
            errors.append(error)
    if errors:
        raise ExceptionGroup("both", errors)
    return 1


@pytest.mark.parametrize(
    ("step", "made"),
    [(raises, ["unstable2"]), (raises_from, ["unstable2"]), (raises_group, ["unstable0", "unstable1"])],
    ids=["raise", "from", "group"],
)
def test_a_failure_that_ends_the_step_is_made_again(lab: Lab, step: Any, made: list[str]) -> None:
    """Itself, as the cause of another one, and as a member of a group."""
    assert lab.start(step).status is FAILED
    let("open")

    assert lab.start(step, resume=True).status is COMPLETED
    assert lab.made == made


@action(durable=True)
def counts_failures() -> int:
    failed = 0
    for number in range(2):
        try:
            unstable(number)
        except ConnectionError:
            failed += 1
        fetch(number)
    if failed:
        raise RuntimeError(f"{failed} failed")
    return 1


def test_the_error_says_which_failures_are_kept(lab: Lab) -> None:
    """A body that raises an error of its own without them meets them again."""
    run = lab.start(counts_failures)

    assert run.tasks[0].error is not None
    assert "2 failures of calls are kept: unstable(0) ConnectionError: 0; unstable(1)" in run.tasks[0].error.traceback
    let("open")
    assert lab.start(counts_failures, resume=True).status is FAILED
    assert lab.start(counts_failures, resume=True, rerun="counts_failures").status is COMPLETED


@action
def keyed(number: int, idempotency_key: str) -> str:
    note(idempotency_key)
    if not is_set("open"):
        raise ValueError("closed")
    return idempotency_key


@action(durable=True)
def uses_keys() -> list[str]:
    if not is_set("open"):
        keyed(1)
    return [keyed(1), keyed(1)]


def test_a_call_has_the_same_idempotency_key_again_and_an_equal_one_another(lab: Lab) -> None:
    """Whether or not its first attempt had an effect, the second one goes out under the same key."""
    lab.start(uses_keys)
    (first,) = lab.made
    let("open")

    keys = lab.start(uses_keys, resume=True).value(uses_keys)

    assert keys[0] == first
    assert keys[1] != first


@action(durable=True)
def inner(number: int) -> int:
    note("inner")
    total = fetch(number) + fetch(number + 1)
    if not is_set("open"):
        raise RuntimeError("closed")
    return total


@action(durable=True)
def outer() -> int:
    return fetch(1) + inner(5)


def test_a_durable_call_keeps_its_calls_until_it_returns(lab: Lab) -> None:
    """It goes on where it was; once it has returned, its value covers them."""
    lab.start(outer)
    assert lab.made == ["fetch1", "inner", "fetch5", "fetch6"]
    let("open")

    assert lab.start(outer, resume=True).value(outer) == 120
    assert lab.made == ["inner"]


@action
def covered(number: int) -> int:
    return fetch(number)


@action(durable=True)
def covers() -> int:
    return covered(1) + covered(1) + fetch(1)


def test_an_action_within_a_call_is_a_plain_call(lab: Lab) -> None:
    """Its value is part of the outer one."""
    assert lab.start(covers).value(covers) == 30
    assert len([key for key in lab.storage.list_keys() if "-call-" in key]) == 3


@action
def extend(rows: list[int]) -> int:
    rows.append(1)
    return len(rows)


@action(durable=True)
def changes_argument() -> int:
    try:
        return extend([])
    except TypeError:
        return 0


def test_a_call_that_changes_its_argument_fails_the_attempt(lab: Lab) -> None:
    """A kept call would not repeat the change. The body can't catch it."""
    run = lab.start(changes_argument)

    assert run.tasks[0].error is not None
    assert run.tasks[0].error.exception == "ArgumentChanged"
    assert "'extend' changed its argument 'rows' in place" in run.tasks[0].error.message


@action
def takes_client(client: object, query: str) -> str:
    note("client")
    return query


@action(key=["query"])
def takes_any_client(client: object, query: str) -> str:
    note("client")
    return query


@action(durable=True)
def refused() -> str:
    return takes_client(threading.Lock(), "x")


@action(durable=True)
def named() -> str:
    found = takes_any_client(threading.Lock(), "x")
    if not is_set("open"):
        raise RuntimeError("closed")
    return found


def test_an_argument_without_a_digest_is_refused_before_the_call(lab: Lab) -> None:
    """The error names the argument and the cure, which then helps."""
    run = lab.start(refused)

    assert run.tasks[0].error is not None
    assert "its argument ['client'] is a" in run.tasks[0].error.message
    assert '@action(key=["query"])' in run.tasks[0].error.message
    assert lab.made == []
    lab.start(named)
    let("open")
    assert lab.start(named, resume=True).value(named) == "x"
    assert lab.made == []


@action(isolate=True)
def isolated(number: int) -> int:
    return number


@action(durable=True)
def calls_isolated() -> int:
    return isolated(1)


def test_an_option_of_whole_steps_is_refused(lab: Lab) -> None:
    """What needs a place of its own is a task."""
    run = lab.start(calls_isolated)

    assert run.tasks[0].error is not None
    assert "isolate=True is for whole steps" in run.tasks[0].error.message


@action(retry=3, retry_delay=0)
def retried(number: int) -> int:
    note("try")
    if len((FOLDER / "made").read_text().split()) < 3:
        raise ConnectionError
    return number


@action(retry=3, retry_delay=0)
async def retried_async(number: int) -> int:
    return retried.function(number)


@action(durable=True)
def retries() -> int:
    return retried(1)


@action(durable=True)
async def retries_async() -> int:
    return await retried_async(1)


@pytest.mark.parametrize("step", [retries, retries_async], ids=["sync", "async"])
def test_a_call_is_retried_by_its_own_policy(lab: Lab, step: Any) -> None:
    """Within the attempt of its step."""
    assert lab.start(step).value(step) == 1
    assert lab.made == ["try"] * 3


@action(timeout=0.05)
async def slow(number: int) -> int:
    await asyncio.sleep(30)
    return number


@action(durable=True)
async def catches_timeout() -> str:
    try:
        await slow(1)
    except TimeoutError:
        fetch(1)
        return "late"
    return "in time"


def test_a_call_has_its_own_timeout(lab: Lab) -> None:
    """It raises a TimeoutError, which the body may catch."""
    assert lab.start(catches_timeout).value(catches_timeout) == "late"


@action(checkpoint=False)
def connect() -> object:
    note("connect")
    return threading.Lock()


@action(durable=True)
def connects() -> str:
    found = takes_any_client(connect(), "x")
    if not is_set("open"):
        raise RuntimeError("closed")
    return found


def test_a_call_without_a_checkpoint_is_made_in_each_attempt(lab: Lab) -> None:
    """A connection is of no use to another process."""
    lab.start(connects)
    let("open")
    lab.start(connects, resume=True)

    assert lab.made == ["connect"]


@action
def returns_list() -> list[int]:
    note("list")
    return [1]


@action(durable=True)
def changes_value() -> list[int]:
    value = returns_list()
    value.append(2)
    if not is_set("open"):
        raise RuntimeError("closed")
    return value


@pytest.mark.parametrize("make", [StorageDefault, ThreeMethods, None], ids=["memory", "three methods", "SQLite"])
def test_what_the_body_changes_in_a_value_changes_no_record(
    lab: Lab, make: Callable[[], Storage] | None, tmp_path: Path
) -> None:
    """A kept value is a copy, also in memory."""
    lab.storage = StorageSQLite(path=tmp_path / "v.db") if make is None else make()
    lab.start(changes_value)
    let("open")

    assert lab.start(changes_value, resume=True).value(changes_value) == [1, 2]
    assert lab.made == []


@action
def unstorable() -> object:
    return threading.Lock()


@action(durable=True)
def keeps_unstorable() -> str:
    try:
        unstorable()
    except Exception:
        return "caught"
    return "kept"


@pytest.mark.parametrize("make", [StorageDefault, None], ids=["memory", "file"])
def test_a_value_that_cannot_be_kept_fails_the_attempt(lab: Lab, make: Callable[[], Storage] | None) -> None:
    """The body can't go on without it, even if it catches everything."""
    lab.storage = lab.storage if make is None else make()

    run = lab.start(keeps_unstorable)

    assert run.status is FAILED
    assert run.tasks[0].error is not None
    assert "unstorable" in run.tasks[0].error.message


def test_a_storage_of_values_alone_keeps_no_call(lab: Lab) -> None:
    """It would take a failure for a value, so no call is made."""
    lab.storage = ValuesOnly()

    run = lab.start(three)

    assert run.tasks[0].error is not None
    assert "ValuesOnly: it keeps values only" in run.tasks[0].error.message
    assert lab.made == []


# Edits


def edited(*calls: Any, name: str = "edited") -> Any:
    """A durable step of one name whose body makes these calls: what an edit of it makes."""

    def body() -> list[Any]:
        values = [function(*arguments) for function, *arguments in calls]
        if not is_set("open"):
            raise RuntimeError("closed")
        return values

    body.__name__ = body.__qualname__ = name
    return action(durable=True)(body)


def test_an_edited_body_is_given_what_it_still_asks_for(lab: Lab) -> None:
    """Calls are known by function and arguments: they may move, come and go. What goes is named."""
    lab.start(edited((fetch, 1), (fetch, 2), (fetch, 3)))
    let("open")

    run = lab.start(edited((fetch, 3), (fetch, 9), (fetch, 1)), resume=True)

    assert run.value("edited") == [30, 90, 10]
    assert lab.made == ["fetch9"]
    assert "edited: 1 kept call was not asked for any more: fetch(2)" in lab.log.lines


def test_a_call_that_was_taken_out_is_given_back_when_the_edit_is(alone: Lab) -> None:
    """Orphans stay."""
    alone.start(edited((fetch, 1), (fetch, 2)))
    let("open")
    alone.start(edited((fetch, 1)), resume=True)

    run = alone.start(edited((fetch, 1), (fetch, 2)), resume="changed")

    assert run.value("edited") == [10, 20]
    assert alone.made == []


def test_a_completed_step_whose_own_code_has_changed_makes_only_new_calls(alone: Lab) -> None:
    """Its calls are no part of its own code."""
    let("open")
    alone.start(edited((fetch, 1), (fetch, 2)))

    run = alone.start(edited((fetch, 2), (fetch, 1), (fetch, 3)), resume="changed")

    assert run.value("edited") == [20, 10, 30]
    assert alone.made == ["fetch3"]


def versioned(text: str) -> Any:
    """An action of one name, whose code is another one for each text."""
    made = action(version=text)(functools.wraps(_priced)(lambda number: (note(f"price{number}"), f"{text}{number}")[1]))
    made.function.__qualname__ = "priced"
    return made


def _priced(number: int) -> str: ...


def test_an_edited_action_is_called_again_where_changed_code_counts(lab: Lab) -> None:
    """With resume=True its calls count, and are named once."""
    lab.start(edited((versioned("a"), 1), (fetch, 2)))

    lab.start(edited((versioned("b"), 1), (fetch, 2)), resume=True)
    assert lab.made == []
    let("open")
    run = lab.start(edited((versioned("b"), 1), (fetch, 2)), resume=True)
    assert run.value("edited") == ["a1", 20]
    assert any("the code of priced has changed since 1 call was kept" in line for line in lab.log.lines)

    run = lab.start(edited((versioned("c"), 1), (fetch, 2)), resume="changed")
    assert run.value("edited") == ["c1", 20]
    assert lab.made == ["price1"]


@action
def source() -> int:
    return 1


def test_a_rerun_makes_all_calls_again(alone: Lab) -> None:
    """Of a step that has completed, and of one that has failed."""
    alone.start(three)
    alone.start(three, resume=True, rerun="three")
    assert alone.made == ["fetch0", "fetch1"]
    let("open")
    alone.start(three, resume=True)
    assert alone.made == ["fetch2"]

    alone.start(three, resume=True, rerun="three")

    assert alone.made == ["fetch0", "fetch1", "fetch2"]
    assert len([key for key in alone.storage.list_keys() if "-call-" in key]) == 3


def test_another_argument_of_the_step_makes_all_calls_again(alone: Lab) -> None:
    """They were made for another one."""
    run = alone.flow(takes_goal, params={"goal": "a"}).start()
    assert run.status is FAILED
    let("open")

    alone.flow(takes_goal, params={"goal": "b"}).start(resume=True)

    assert alone.made == ["fetch0", "fetch0", "fetch2"]


@action(durable=True)
def takes_goal(goal: str) -> int:
    value = fetch(0)
    if not is_set("open"):
        raise RuntimeError("closed")
    return value + fetch(2)


# The plan, and resumes that ask what is unfinished


def test_a_plan_says_with_how_many_calls_a_step_goes_on(alone: Lab) -> None:
    """It runs no body, and lists no call as a task."""
    alone.start(edited((versioned("a"), 1), (fetch, 2)))

    plan = alone.flow(edited((versioned("a"), 1), (fetch, 2))).plan(resume=True)
    assert plan.tasks[0].reason == "goes on with 2 calls"
    assert plan.removed == []
    plan = alone.flow(edited((versioned("b"), 1), (fetch, 2))).plan(resume="changed")
    assert plan.tasks[0].reason == "goes on with 2 calls, 1 of priced is made again"
    assert alone.flow(three, edited((fetch, 2))).plan().tasks[0].reason == ""


@pytest.mark.parametrize("make", [ThreeMethods, None], ids=["three methods", "file"])
def test_a_run_that_was_cut_off_in_its_first_step_is_unfinished(lab: Lab, make: Callable[[], Storage] | None) -> None:
    """Kept calls are progress, before any step has completed."""
    lab.storage = lab.storage if make is None else make()
    lab.start(three)
    let("open")

    lab.start(three, resume="unfinished")

    assert lab.made == ["fetch2"]
    lab.start(three, resume="unfinished")
    assert lab.made == ["fetch0", "fetch1", "fetch2"]


# Maps, groups, rounds, fallbacks


@action
def numbers() -> list[int]:
    return [1, 2, 3]


@action(durable=True)
def each_fetches(number: int) -> int:
    value = fetch(number)
    if number == 2 and not is_set("open"):
        raise RuntimeError("closed")
    return value + fetch(number + 100)


def test_each_item_of_a_map_keeps_its_calls(lab: Lab) -> None:
    """The item that failed goes on, and the others are restored."""

    def start(**options: Any) -> Run:
        (FOLDER / "made").unlink(missing_ok=True)
        workflow = lab.flow()
        workflow.task.add(numbers)
        workflow.task.add(each_fetches, each=numbers)
        return workflow.start(keep_going=True, **options)

    assert start().status is FAILED
    assert sorted(lab.made) == ["fetch1", "fetch101", "fetch103", "fetch2", "fetch3"]
    let("open")
    run = start(resume=True)

    assert run.value(each_fetches) == [1020, 1040, 1060]
    assert lab.made == ["fetch102"]


# The log


class Notes(Reports):
    """Keeps the notes, too."""

    def note(self, message: str) -> None:
        self.lines.append(message)


@action(durable=True, retry=2)
def fails_once() -> int:
    value = fetch(1) + fetch(2)
    if not is_set("open"):
        let("open")
        raise RuntimeError("closed")
    return value + fetch(3)


def test_the_log_counts_the_calls_of_each_attempt(lab: Lab) -> None:
    """With how many it goes on at its beginning, how many it has made and was given back at its end."""
    lab.log = Notes()

    lab.start(fails_once).raise_for_failure()

    assert lab.log.lines == [
        "w task 0 fails_once: 2 calls made",
        "w task 0 fails_once: goes on with 2 calls",
        "w task 0 fails_once: 1 call made, 2 given back",
    ]


@pytest.mark.parametrize("make", [None, ThreeMethods], ids=["listed", "not listed"])
def test_the_log_says_with_how_many_calls_a_resume_goes_on(lab: Lab, make: Callable[[], Storage] | None) -> None:
    """Where the storage lists its keys."""
    lab.log, lab.storage = Notes(), lab.storage if make is None else make()
    lab.start(three)
    let("open")

    lab.start(three, resume=True)

    goes_on = ["w task 0 three: goes on with 2 calls"] if make is None else []
    assert lab.log.lines == [*goes_on, "w task 0 three: 1 call made, 2 given back"]


def test_the_log_counts_the_calls_of_items_at_the_end_of_their_map(lab: Lab) -> None:
    """In one line, however many there are."""
    lab.log = Notes()
    for number, counts in ((1, "5 calls made"), (2, "1 call made, 1 given back")):
        lab.log.lines.clear()
        workflow = lab.flow()
        workflow.task.add(numbers)
        workflow.task.add(each_fetches, each=numbers)
        workflow.start(keep_going=True, resume=number == 2)
        let("open")

        assert lab.log.lines == [f"w task 1 each_fetches: {counts}"]


def test_durable_steps_of_two_groups_keep_their_calls(alone: Lab) -> None:
    """Each has a worker of its own."""
    workflow = DotFlow(Config(storage=alone.storage, log=alone.log), workflow_id="w")
    workflow.task.add(three, group_name="a")
    workflow.task.add(each_fetches, group_name="b", params={"number": 2})
    run = workflow.start(keep_going=True)
    assert run.status is FAILED
    let("open")

    run = workflow.start(resume=True)

    assert run.value(three) == [0, 10, 20]
    assert sorted(alone.made) == ["fetch0", "fetch1", "fetch102", "fetch2", "fetch2"]


@action
def fails_first() -> int:
    raise ValueError("first")


@action(durable=True)
def durable_fallback() -> int:
    value = fetch(7)
    if not is_set("open"):
        raise RuntimeError("closed")
    return value if is_set("less") else value + fetch(8)


def test_a_durable_fallback_keeps_its_calls_and_names_what_it_no_longer_asks_for(lab: Lab) -> None:
    """It is an attempt of the same task."""

    def start(**options: Any) -> Run:
        lab.log.lines.clear()
        (FOLDER / "made").unlink(missing_ok=True)
        return lab.flow(fails_first, fallback=durable_fallback).start(**options)

    assert start().status is FAILED
    assert lab.made == ["fetch7"]
    let("open")
    assert start(resume=True).value("fails_first") == 150
    assert lab.made == ["fetch8"]
    let("less")
    assert start(resume="changed", rerun="fails_first").value("fails_first") == 70


@action(durable=True)
def fallback_that_forgets() -> int:
    if not is_set("open"):
        fetch(7)
        raise RuntimeError("closed")
    return fetch(8)


def test_a_durable_fallback_names_its_orphans(lab: Lab) -> None:
    """Calls of an attempt before the one that has completed."""
    lab.flow(fails_first, fallback=fallback_that_forgets).start()
    let("open")

    lab.flow(fails_first, fallback=fallback_that_forgets).start(resume=True)

    assert any("1 kept call was not asked for any more: fetch(7)" in line for line in lab.log.lines)


@action(durable=True)
def doubles(value: int = 1) -> int:
    found = fetch(value) // 10
    if value == 2 and not is_set("open"):
        raise RuntimeError("closed")
    return found * 2 + fetch(0)


@action
def enough(value: int) -> bool:
    return value >= 8


def test_each_round_keeps_its_calls(lab: Lab) -> None:
    """The round that failed goes on with its own."""

    def start(**options: Any) -> Run:
        (FOLDER / "made").unlink(missing_ok=True)
        workflow = lab.flow()
        workflow.task.add(doubles, repeat=5, until=enough, carry="value", params={"value": 1})
        return workflow.start(**options)

    assert start().status is FAILED
    assert lab.made == ["fetch1", "fetch0", "fetch2"]
    let("open")
    run = start(resume=True)

    assert run.status is COMPLETED
    assert lab.made == ["fetch0", "fetch4", "fetch0"]


def test_each_item_of_an_added_workflow_keeps_its_calls(lab: Lab) -> None:
    """By the key of the item."""

    def start(**options: Any) -> Run:
        (FOLDER / "made").unlink(missing_ok=True)
        part = DotFlow(params={"number": 0})
        part.task.add(each_fetches)
        workflow = lab.flow()
        workflow.task.add(numbers)
        workflow.task.add(part, name="part", each={"number": numbers})
        return workflow.start(keep_going=True, **options)

    assert start().status is FAILED
    let("open")
    run = start(resume=True)

    assert run.status is COMPLETED
    assert lab.made == ["fetch102"]


# Stops


@action(durable=True)
def pauses() -> list[int]:
    values = [fetch(0)]
    if not is_set("paused"):
        let("paused")
        while not is_set("go"):  # the test pauses the run meanwhile
            pass
    return [*values, fetch(1), fetch(2)]


def test_a_pause_stops_a_durable_step_at_its_next_call(lab: Lab) -> None:
    """Not at its end; the rest is made by the run that goes on."""
    workflow = lab.flow(pauses)
    run = workflow.start(mode="background")
    while not is_set("paused"):
        pass
    run.pause()
    let("go")
    run.wait()

    assert run.state is TypeRunState.PAUSED
    assert run.tasks[0].status is PAUSED
    assert lab.made == ["fetch0"]
    run = lab.start(pauses, resume=True)
    assert run.value(pauses) == [0, 10, 20]
    assert lab.made == ["fetch1", "fetch2"]


@action(durable=True, timeout=0.2, retry=50, retry_delay=0)
def cut_off() -> int:
    return sum(fetch_slowly(number) for number in range(8))


@action
def fetch_slowly(number: int) -> int:
    threading.Event().wait(0.05)
    note(f"slow{number}")
    return number


def test_a_body_that_is_cut_off_again_and_again_completes(lab: Lab) -> None:
    """Each attempt begins with what the one before has kept."""
    run = lab.start(cut_off)

    assert run.value(cut_off) == 28
    assert {*lab.made} == {f"slow{number}" for number in range(8)}


@action(durable=True)
def dies() -> int:
    value = fetch(1)
    if not is_set("died"):
        let("died")
        os._exit(3)
    return value + fetch(2)


def test_a_dead_worker_loses_no_call_that_has_returned(storage: Storage) -> None:
    """The next attempt, in another process, goes on."""
    lab = Lab("processes", storage)

    assert lab.start(dies).status is FAILED
    run = lab.start(dies, resume=True)

    assert run.value(dies) == 30
    assert lab.made == ["fetch2"]


class LosesLease(StorageFile):
    """A storage that another process takes over in the middle of a step."""

    def post(self, key: str, context: Context) -> None:
        if "-call-" in key and context.storage == 10:
            raise LeaseLost("The value could not be saved", "another process has the workflow")
        super().post(key, context)


def test_a_lease_that_is_lost_in_a_call_ends_the_run(lab: Lab, tmp_path: Path) -> None:
    """No other step begins, even with keep_going, and no retry."""
    lab.storage = LosesLease(path=tmp_path / "leased")
    workflow = lab.flow()
    workflow.task.add(lease_step)
    workflow.task.add(source)
    run = workflow.start(keep_going=True)

    assert run.tasks[0].errors[-1].exception == "LeaseLost"
    assert lab.made == ["fetch0", "fetch1"]
    assert run.tasks[1].status is TypeStatus.NOT_STARTED


@action(durable=True, retry=3, retry_delay=0)
def lease_step() -> int:
    try:
        return fetch(0) + fetch(1)
    except Exception:
        return fetch(2)


SERVED: Final = """
import os, signal, sys, threading
from pathlib import Path
from dotflow import Config, DotFlow, action, serve
from dotflow.providers import EXECUTOR, HistorySQLite, LogDefault, StorageFile

HERE = Path(__file__).parent
LOST = len(sys.argv) > 1  # whether it keeps no call

@action
def effect(number: int) -> int:
    with (HERE / "made").open("a") as file:
        file.write(f"effect{number}\\n")
    return number

@action(checkpoint=False)
def die(number: int) -> None:
    if LOST or not (HERE / f"died{number}").exists():
        (HERE / f"died{number}").touch()
        threading.Event().wait(0.3)  # the history has another thread
        os.kill(int(os.environ["SERVER"]), signal.SIGKILL)

@action(durable=True)
def effects() -> int:
    total = 0
    for number in range(4):
        if not LOST:
            total += effect(number)
        die(number)
    return total

config = Config(
    storage=StorageFile(path=HERE / "values"), history=HistorySQLite(path=HERE / "h.db"),
    executor=EXECUTOR(), log=LogDefault(output="none"),
)
workflow = DotFlow(config, workflow_id="w")
workflow.task.add(effects)
if __name__ == "__main__":
    os.environ["SERVER"] = str(os.getpid())
    serve(workflow, once=True)
"""


@pytest.mark.parametrize("executor", ["ExecutorInline", "ExecutorThread"])
@pytest.mark.timeout(120)
def test_a_run_whose_process_is_killed_after_each_call_is_not_given_up(executor: str, tmp_path: Path) -> None:
    """A kept call is progress. A run that keeps none is given up after three."""
    (tmp_path / "served.py").write_text(SERVED.replace("EXECUTOR", executor))
    for arguments, state in (([], TypeRunState.COMPLETED), (["lost"], TypeRunState.FAILED)):
        history = HistorySQLite(path=tmp_path / "h.db")
        workflow = DotFlow(Config(history=history, log=Reports()), workflow_id="w")
        workflow.task.add(three)
        workflow.submit()
        for _ in range(20):
            subprocess.run([sys.executable, "served.py", *arguments], cwd=tmp_path, env=ENVIRONMENT, check=False)
            if (last := history.runs()[0]).state in (TypeRunState.COMPLETED, TypeRunState.FAILED):
                break
        assert last.state is state

    assert (tmp_path / "made").read_text().split() == [f"effect{number}" for number in range(4)]


# Files


@action
def writes(name: str) -> Path:
    note(f"write_{name}")
    with atomic_path(FOLDER / name) as path:
        path.write_text(name)
    return FOLDER / name


@action(durable=True)
def makes_file() -> str:
    path = writes("a.txt")
    if not is_set("open"):
        raise RuntimeError("closed")
    return path.read_text()


def test_a_kept_value_whose_file_has_changed_is_made_again(lab: Lab) -> None:
    """The log says which."""
    lab.start(makes_file)
    (FOLDER / "a.txt").write_text("another text")
    let("open")

    run = lab.start(makes_file, resume=True)

    assert run.value(makes_file) == "a.txt"
    assert lab.made == ["write_a.txt"]
    assert any("writes('a.txt') is called again" in line for line in lab.log.lines)


# Definitions


class Plain:
    """A class."""


class ExecutorFarm(ExecutorInline):
    """Has no way to the coordinator."""

    keeps_calls = False


def test_an_executor_without_a_way_to_the_coordinator_is_refused_at_the_start(alone: Lab) -> None:
    """Nothing runs."""
    workflow = DotFlow(Config(storage=alone.storage, executor=ExecutorFarm(), log=alone.log), workflow_id="w")
    workflow.task.add(three)

    with pytest.raises(CallsNotKept, match="'three' can't keep its calls: ExecutorFarm"):
        workflow.start()


def test_what_cannot_be_durable_is_refused_at_its_definition() -> None:
    """A class, a step that polls, one without a checkpoint, and a key that is no parameter."""
    with pytest.raises(InvalidPolicy, match="Write a function"):
        action(durable=True)(Plain)
    for options in ({"poll": 1}, {"checkpoint": False}):
        with pytest.raises(InvalidPolicy, match="durable"):
            action(durable=True, **options)(lambda: None)  # type: ignore[call-overload]
    with pytest.raises(InvalidPolicy, match="one of its parameters: number"):
        action(key=["n"])(lambda number: number)


def test_outside_of_a_workflow_a_durable_step_is_a_plain_function() -> None:
    """So are the actions that it calls."""
    let("open")

    assert three() == [0, 10, 20]


def test_a_durable_step_needs_no_workflow_id(alone: Lab) -> None:
    """Its retries go on within the run."""
    workflow = DotFlow(Config(log=alone.log))
    workflow.task.add(flaky)

    assert workflow.start().value(flaky) == 10
    assert alone.made == ["fetch1", "body", "body", "body"]


def test_an_action_can_be_pickled_with_its_key() -> None:
    """As others."""
    assert pickle.loads(pickle.dumps(takes_any_client)) is takes_any_client
