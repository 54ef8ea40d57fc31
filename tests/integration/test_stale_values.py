"""A resume takes no value that the workflow would make otherwise now, and repeats nothing that it would make again."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dotflow import Config, Context, DotFlow, action
from dotflow.abc.history import History
from dotflow.abc.storage import Storage
from dotflow.core.events import Event
from dotflow.core.types.status import TypeStatus
from dotflow.errors import CheckpointMismatch
from dotflow.graph.linked_task import MapContext
from dotflow.providers import LogDefault, StorageDefault
from tests import resume_fuzz
from tests.storages import StorageThree

ran: list[Any] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()


@pytest.fixture(params=["memory", "three methods", "file"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    folder = tmp_path / "kept"
    return resume_fuzz.STORAGES[request.param](folder)


def run(storage: Storage, add: Callable[[DotFlow], object], resume: Any = True, **arguments: Any) -> DotFlow:
    ran.clear()
    workflow = DotFlow(Config(storage=storage, log=LogDefault(output="none")), workflow_id="w")
    add(workflow)
    workflow.start(resume=resume, **arguments)
    return workflow


@action
def double(value: int) -> int:
    ran.append(value)
    if value < 0:
        raise ValueError(value)
    return 2 * value


@action
def one() -> int:
    ran.append("one")
    return 1


@action
def two() -> int:
    ran.append("two")
    return 2


@action
def after(previous_context: Context) -> Any:
    ran.append("after")
    return previous_context.storage


@action
def lengths(double_context: MapContext) -> tuple[int, list[int]]:
    return len(double_context.storage), list(double_context.errors)


def test_the_context_of_a_map_counts_its_failed_items(storage: Storage) -> None:
    """Without the failed item the values are the same, but not the Context."""
    run(storage, lambda flow: flow.task.add(double, each=[1, -1, 3]).add(lengths), keep_going=True)

    workflow = run(storage, lambda flow: flow.task.add(double, each=[1, 3]).add(lengths))

    assert workflow.result_storage()[1] == (2, [])


class Reduced:
    """A map over a list that a step makes, and two steps after it."""

    def __init__(self) -> None:
        self.entries = [1, 2]
        self.red: set[str] = set()
        self.is_open = True

    def note(self, name: str, value: Any) -> Any:
        ran.append(name)
        if name in self.red:
            raise ValueError(name)
        return value

    def __call__(self, flow: DotFlow) -> None:
        flow.task.add(action(lambda: self.note("entries", self.entries)), name="entries")
        flow.task.add(action(lambda: self.note("gate", self.is_open)), name="gate")
        flow.task.add(action(lambda entry: self.note(f"work {entry}", entry)), name="work", each={"entry": "entries"})
        flow.task.add(action(lambda work: self.note("total", sum(work))), name="total", when="gate")
        flow.task.add(action(lambda total: self.note("report", total)), name="report")


def test_a_list_that_is_made_anew_and_equal_lets_what_takes_its_map_stand(storage: Storage) -> None:
    """No item runs, so what was made from them is as it was; only the run knows, and the plan says so."""
    reduced = Reduced()
    run(storage, reduced)
    workflow = DotFlow(Config(storage=storage, log=LogDefault(output="none")), workflow_id="w")
    reduced(workflow)

    plan = workflow.plan(rerun="entries")
    again = run(storage, reduced, rerun="entries")

    assert [(task.decision, task.reason) for task in plan.tasks[3:]] == [
        ("open", "if the value of work changes"),
        ("open", "if the value of total changes"),
    ]
    assert (ran, again.last.value("report")) == (["entries"], 3)
    assert [task.restored_from for task in again.last.tasks] == [None, *["checkpoint"] * 4]
    run(storage, reduced)
    assert ran == []


@pytest.mark.parametrize("entries", [[1, 2, 3], [2, 1], [1]])
def test_another_list_lets_nothing_stand(storage: Storage, entries: list[int]) -> None:
    """A longer one, another order and a shorter one."""
    reduced = Reduced()
    run(storage, reduced)
    reduced.entries = entries

    again = run(storage, reduced, rerun="entries")

    assert ran == ["entries", *(["work 3"] if 3 in entries else []), "total", "report"]
    assert again.last.value("report") == sum(entries)


def test_what_was_undecided_runs_where_an_item_fails_again(storage: Storage) -> None:
    """As it does where the list is known before; and it is skipped where its condition is false now."""
    reduced = Reduced()
    reduced.red = {"work 2"}
    run(storage, reduced, keep_going=True)
    run(storage, reduced, keep_going=True, rerun="entries")
    assert ran == ["entries", "work 2", "total", "report"]

    reduced.red, reduced.is_open = set(), False
    again = run(storage, reduced, rerun=["entries", "gate"])

    assert ran == ["entries", "gate", "work 2"]
    assert [task.status for task in again.last.tasks[3:]] == [TypeStatus.SKIPPED] * 2
    reduced.is_open = True
    run(storage, reduced, rerun="gate")
    assert ran == ["gate", "total", "report"]


def test_a_run_that_ends_before_it_decides_is_unfinished(storage: Storage) -> None:
    """All values are there, and one of them is made from an earlier list."""
    reduced = Reduced()
    run(storage, reduced)
    reduced.entries, reduced.red = [2, 1], {"gate"}
    run(storage, reduced, rerun=["entries", "gate"])
    reduced.red = set()

    run(storage, reduced, resume="unfinished")

    assert ran == ["gate", "total", "report"]


def test_a_run_that_is_killed_before_it_decides_is_unfinished(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No value is missing, but the runs that made them show it."""
    reduced = Reduced()
    run(storage, reduced)
    reduced.entries, delete = [2, 1], storage.delete

    def killed(key: str) -> None:
        if key.endswith("total"):
            raise KeyboardInterrupt
        delete(key)

    with monkeypatch.context() as patch:
        patch.setattr(storage, "delete", killed)
        with pytest.raises(KeyboardInterrupt):
            run(storage, reduced, rerun="entries")
    assert ran == ["entries"]

    run(storage, reduced, resume="unfinished")

    assert ran == ["total", "report"]


