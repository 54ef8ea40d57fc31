"""Maps over run parameters and over every combination of lists, and what a map's Context says of its entries."""

import pickle
from collections.abc import Callable
from typing import Any

import pytest

from dotflow import Config, Context, DotFlow, MapContext, Secret, action
from dotflow.abc.storage import Storage
from dotflow.errors import InvalidArgument, InvalidLink, MissingParam
from dotflow.providers import LogDefault, StorageFile
from dotflow.testing import assert_survives_crashes
from tests.integration.modes import COMPLETED, FAILED, MODES, SKIPPED, group, start
from tests.marks import in_any_worker
from tests.storages import StorageThree

MakeWorkflow = Callable[..., DotFlow]
ran: list[Any] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()


class Lines(LogDefault):
    """Keeps what is reported."""

    def __init__(self) -> None:
        super().__init__(output="none")
        self.lines: list[str] = []

    def report(self, message: str) -> None:
        self.lines.append(message)


@action
def cities() -> list[str]:
    ran.append("cities")
    return ["Lima", "Oslo"]


@action
def weather(city: str, day: int) -> str:
    ran.append(f"{city} {day}")
    if city == "Rome":
        raise ValueError(city)
    return f"{city} {day}"


@action
def shout(text: str) -> str:
    return text.upper()


@action
def fragile(number: int) -> int:
    if number < 0:
        raise ValueError(number)
    return 10 * number


@action
def entries(weather_context: MapContext) -> list[Any]:
    return weather_context.entries


# A list that is a run parameter


def test_a_run_parameter_is_the_list_and_names_the_run(make_workflow: MakeWorkflow) -> None:
    """Another list is another run with its own checkpoints."""
    workflow = make_workflow(workflow_id="w", params={"numbers": [1, 2]})
    workflow.task.add(fragile, each="numbers").add(fragile, name="named", each={"number": "numbers"})

    assert workflow.start().value("named") == [10, 20]
    run = workflow.start(params={"numbers": (3,)})

    assert (run.workflow_id, run.value("fragile"), run.value("named")) == ("w@numbers=[3]", [30], [30])
    assert workflow.start(resume=True).task("named").restored_from == "checkpoint"


def test_a_list_without_a_default_is_checked_before_the_run(make_workflow: MakeWorkflow) -> None:
    """A text would be gone through letter by letter."""
    workflow = make_workflow(params={"numbers": ...})
    workflow.task.add(fragile, each="numbers")

    assert workflow.start(params={"numbers": []}).value("fragile") == []
    with pytest.raises(MissingParam):
        workflow.start()
    with pytest.raises(InvalidArgument, match="a value of type list"):
        workflow.start(params={"numbers": "12"})


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, [10]), ({"needs": {"numbers": "given"}}, [20, 30]), ({"needs": {"numbers": "listed"}}, [70])],
)
def test_a_nested_workflow_goes_through_its_parameter(
    make_workflow: MakeWorkflow, options: dict[str, Any], expected: list[int]
) -> None:
    """Its default, a run parameter of the outer workflow, or the value of a task."""
    inner = DotFlow(params={"numbers": [1]})
    inner.task.add(fragile, each="numbers")
    workflow = make_workflow(params={"given": [2, 3]})
    workflow.task.add(action(lambda: [7]), name="listed").add(inner, name="inner", **options)

    assert workflow.start().value("inner") == expected


def test_a_nested_list_is_checked_when_it_is_added() -> None:
    """The default of the outer parameter is what it goes through."""
    inner = DotFlow(params={"numbers": ...})
    inner.task.add(fragile, each="numbers")

    with pytest.raises(InvalidLink, match="its default is of type int"):
        DotFlow(params={"numbers": 3}).task.add(inner, name="inner")
    with pytest.raises(MissingParam):
        DotFlow().task.add(inner, name="inner")
    empty = DotFlow(params={"numbers": None})
    empty.task.add(fragile, each="numbers")
    with pytest.raises(InvalidLink, match="its default is of type NoneType"):
        DotFlow().task.add(empty, name="inner")


def test_a_secret_is_no_list() -> None:
    """Neither one that is declared as a secret, nor one that a step takes as a secret."""
    with pytest.raises(InvalidLink, match="it is a secret"):
        DotFlow(params={"numbers": Secret("TOKEN")}).task.add(fragile, each="numbers")
    workflow = DotFlow(params={"numbers": ...})
    workflow.task.add(action(lambda numbers=Secret("TOKEN"): 0)).add(fragile, each="numbers")
    with pytest.raises(InvalidLink, match="a step takes it as a secret"):
        workflow.start(params={"numbers": "hunter22"})


