"""Conditions in step: `when` and `unless` of a mapped task, decided for each item."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, DotFlow, action
from dotflow.core.links import Links
from dotflow.errors import InvalidLink
from dotflow.providers import ExecutorThread, LogDefault, StorageFile
from tests.integration.modes import COMPLETED, FAILED, SKIPPED, start, statuses

MakeWorkflow = Callable[..., DotFlow]
MODES = ["sequential", "background", "parallel"]


@action
def pages() -> list[int]:
    return [1, 2, 3, 4]


@action
def good(page: int) -> bool:
    return page % 2 == 0


@action
def route(page: int) -> str:
    return "fast" if page < 3 else "slow"


@action
def publish(page: int) -> str:
    return f"page {page}"


@action
def again(text: str) -> str:
    return text.upper()


@action
def all_of(publish: list[str]) -> list[str]:
    return publish


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("option", "came"),
    [
        ({"when": good}, ["page 2", "page 4"]),
        ({"unless": good}, ["page 1", "page 3"]),
        ({"when": {"route": "fast"}}, ["page 1", "page 2"]),
        ({"when": good, "unless": {"route": "fast"}}, ["page 4"]),
    ],
    ids=["when", "unless", "equal", "both"],
)
def test_a_condition_in_step_is_decided_for_each_item(
    make_workflow: MakeWorkflow, mode: str, option: dict[str, Any], came: list[str]
) -> None:
    """Items whose condition does not hold are SKIPPED, which is no failure; the value has those that came."""
    workflow = make_workflow()
    workflow.task.add(pages).add(good, each=pages).add(route, each=pages)
    workflow.task.add(publish, each=pages, **option).add(all_of)

    run = start(workflow, mode)

    assert run.status is COMPLETED
    task = run.tasks[3]
    assert task.status is COMPLETED
    assert run.tasks[4].current_context.storage == came
    items = [item for item in task.items if item.status is SKIPPED]
    assert len(items) == 4 - len(came)
    assert all(" was " in item.reason for item in items)
    counts = workflow.result().tasks[3].items
    assert (counts.completed, counts.skipped, counts.failed) == (len(came), len(items), 0)


@pytest.mark.parametrize("mode", MODES)
def test_order_counts_a_map_with_skipped_items_as_completed(make_workflow: MakeWorkflow, mode: str) -> None:
    """A task that needs a map of which a condition has skipped items runs."""
    workflow = make_workflow()
    workflow.task.add(pages).add(good, each=pages).add(publish, each=pages, when=good)
    workflow.task.add(action(lambda: "end"), name="end", needs=[publish])

    start(workflow, mode)

    assert statuses(workflow)[-1] is COMPLETED


@pytest.mark.parametrize("mode", MODES)
def test_a_map_over_a_map_skips_what_it_skips(make_workflow: MakeWorkflow, mode: str) -> None:
    """Item k of a map over a map is SKIPPED where the item beneath is."""
    workflow = make_workflow()
    workflow.task.add(pages).add(good, each=pages).add(publish, each=pages, when=good).add(again, each=publish)

    run = start(workflow, mode)

    assert [item.status for item in run.tasks[3].items] == [SKIPPED, COMPLETED, SKIPPED, COMPLETED]
    assert run.tasks[3].value == ["PAGE 2", "PAGE 4"]


@pytest.mark.parametrize("mode", MODES)
def test_an_item_whose_condition_failed_is_skipped(make_workflow: MakeWorkflow, mode: str) -> None:
    """A condition that failed for an item skips that item; the others run."""

    @action
    def bad(page: int) -> bool:
        if page == 2:
            raise ValueError("no idea")
        return page > 2

    workflow = make_workflow()
    workflow.task.add(pages).add(bad, each=pages).add(publish, each=pages, when=bad)

    run = start(workflow, mode, keep_going=True)

    assert run.status is FAILED
    first, second, *others = run.tasks[2].items
    assert (first.status, first.reason) == (SKIPPED, "bad was False")
    assert (second.status, second.reason) == (SKIPPED, "it depends on 'bad', which failed")
    assert [item.status for item in others] == [COMPLETED, COMPLETED]


class Undecided:
    def __bool__(self) -> bool:
        raise ValueError("neither")


@pytest.mark.parametrize("mode", MODES)
def test_a_value_that_can_not_be_compared_fails_its_item(make_workflow: MakeWorkflow, mode: str) -> None:
    """A condition whose value raises when it is compared fails that item, with what to do about it."""
    workflow = make_workflow(executor=ExecutorThread())
    workflow.task.add(action(lambda page: Undecided() if page == 2 else True), name="odd", each=[1, 2, 3])
    workflow.task.add(publish, each="odd", when="odd", keep_going=True)

    run = start(workflow, mode)

    assert [item.status for item in run.tasks[1].items] == [COMPLETED, FAILED, COMPLETED]
    assert "Return True or False from a step" in run.tasks[1].items[1].errors[0].traceback


@pytest.mark.parametrize("mode", MODES)
def test_a_condition_that_is_not_mapped_holds_for_all_items(make_workflow: MakeWorkflow, mode: str) -> None:
    """A plain value decides for the whole map, and a plain list is true if it has any."""
    workflow = make_workflow()
    workflow.task.add(pages).add(action(list), name="none")
    workflow.task.add(publish, each=pages, when=pages).add(again, each=publish, when="none")

    run = start(workflow, mode)

    assert run.tasks[2].status is COMPLETED
    assert (run.tasks[3].status, run.tasks[3].reason) == (SKIPPED, "none was []")


def by_item(links: Links | None) -> list[bool]:
    return [] if links is None else [condition.by_item for condition in links.conditions]


WRITTEN = [10, 20, 30]


@pytest.mark.parametrize(
    "build",
    [
        lambda add: add(pages).add(good, each=pages).add(publish, each=pages, when=good),
        lambda add: add(good, each=WRITTEN).add(publish, each=WRITTEN, when=good),
        lambda add: add(good, each=range(500, 503)).add(publish, each=range(500, 503), when=good),
        lambda add: add(pages).add(good, each=pages).add(publish, each=good, when=good),
        lambda add: add(pages).add(action(lambda page: page), name="first", each=pages).add(good, each="first").add(
            action(lambda page: page), name="second", each="first"
        ).add(publish, each="second", when=good),
        lambda add: add(pages).add(good, each=pages).add(
            action(lambda a, b: a), each={"a": pages, "b": WRITTEN}, when=good
        ),
    ],
    ids=["one list", "written down", "a range", "over it", "maps between", "one list in common"],
)  # fmt: skip
def test_maps_in_step(make_workflow: MakeWorkflow, build: Any) -> None:
    """Two maps are in step if they go through one list, or one over the other, however many maps lie between."""
    workflow = make_workflow()

    build(workflow.task.add)

    assert by_item(list(workflow.task)[-1].links) == [True]


@pytest.mark.parametrize(
    ("build", "why"),
    [
        (lambda add: add(good, each=[1, 2]).add(publish, each=[3, 4], when=good), "not mapped in step with it"),
        (lambda add: add(pages, name="a").add(pages, name="b").add(good, each="a").add(publish, each="b", when=good),
         "not mapped in step with it"),
        (lambda add: add(good, each=[1, 2]).add(pages, unless=good), "'pages' is not mapped"),
        (lambda add: add(good, each=[1, 2]).add(pages, when={"good": True}), "'pages' is not mapped"),
    ],
    ids=["other lists", "other tasks", "no map", "equal"],
)  # fmt: skip
def test_a_mapped_condition_that_is_not_in_step_is_refused(make_workflow: MakeWorkflow, build: Any, why: str) -> None:
    """Such a condition has no item for each item, or no single value, so `add` says what to do."""
    workflow = make_workflow()

    with pytest.raises(InvalidLink, match=f"{why}. Return a bool from a step that takes the list of 'good'"):
        build(workflow.task.add)


# Resume and plan


class Values:
    """What the steps of `resumed` return: tests change it between runs."""

    odd: bool = False
    ran: list[tuple[str, int]]

    def __init__(self) -> None:
        self.ran = []


def resumed(values: Values, folder: Path) -> DotFlow:
    def decide(page: int) -> bool:
        values.ran.append(("decide", page))
        return page % 2 == values.odd

    def show(page: int) -> int:
        values.ran.append(("show", page))
        return page * 10

    config = Config(storage=StorageFile(folder), log=LogDefault(output="none"), executor=ExecutorThread())
    workflow = DotFlow(config, workflow_id="w")
    workflow.task.add(action(lambda: [1, 2, 3]), name="pages")
    workflow.task.add(action(decide), name="decide", each="pages")
    return workflow.task.add(action(show), name="show", each="pages", when="decide") and workflow


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_a_finished_map_with_skipped_items_runs_nothing_again(tmp_path: Path, mode: str) -> None:
    """A resume skips the same items, and restores the others."""
    values = Values()
    resumed(values, tmp_path).start(mode)
    values.ran.clear()

    plan = resumed(values, tmp_path).plan(mode, resume=True)
    run = resumed(values, tmp_path).start(mode, resume=True)

    assert values.ran == []
    assert [str(task.decision) for task in plan.tasks] == ["restore"] * 3
    assert [item.status for item in run.tasks[2].items] == [SKIPPED, COMPLETED, SKIPPED]


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_an_item_whose_condition_runs_again_runs_again(tmp_path: Path, mode: str) -> None:
    """Only the item of the condition that runs again is void, not the others; the plan says how many are open."""
    values = Values()
    workflow = resumed(values, tmp_path)
    run = workflow.start(mode)
    key = f"w/decide-{run.tasks[1].items[1].key_suffix}"
    StorageFile(tmp_path).delete(key)
    values.ran.clear()

    plan = resumed(values, tmp_path).plan(mode, resume=True)
    resumed(values, tmp_path).start(mode, resume=True)

    assert values.ran == [("decide", 2), ("show", 2)]
    planned = plan.tasks[2]
    assert (str(planned.decision), planned.reason) == ("open", "when decide")
    assert "run 1 of 3" in str(plan)


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_an_item_whose_condition_is_false_now_loses_its_checkpoint(tmp_path: Path, mode: str) -> None:
    """A checkpoint is void if its condition does not hold any more, and the plan counts those that do."""
    values = Values()
    resumed(values, tmp_path).start(mode)
    values.odd, values.ran = True, []

    run = resumed(values, tmp_path).start(mode, resume=True, rerun=["decide"])

    assert sorted(values.ran) == [("decide", 1), ("decide", 2), ("decide", 3), ("show", 1), ("show", 3)]
    assert run.tasks[2].value == [10, 30]
    assert not StorageFile(tmp_path).contains(f"w/show-{run.tasks[2].items[1].key_suffix}")


def test_a_plan_counts_the_items_that_run(tmp_path: Path) -> None:
    """Where all conditions are known, the plan has the number of items that run."""
    values = Values()
    run = resumed(values, tmp_path).start()
    StorageFile(tmp_path).delete(f"w/show-{run.tasks[2].items[1].key_suffix}")

    plan = resumed(values, tmp_path).plan(resume=True)

    planned = plan.tasks[2]
    assert (str(planned.decision), planned.items, planned.items_done) == ("run", 3, 2)


def unsaved_options() -> dict[str, dict[str, Any]]:
    """Returns options with which a run parameter of an added workflow gets a value without a checkpoint."""
    return {
        "plain": {"needs": {"flag": "unsaved"}},
        "each": {"needs": {"flag": "unsaved"}, "each": {"item": [1, 2]}},
        "rounds": {"needs": {"flag": "unsaved"}, "params": {"item": 1}, "carry": {}, "repeat": 2},
        "items": {"each": {"flag": "unsaved_items"}, "params": {"item": 1}},
    }


@pytest.mark.parametrize("case", unsaved_options())
def test_a_run_parameter_without_a_checkpoint_is_no_condition(case: str) -> None:
    """A resume would not know the value, and so void what was done."""
    inner = DotFlow(params={"flag": ..., "item": 0})
    inner.task.add(action(lambda item: item), name="first").add(publish, needs={"page": "first"}, when="flag")
    workflow = DotFlow()
    workflow.task.add(action(checkpoint=False)(lambda: True), name="unsaved")
    workflow.task.add(action(checkpoint=False)(lambda n: n), name="unsaved_items", each=[0, 1])

    with pytest.raises(InvalidLink, match=r"can't depend on 'unsaved(_items)?', which has checkpoint=False"):
        workflow.task.add(inner, name="inner", **unsaved_options()[case])


def test_an_item_of_a_list_that_is_made_anew_is_a_condition(tmp_path: Path) -> None:
    """It is known again before it decides, so what was done is restored."""
    ran: list[int] = []

    def start_again() -> list[int]:
        inner = DotFlow(params={"item": ...})
        inner.task.add(action(lambda item: ran.append(item) or item), name="done", when="item")
        workflow = DotFlow(Config(storage=StorageFile(tmp_path), log=LogDefault(output="none")), workflow_id="w")
        workflow.task.add(action(checkpoint=False)(lambda: [0, 1, 2]), name="listed")
        workflow.task.add(inner, name="inner", each={"item": "listed"})
        value: list[int] = workflow.start(resume=True).value("inner")
        return value

    assert start_again() == start_again() == [1, 2]
    assert ran == [1, 2]


@pytest.mark.parametrize("numbers", [[1, 3], []])
def test_a_map_without_items_that_ran_waits_for_its_needs_in_a_resume(tmp_path: Path, numbers: list[int]) -> None:
    """All of its items are skipped, or there are none: what needs failed tasks is skipped again, and what takes it."""
    ran: list[list[int]] = []

    def tests() -> None:
        raise ValueError("red")

    workflow = DotFlow(Config(storage=StorageFile(tmp_path), log=LogDefault(output="none")), workflow_id="w")
    workflow.task.add(action(tests), name="tests")
    workflow.task.add(action(lambda n: n % 2 == 0), name="even", each=numbers)
    workflow.task.add(action(lambda n: n), name="odd", each={"n": "even"}, when="even")
    workflow.task.add(action(lambda n: n), name="part", each={"n": "odd"}, needs=["tests"])
    workflow.task.add(action(lambda part: ran.append(part)), name="deploy")
    for resume in (False, True, True):
        workflow.start(resume=resume, keep_going=True)

        assert statuses(workflow) == [FAILED, COMPLETED, COMPLETED, SKIPPED, SKIPPED]
    assert ran == []