def test_a_map_in_another_order_is_another_previous_value(storage: Storage) -> None:
    """No item runs, and the task after the map does."""
    run(storage, lambda flow: flow.task.add(double, each=[1, 2]).add(after))

    workflow = run(storage, lambda flow: flow.task.add(double, each=[2, 1]).add(after))

    assert ran == ["after"]
    assert workflow.result_storage()[1] == [4, 2]


@pytest.mark.parametrize("name", ["third", None])
def test_the_task_before_is_known_by_its_name(storage: Storage, name: str | None) -> None:
    """Two named tasks change their places: the task after them has another previous value."""
    run(storage, lambda flow: flow.task.add(one, name="a").add(two, name="b").add(after, name=name))

    workflow = run(storage, lambda flow: flow.task.add(two, name="b").add(one, name="a").add(after, name=name))

    assert ran == ["after"]
    assert workflow.result_storage() == [2, 1, 1]


def test_a_task_that_moves_with_the_one_before_is_restored(storage: Storage) -> None:
    """Its previous value is the same, whatever its index."""
    run(storage, lambda flow: flow.task.add(one, name="a").add(after, name="b"))

    run(storage, lambda flow: flow.task.add(two, name="new").add(one, name="a").add(after, name="b"))

    assert ran == ["two"]


@action
def difference(left: int, right: int) -> int:
    return left - right


def test_two_maps_of_one_step_keep_their_own_values(storage: Storage) -> None:
    """Each parameter of an item has a token of its own."""

    def build(left: str, right: str) -> Callable[[DotFlow], object]:
        return lambda flow: (
            flow.task.add(double, name="a", each=[1, 2])
            .add(double, name="b", each=[5, 6])
            .add(difference, each={"left": left, "right": right})
        )

    run(storage, build("a", "b"))

    assert run(storage, build("b", "a")).result_storage()[2] == [8, 8]


class Handle:
    """What no storage keeps."""

    def __init__(self, number: int) -> None:
        self.number = number


def test_items_without_a_key_follow_the_value_of_their_list() -> None:
    """They are known by their index, so another list has other items."""
    storage = StorageDefault()
    numbers = [1, 2]

    @action
    def handles() -> list[Handle]:
        return [Handle(number) for number in numbers]

    @action
    def read(handle: Handle) -> int:
        ran.append(handle.number)
        return handle.number

    def add(flow: DotFlow) -> object:
        return flow.task.add(handles).add(read, each=handles)

    run(storage, add)
    run(storage, add)
    assert ran == []
    numbers[:] = [3, 4]
    storage.delete("w/0")

    assert run(storage, add).result_storage()[1] == [3, 4]