# Every combination


@in_any_worker
@pytest.mark.parametrize("mode", MODES)
def test_every_combination_the_last_list_fastest(make_workflow: MakeWorkflow, mode: str) -> None:
    """Of tasks, run parameters and lists that are written down."""
    workflow = make_workflow(params={"days": [1, 2]})
    workflow.task.add(cities, group_name=group(mode, 0))
    workflow.task.add(weather, cross={"city": cities, "day": "days"}, group_name=group(mode, 1))
    workflow.task.add(weather, name="old", cross={"day": [1], "city": ["Rome"]}, keep_going=True)
    workflow.task.add(entries)

    run = start(workflow, mode)

    assert run.value("weather") == ["Lima 1", "Lima 2", "Oslo 1", "Oslo 2"]
    assert run.value("entries")[1] == {"city": "Lima", "day": 2}
    assert run["weather"].items[2].input == {"city": "Oslo", "day": 1}
    assert run["old"].status is FAILED


def test_one_empty_list_is_no_combination(make_workflow: MakeWorkflow) -> None:
    """The task completes with []."""
    workflow = make_workflow()
    workflow.task.add(cities).add(weather, cross={"city": cities, "day": []}).add(entries)

    run = workflow.start()

    assert (run["weather"].status, run.value("weather"), run.value("entries")) == (COMPLETED, [], [])


@pytest.mark.parametrize("mode", MODES)
def test_a_mapped_source_is_waited_for_and_gives_what_came(make_workflow: MakeWorkflow, mode: str) -> None:
    """An item that failed is in no combination."""
    workflow = make_workflow()
    workflow.task.add(fragile, each=[1, -1, 2]).add(weather, cross={"day": fragile, "city": ["Lima"]})

    run = start(workflow, mode, keep_going=True)

    assert run.value("weather") == ["Lima 10", "Lima 20"]


def test_a_source_that_is_no_list_fails(make_workflow: MakeWorkflow) -> None:
    """As for each."""
    workflow = make_workflow()
    workflow.task.add(action(lambda: {1: 2}), name="days").add(weather, cross={"city": ["Lima"], "day": "days"})

    run = workflow.start()

    assert run["weather"].error is not None
    assert run["weather"].error.exception == "NotAList"


def test_a_map_over_combinations_goes_on_item_by_item(make_workflow: MakeWorkflow) -> None:
    """Its entries are those of the first map."""
    workflow = make_workflow()
    workflow.task.add(weather, name="all", cross={"city": ["Lima", "Rome"], "day": [1]})
    workflow.task.add(shout, name="weather", each="all").add(entries)

    run = workflow.start(mode="parallel", keep_going=True)

    assert [item.status for item in run["weather"].items] == [COMPLETED, SKIPPED]
    assert run.value("weather") == ["LIMA 1"]
    assert run.value("entries") == [{"city": "Lima", "day": 1}, {"city": "Rome", "day": 1}]


def grid(storage: Storage, days: list[int], **options: Any) -> DotFlow:
    workflow = DotFlow(Config(storage=storage, log=LogDefault(output="none")), workflow_id="w", **options)
    workflow.task.add(cities).add(weather, cross={"city": cities, "day": days}).add(entries)
    return workflow


@pytest.mark.parametrize("kind", ["memory", "three methods"])
def test_a_combination_is_known_by_its_values(kind: str) -> None:
    """A longer list, and another order, keep what is finished; the plan says so before."""
    storage: Any = StorageThree() if kind == "three methods" else Config().storage
    grid(storage, [1, 2]).start()
    ran.clear()
    workflow = grid(storage, [3, 2, 1])

    planned = workflow.plan(resume=True).tasks[1]
    run = workflow.start(resume=True)

    assert (str(planned.decision), planned.items, planned.items_done) == ("run", 6, 4)
    assert ran == ["Lima 3", "Oslo 3"]
    assert run.value("entries")[0] == {"city": "Lima", "day": 3}


def of_a_map(storage: Storage) -> DotFlow:
    workflow = DotFlow(Config(storage=storage, log=LogDefault(output="none")))
    workflow.task.add(fragile, each=[1, 2]).add(weather, cross={"city": ["Lima"], "day": fragile}).add(entries)
    return workflow