@action
def shown(previous_context: Context) -> str:
    ran.append(previous_context.storage)
    return f"{previous_context.storage}"


def test_an_item_that_is_the_previous_context_is_known_by_its_value(storage: Storage) -> None:
    """The list runs again and has one more: the others are restored."""
    numbers = [1, 2]

    @action
    def listed() -> list[int]:
        return list(numbers)

    def add(flow: DotFlow) -> object:
        return flow.task.add(listed, name="listed").add(shown, each=listed)

    workflow = run(storage, add)
    numbers.append(3)
    storage.delete(storage.key(workflow.result_task()[0]))

    assert run(storage, add).result_storage()[1] == ["1", "2", "3"]
    assert ran == [3]


@action
def total(one: int = 0) -> int:
    ran.append("total")
    return one + 100


def test_a_workflow_that_lost_its_links(storage: Storage) -> None:
    """The value of a task that is gone does not stay in another one."""
    run(storage, lambda flow: flow.task.add(one, name="one").add(total))

    workflow = run(storage, lambda flow: flow.task.add(two).add(total))

    assert workflow.result_storage() == [2, 100]


def test_a_workflow_that_gets_links(storage: Storage) -> None:
    """A run without links has saved the rest: it is compared as before, and restored."""
    run(storage, lambda flow: flow.task.add([one, after]))

    run(storage, lambda flow: flow.task.add([one, after]).add(total))

    assert ran == ["total"]


def test_a_map_that_becomes_a_single_task(storage: Storage) -> None:
    """What a storage keeps to find the items is not taken for a value."""
    run(storage, lambda flow: flow.task.add(double, each=[1, 2], name="a"))

    workflow = run(storage, lambda flow: flow.task.add(two).add(double, name="a", needs={"value": two}))

    assert workflow.result_storage() == [2, 4]


def test_a_new_run_voids_the_items_of_a_map_that_is_gone(storage: Storage) -> None:
    """Put back, the map runs again."""
    run(storage, lambda flow: flow.task.add(one).add(double, each=[1, 2]))
    run(storage, lambda flow: flow.task.add(one).add(total, name="x"), resume=False)

    run(storage, lambda flow: flow.task.add(one).add(double, each=[1, 2]))

    assert ran == [1, 2]


class Undecided:
    """Neither true nor false."""

    def __bool__(self) -> bool:
        raise ValueError("undecided")


def test_a_condition_that_raises_fails_its_task_in_a_resume_too() -> None:
    """As it does in the first run."""
    storage = StorageDefault()
    undecided = action(lambda: Undecided())

    def add(flow: DotFlow) -> object:
        return flow.task.add(undecided, name="good").add(one, when="good")

    for _ in range(2):
        workflow = run(storage, add)
        assert workflow.result_task()[1].status is TypeStatus.FAILED


@pytest.mark.parametrize("waits", [{}, {"when": "double"}])
def test_both_parameters_from_one_map(waits: dict[str, str]) -> None:
    """Side by side, too, each item runs once."""

    def add(flow: DotFlow) -> object:
        return flow.task.add(double, each=[1, 2]).add(difference, each={"left": double, "right": double}, **waits)

    workflow = run(StorageDefault(), add, mode="parallel")

    assert workflow.result_storage()[1] == [0, 0]
    assert workflow.result_task()[1].status is TypeStatus.COMPLETED


class Pair(NamedTuple):
    first: str
    second: str


PAIRS: dict[str, Any] = {
    "tuple": ("1", "2"),
    "dict": {"first": "1", "second": "2"},
    "NamedTuple": Pair("1", "2"),
}


def parts(value: Any, outputs: list[str], **options: Any) -> Callable[[DotFlow], object]:
    """Returns what adds a task with outputs, a task with *options*, and one that takes its value."""

    def add(flow: DotFlow) -> object:
        flow.task.add(action(lambda: value), name="pair", outputs=outputs)
        flow.task.add(action(lambda x: ran.append("taker") or x), name="taker", **options)
        return flow.task.add(action(lambda taker: taker), name="last")

    return add


@pytest.mark.parametrize("kind", PAIRS)
def test_a_task_runs_again_that_takes_another_part_of_a_value(kind: str) -> None:
    """Of the same value, or the whole value in place of a part; the plan knows it."""
    storage, value = StorageDefault(), PAIRS[kind]

    def add(source: str) -> Callable[[DotFlow], object]:
        return parts(value, ["first", "second"], needs={"x": source})

    run(storage, add("first"))
    for source, taken in (("second", "2"), ("pair", value), ("first", "1")):
        planned = DotFlow(Config(storage=storage, log=LogDefault(output="none")), workflow_id="w")
        add(source)(planned)
        assert [str(task.decision) for task in planned.plan(resume=True).tasks] == ["restore", "run", "run"]
        workflow = run(storage, add(source), resume="changed")  # type: ignore[arg-type]
        assert (workflow.result_storage()[1:], ran) == ([taken, taken], ["taker"])
        run(storage, add(source))
        assert ran == []


@pytest.mark.parametrize(("kind", "taken"), [("tuple", "2"), ("dict", "1"), ("NamedTuple", "1")])
def test_outputs_in_another_order_count_where_they_go_by_position(kind: str, taken: str) -> None:
    """A name is another part of a tuple then, and the same one of a dict."""
    storage = StorageDefault()
    run(storage, parts(PAIRS[kind], ["first", "second"], needs={"x": "first"}))

    workflow = run(storage, parts(PAIRS[kind], ["second", "first"], needs={"x": "first"}))

    assert workflow.result_storage()[1] == taken
    assert ran == (["taker"] if kind == "tuple" else [])


def test_a_map_over_another_part_runs_again() -> None:
    """Over a part of each item, in step and in a cross, of a list whose items no storage can keep, and in a nest."""

    def add(part: str) -> Callable[[DotFlow], object]:
        def build(flow: DotFlow) -> object:
            flow.task.add(action(lambda n: (n, -n)), name="pair", each=[1, 2], outputs=["up", "down"])
            flow.task.add(action(lambda x: x), name="mapped", each={"x": part})
            flow.task.add(action(lambda x, y: x + y), name="crossed", cross={"x": part, "y": [0]})
            flow.task.add(action(lambda x: x), name="taken", needs={"x": part})
            flow.task.add(
                action(lambda: ([object()], [object(), object()])), name="odd", outputs=["odd_up", "odd_down"]
            )
            flow.task.add(action(lambda x: 1), name="odd_items", each={"x": f"odd_{part}"})
            inner = DotFlow(params={"item": ...})
            inner.task.add(action(lambda item: (item, -item)), name="two", outputs=["up", "down"])
            inner.task.add(action(lambda x: x), name="one", needs={"x": part})
            return flow.task.add(inner, name="nest", each={"item": [1, 2]})

        return build

    storage = StorageDefault()
    run(storage, add("up"))
    expected = run(StorageDefault(), add("down")).result_storage()

    again = run(storage, add("down")).result_storage()

    assert [again[index] for index in (1, 2, 3, 5, 7)] == [expected[index] for index in (1, 2, 3, 5, 7)]
    assert again[1] == again[2] == again[3] == again[7] == [-1, -2]


def test_the_part_of_an_unsaved_value_counts() -> None:
    """Which a resume does not know."""

    def add(part: str, **options: Any) -> Callable[[DotFlow], object]:
        def build(flow: DotFlow) -> object:
            flow.task.add(action(lambda: (1, 2), checkpoint=False), name="pair", outputs=["a", "b"])
            return flow.task.add(action(lambda x: ran.append("taker") or x), name="taker", needs={"x": part}, **options)

        return build

    storage = StorageDefault()
    run(storage, add("a"))
    assert run(storage, add("a")).result_storage()[1] == 1
    assert ran == []
    assert run(storage, add("b")).result_storage()[1] == 2
    assert ran == ["taker"]


@pytest.mark.parametrize("is_saved", [True, False])
def test_a_map_over_unsaved_items_keeps_its_values(is_saved: bool) -> None:
    """Those of a workflow for each item, also where its list has to be made anew, so that its items open in the run."""

    def add(flow: DotFlow) -> object:
        inner = DotFlow(params={"item": ...})
        inner.task.add(action(lambda item: item.upper(), checkpoint=False), name="read")
        inner.task.add(action(lambda item: ran.append("kept")), name="keep")
        flow.task.add(action(lambda: ["a", "b"], checkpoint=is_saved), name="names").add(inner, name="m", each="names")
        return flow.task.add(action(lambda row: ran.append("over") or row), name="over", each={"row": "m.read"})

    storage = StorageDefault()
    assert run(storage, add).result_storage()[3] == ["A", "B"]
    for _ in range(2):
        assert run(storage, add).result_storage()[3] == ["A", "B"]
        assert ran == []