@pytest.mark.exhaustive
@pytest.mark.processes
@pytest.mark.timeout(90)
@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_combinations_survive_a_kill_at_any_moment(tmp_path: Any, mode: str) -> None:
    """With nothing lost and nothing stale."""
    assert assert_survives_crashes(of_a_map, StorageFile(tmp_path), mode=mode).crashes > 20


# Entries


@pytest.mark.parametrize("mode", MODES)
def test_a_context_has_the_entry_of_each_item(make_workflow: MakeWorkflow, mode: str) -> None:
    """Also of those that failed, and of a map over a map that of the first one, by parameter for several lists."""

    @action
    def seen(a_context: Context, b_context: Context, c_context: Context) -> list[Any]:
        return [a_context.entries, b_context.entries, c_context.entries]

    workflow = make_workflow()
    workflow.task.add(fragile, name="a", each=[1, -1]).add(fragile, name="b", each="a")
    both = action(lambda left, right: 0)
    workflow.task.add(both, name="c", each={"left": "b", "right": [5, 6]}).add(seen)

    run = start(workflow, mode, keep_going=True)

    assert run.value("seen") == [[1, -1], [1, -1], [{"left": 1, "right": 5}, {"left": -1, "right": 6}]]


def test_a_context_of_no_map_has_no_entries() -> None:
    """As it has no errors. Those of a map go along to other processes."""
    workflow = DotFlow(Config(log=LogDefault(output="none")))
    workflow.task.add(fragile, each=[1])

    assert list(Context(1).entries) == []
    assert pickle.loads(pickle.dumps(workflow.start()["fragile"].current_context)).entries == [1]


def test_another_entry_that_failed_voids_who_takes_the_context() -> None:
    """Its Context shows the entry, though no value comes of it."""
    storage = Config().storage

    def run(*numbers: int) -> Any:
        workflow = DotFlow(Config(storage=storage, log=LogDefault(output="none")), workflow_id="w")
        workflow.task.add(fragile, name="weather", each=numbers).add(entries)
        return workflow.start(resume=True, keep_going=True).value("entries")

    assert run(1, -1) == [1, -1]
    assert run(1, -2) == [1, -2]


def test_a_cached_value_belongs_to_its_entries() -> None:
    """Maps with equal values of other entries have other Contexts."""
    storage = Config().storage

    @action(cache=True)
    def seen(same_context: Context) -> list[Any]:
        return list(same_context.entries)

    def run(*numbers: int) -> Any:
        workflow = DotFlow(Config(storage=storage, log=LogDefault(output="none")))
        workflow.task.add(action(lambda number: 0), name="same", each=numbers).add(seen)
        return workflow.start().value("seen")

    assert run(1, 2) == [1, 2]
    assert run(3, 4) == [3, 4]


# Missing values


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_a_step_that_takes_fewer_values_than_entries_is_reported_once(mode: str) -> None:
    """It would pair the wrong ones. Taking the Context, or no list beside, is no mistake."""
    log = Lines()

    @action
    def paired(numbers: list[int], last: list[int]) -> list[tuple[int, int]]:
        return list(zip(numbers, last, strict=False))

    @action
    def knowing(numbers: list[int], last: list[int], last_context: Context) -> int:
        return len(last_context.entries)

    @action
    def counted(last: list[int]) -> int:
        return len(last)

    workflow = DotFlow(Config(log=log), params={"numbers": [1, -1, 2]})
    workflow.task.add(fragile, name="first", each="numbers").add(fragile, name="last", each="first")
    workflow.task.add([paired, knowing, counted])

    run = start(workflow, mode, keep_going=True)

    assert run.value("paired") == [(1, 100), (-1, 200)]
    assert log.lines == ["Task 2 paired: 1 of 3 values of 'last' are missing: take last_context."]


def test_two_maps_that_lack_the_same_items_fit_each_other() -> None:
    """So nothing is reported of them, nor of a complete map."""
    log = Lines()

    @action
    def paired(first: list[int], last: list[int]) -> int:
        return len(first) - len(last)

    for numbers in ([1, -1], [1, 2]):
        workflow = DotFlow(Config(log=log))
        workflow.task.add(fragile, name="first", each=numbers).add(fragile, name="last", each="first").add(paired)
        assert workflow.start(keep_going=True).value("paired") == 0

    assert log.lines == []