@pytest.mark.exhaustive(keep_every=4)
@pytest.mark.parametrize("name", resume_fuzz.STORAGES)
def test_random_workflows(name: str, stride: int) -> None:
    """Random workflows that are killed, changed and resumed return what a new run returns."""
    first = random.Random(name).randrange(1000)
    seeds = range(first, first + 60, 1 if stride == 1 else 13)

    assert "\n".join(filter(None, (resume_fuzz.check(seed, name) for seed in seeds))) == ""


class Reader(History):
    """Reads each record at each event."""

    def __init__(self) -> None:
        self.workflow: DotFlow | None = None

    def record(self, run_id: str, event: Event) -> None:
        assert self.workflow is not None
        assert len(self.workflow.result_context()) == 2


def test_a_map_that_did_not_open_has_no_values_even_if_its_context_was_read() -> None:
    """Reading a record's empty context makes one, which is no result."""
    reader = Reader()
    workflow = DotFlow(Config(history=reader, log=LogDefault(output="none")))
    reader.workflow = workflow
    workflow.task.add(difference, name="a", each={"left": [1], "right": []}).add(double, each="a")

    workflow.start(keep_going=True)

    assert [task.status for task in workflow.result_task()] == [TypeStatus.FAILED, TypeStatus.SKIPPED]


@action(checkpoint=False)
def connection() -> list[int]:
    ran.append("connection")
    return [10]


@action
def query(connection: list[int], number: int) -> int:
    ran.append(number)
    return connection[0] * number


def test_a_finished_map_needs_no_connection(storage: Storage) -> None:
    """All of its items are restored, so the value without a checkpoint is not made, and nothing is skipped."""

    def add(flow: DotFlow) -> object:
        return flow.task.add(connection).add(query, each=[1, 2]).add(after, name="after")

    run(storage, add)
    workflow = run(storage, add)

    assert ran == []
    assert workflow.result_storage() == [None, [10, 20], [10, 20]]


def test_an_empty_map_is_not_restored_where_its_value_runs_again(storage: Storage) -> None:
    """It has no items, and still is skipped where the value that they would take fails."""
    fails: list[int] = []

    @action
    def scale() -> int:
        if fails:
            raise ValueError
        return 1

    @action
    def scaled(number: int, scale: int) -> int:
        return number * scale

    def add(flow: DotFlow) -> object:
        return flow.task.add(scale, name="scale").add(scaled, each=[])

    workflow = run(storage, add)
    storage.delete(storage.key(workflow.result_task()[0]))
    fails.append(1)

    workflow = run(storage, add, keep_going=True)

    assert workflow.result_task()[1].status is TypeStatus.SKIPPED


class Lines(LogDefault):
    """Keeps what is reported."""

    def __init__(self) -> None:
        super().__init__(output="none")
        self.reports: list[str] = []

    def report(self, message: str) -> None:
        self.reports.append(message)


@action
def connection_free() -> list[int]:
    return [1, 2]


@action
def halve(value: int) -> int:
    return value // 2


class ValuesOnly(StorageThree):
    """Keeps values, and not what they were made from."""

    def post(self, key: str, context: Context) -> None:
        self.kept[key] = Context(context.storage, context.task_id)


def test_values_that_can_not_be_compared_are_reported() -> None:
    """A storage that keeps values only: tasks that take values of others are restored, once reported for each."""
    storage, lines = ValuesOnly(), Lines()

    def add(flow: DotFlow) -> object:
        flow.config.log = lines
        return flow.task.add(connection_free, name="list").add(double, each="list").add(lengths)

    run(storage, add)
    run(storage, add)

    assert ran == []
    notes = [line for line in lines.reports if "does not record which values" in line]
    assert [line.partition(" is restored")[0] for line in notes] == ["Task 1 double", "Task 2 lengths"]


def test_a_map_of_another_step_is_reported_once(storage: Storage) -> None:
    """Not for each item."""
    run(storage, lambda flow: flow.task.add(double, each=[1, 2, 3]))

    with pytest.raises(CheckpointMismatch) as raised:
        run(storage, lambda flow: flow.task.add(halve, each=[1, 2, 3]))

    assert len(raised.value.mismatches) == 1
