"""Order: `needs=[task]` requires that a task completed, `after=[task]` only waits for its end."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, DotFlow, Run, action
from dotflow.core.types.execution import TypeExecution
from dotflow.core.types.status import TypeStatus
from dotflow.graph.plan import make_plan
from dotflow.providers import ExecutorThread, LogDefault, StorageFile
from tests.integration.modes import COMPLETED, FAILED, MODES, NOT_STARTED, SKIPPED, group, start, statuses

MakeWorkflow = Callable[..., DotFlow]
WAIT = 45.0  # seconds, for what happens at once


class Lab:
    """Workflows over one folder, of steps that note that they ran, and fail while they are in `red`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ran: list[str] = []
        self.red: set[str] = set()

    def step(self, name: str, value: Any = None, **options: Any) -> Any:
        def run() -> Any:
            self.ran.append(name)
            if name in self.red:
                raise ValueError(f"{name} is red")
            return value

        return action(**options)(run)

    def each(self, name: str) -> Any:
        def run(item: int) -> int:
            self.ran.append(f"{name} {item}")
            if f"{name} {item}" in self.red:
                raise ValueError(f"{name} {item} is red")
            return item

        return action(run)

    def workflow(self) -> DotFlow:
        config = Config(storage=StorageFile(path=self.folder), log=LogDefault(output="none"), executor=ExecutorThread())
        return DotFlow(config, workflow_id="nightly", params={"good": True})

    def start(self, workflow: DotFlow, mode: str, **options: Any) -> Run:
        self.ran.clear()
        run: Run = start(workflow, mode, **{"keep_going": True, **options})
        return run


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


NEEDS_FAILED = "it needs 'tests', which failed"
#: The tasks after `tests`, which fails: their options. Then what ran before the last task and as the last one, the
#: states, and the reasons of what was skipped.
CHAINS: dict[str, tuple[dict[str, dict[str, Any]], list[str], list[TypeStatus], dict[str, str]]] = {
    "who needs a failed task is skipped, and so on down the chain": (
        {"deploy": {"needs": ["tests"]}, "announce": {"needs": "deploy"}},
        ["tests"],
        [FAILED, SKIPPED, SKIPPED],
        {"deploy": NEEDS_FAILED, "announce": "it needs 'deploy', which was skipped"},
    ),
    "after waits for a failed, a skipped and a completed task": (
        {"deploy": {"needs": ["tests"]}, "lint": {}, "tell": {"after": ["tests", "deploy", "lint"]}},
        ["lint", "tests", "tell"],
        [FAILED, SKIPPED, COMPLETED, COMPLETED],
        {"deploy": NEEDS_FAILED},
    ),
    "a cleanup that needs a failed task runs": (
        {"end": {"always": True, "needs": "tests"}}, ["tests", "end"], [FAILED, COMPLETED], {}
    ),
    "a cleanup after a failed task runs": (
        {"end": {"always": True, "after": "tests"}}, ["tests", "end"], [FAILED, COMPLETED], {}
    ),
}  # fmt: skip


def after_tests(lab: Lab, mode: str, tasks: dict[str, dict[str, Any]]) -> DotFlow:
    """Returns a workflow of `tests`, which fails, and other tasks with these options."""
    lab.red = {"tests"}
    workflow = lab.workflow()
    workflow.task.add(lab.step("tests"), name="tests", group_name=group(mode, 0))
    for number, (name, options) in enumerate(tasks.items(), start=1):
        workflow.task.add(lab.step(name), name=name, group_name=group(mode, number), **options)
    return workflow


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("chain", CHAINS)
def test_the_tasks_that_run_after_red_tests(lab: Lab, mode: str, chain: str) -> None:
    """The run has failed in each case, and the last task that ran waited for the others."""
    tasks, ran, states, reasons = CHAINS[chain]
    workflow = after_tests(lab, mode, tasks)

    run = lab.start(workflow, mode)

    assert run.status is FAILED
    assert [*sorted(lab.ran[:-1]), lab.ran[-1]] == ran
    assert statuses(workflow) == states
    assert {name: run[name].reason for name in reasons} == reasons


@pytest.mark.parametrize("red", [True, False])
def test_needs_takes_order_and_values_at_once(lab: Lab, red: bool) -> None:
    """The value fills its parameter, and the task runs only if the other one has completed."""
    lab.red = {"tests"} if red else set()
    workflow = lab.workflow()
    workflow.task.add(lab.step("tests"), name="tests").add(lab.step("load", 5), name="load")
    workflow.task.add(lab.each("deploy"), name="deploy", needs=["tests", {"item": "load"}])

    run = lab.start(workflow, "sequential")

    assert run["deploy"].status is (SKIPPED if red else COMPLETED)
    assert run["deploy"].value == (None if red else 5)


@pytest.mark.parametrize("mode", MODES)
def test_without_keep_going_a_failure_stops_the_run(lab: Lab, mode: str) -> None:
    """Neither word changes that: what comes after the failed task is not reached."""
    workflow = after_tests(lab, mode, {"deploy": {"needs": ["tests"]}, "tell": {"after": ["tests"]}})

    lab.start(workflow, mode, keep_going=False)

    assert lab.ran == ["tests"]
    assert statuses(workflow) == [FAILED, NOT_STARTED, NOT_STARTED]


def test_a_task_that_its_fallback_mended_has_completed(lab: Lab) -> None:
    """Its failed attempts are no failure of the task."""
    lab.red = {"tests"}
    workflow = lab.workflow()
    workflow.task.add(lab.step("tests"), name="tests", fallback=lab.step("again"))
    workflow.task.add(lab.step("deploy"), name="deploy", needs=["tests"])

    assert lab.start(workflow, "sequential").status is COMPLETED
    assert lab.ran == ["tests", "again", "deploy"]


@pytest.mark.parametrize("mode", MODES)
def test_a_map_with_failed_items_has_not_completed(lab: Lab, mode: str) -> None:
    """Its list goes on without them: who takes it runs, who needs the map is skipped, who comes after it runs."""
    lab.red = {"fetch 2"}
    workflow = lab.workflow()
    workflow.task.add(lab.each("fetch"), name="fetch", each=[1, 2, 3], group_name=group(mode, 0))
    workflow.task.add(action(lambda fetch: sum(fetch)), name="total", group_name=group(mode, 1))
    workflow.task.add(lab.step("publish"), name="publish", needs=["fetch"], group_name=group(mode, 1))
    workflow.task.add(lab.step("tell"), name="tell", after=["fetch"], group_name=group(mode, 0))

    run = lab.start(workflow, mode)

    assert statuses(workflow) == [FAILED, COMPLETED, SKIPPED, COMPLETED]
    assert run.value("total") == 4
    assert run["publish"].reason == "it needs 'fetch', which failed"


@pytest.mark.parametrize("mode", MODES)
def test_an_empty_list_has_completed(lab: Lab, mode: str) -> None:
    """Nothing was to do, and nothing failed."""
    workflow = lab.workflow()
    workflow.task.add(lab.each("fetch"), name="fetch", each=[], group_name=group(mode, 0))
    workflow.task.add(lab.step("publish"), name="publish", needs=["fetch"], group_name=group(mode, 1))

    assert lab.start(workflow, mode).status is COMPLETED
    assert lab.ran == ["publish"]


def test_a_map_over_a_map_waits_for_the_last_item(make_workflow: MakeWorkflow) -> None:
    """With `after`, it does not go on item by item."""
    last, began = threading.Event(), list[tuple[int, bool]]()

    def fetch(item: int) -> int:
        if item == 1:
            last.set()
        return item

    def clean(item: int) -> None:
        began.append((item, last.is_set()))

    workflow = make_workflow(executor=ExecutorThread(max_workers=1))
    workflow.task.add(action(fetch), each=[0, 1], max_parallel=1)
    workflow.task.add(action(clean), each="fetch", after=["fetch"], max_parallel=1)

    assert workflow.start(mode="parallel").status is COMPLETED
    assert began == [(0, True), (1, True)]


# Resume


@pytest.mark.parametrize("mode", MODES)
def test_a_finished_deploy_is_restored_though_its_tests_run_again_and_fail(lab: Lab, mode: str) -> None:
    """It runs neither now nor when the tests are green again; the run with red tests has failed."""

    def build() -> DotFlow:
        workflow = lab.workflow()
        workflow.task.add(lab.step("tests"), name="tests", group_name=group(mode, 0))
        workflow.task.add(lab.step("deploy", "v1"), name="deploy", needs=["tests"], group_name=group(mode, 1))
        workflow.task.add(action(lambda deploy: f"{deploy} is out"), name="note", group_name=group(mode, 0))
        return workflow

    lab.start(build(), mode)
    lab.red = {"tests"}
    red = lab.start(build(), mode, rerun="tests")

    assert lab.ran == ["tests"]
    assert red.status is FAILED
    assert [red[name].restored_from for name in ("deploy", "note")] == ["checkpoint", "checkpoint"]

    lab.red.clear()
    assert lab.start(build(), mode, resume=True).status is COMPLETED
    assert lab.ran == ["tests"]


@pytest.mark.parametrize("mode", MODES)
def test_a_resume_with_green_tests_deploys(lab: Lab, mode: str) -> None:
    """A task that was skipped is judged again, after its needs."""

    def build() -> DotFlow:
        workflow = lab.workflow()
        workflow.task.add(lab.step("build", 1), name="build", group_name=group(mode, 0))
        workflow.task.add(lab.step("tests"), name="tests", group_name=group(mode, 0))
        workflow.task.add(lab.step("deploy"), name="deploy", needs=["build", "tests"], group_name=group(mode, 1))
        return workflow

    lab.red = {"tests"}
    lab.start(build(), mode)
    lab.start(build(), mode, resume=True)
    assert lab.ran == ["tests"]

    lab.red.clear()
    assert lab.start(build(), mode, resume="unfinished").status is COMPLETED
    assert lab.ran == ["tests", "deploy"]


@pytest.mark.parametrize("mode", MODES)
def test_restored_items_stay_where_a_map_is_skipped(lab: Lab, mode: str) -> None:
    """The open items wait for the next resume, and the finished ones do not run again in it."""

    def build() -> DotFlow:
        workflow = lab.workflow()
        workflow.task.add(lab.step("tests"), name="tests", group_name=group(mode, 0))
        workflow.task.add(lab.each("send"), name="send", each=[1, 2], needs=["tests"], group_name=group(mode, 1))
        return workflow

    lab.red = {"send 2"}
    lab.start(build(), mode)
    lab.red = {"tests"}
    run = lab.start(build(), mode, rerun="tests")
    assert (lab.ran, run["send"].status) == (["tests"], SKIPPED)

    lab.red.clear()
    assert lab.start(build(), mode, resume=True).status is COMPLETED
    assert lab.ran == ["tests", "send 2"]
    lab.red = {"tests"}
    run = lab.start(build(), mode, rerun="tests")
    assert (lab.ran, run["send"].status, run.value("send")) == (["tests"], COMPLETED, [1, 2])


@pytest.mark.parametrize("mode", MODES)
def test_a_map_without_items_is_judged_by_its_needs_in_a_resume_too(lab: Lab, mode: str) -> None:
    """It has no checkpoint that counts."""

    def build() -> DotFlow:
        workflow = lab.workflow()
        workflow.task.add(lab.step("tests"), name="tests", group_name=group(mode, 0))
        workflow.task.add(lab.each("send"), name="send", each=[], needs=["tests"], group_name=group(mode, 1))
        return workflow

    lab.red = {"tests"}
    for resume in (False, True):
        assert lab.start(build(), mode, resume=resume)["send"].status is SKIPPED
    lab.red.clear()
    for resume in (True, True):
        assert lab.start(build(), mode, resume=resume)["send"].status is COMPLETED


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("saved", [True, False])
def test_dependents_of_a_skipped_task_are_finished_with_it(lab: Lab, mode: str, saved: bool) -> None:
    """So a schedule's next firing begins anew, and what ran without its value is restored."""

    def build() -> DotFlow:
        workflow = lab.workflow()
        workflow.task.add(lab.step("check"), name="check", unless="good", group_name=group(mode, 0))
        workflow.task.add(lab.step("deploy", checkpoint=saved), name="deploy", needs="check", group_name=group(mode, 1))
        workflow.task.add(lab.each("send"), name="send", each=[1], needs="deploy", group_name=group(mode, 1))
        workflow.task.add(action(lambda deploy=None: lab.ran.append("note")), name="note", group_name=group(mode, 0))
        return workflow

    run = lab.start(build(), mode)
    assert (run.status, lab.ran) == (COMPLETED, ["note"])
    assert run["send"].reason == "it needs 'deploy', which was skipped"

    assert lab.start(build(), mode, resume=True)["note"].restored_from == "checkpoint"
    assert lab.start(build(), mode, resume="unfinished")["note"].restored_from is None


@pytest.mark.parametrize("mode", MODES)
def test_a_value_that_is_not_saved_is_made_for_who_needs_it(lab: Lab, mode: str) -> None:
    """A resume makes it anew if a task that runs needs it, and only then."""

    def build() -> DotFlow:
        workflow = lab.workflow()
        workflow.task.add(lab.step("tunnel", checkpoint=False), name="tunnel", group_name=group(mode, 0))
        workflow.task.add(lab.step("copy"), name="copy", needs="tunnel", group_name=group(mode, 1))
        workflow.task.add(lab.step("check"), name="check", needs="tunnel", group_name=group(mode, 1))
        return workflow

    lab.red = {"check"}
    lab.start(build(), mode)
    lab.red.clear()
    assert lab.start(build(), mode, resume=True).status is COMPLETED
    assert lab.ran == ["tunnel", "check"]
    assert lab.start(build(), mode, resume=True).status is COMPLETED
    assert lab.ran == []


@pytest.mark.parametrize("mode", MODES)
def test_a_resume_repeats_a_cleanup_that_an_unfinished_task_needs(lab: Lab, mode: str) -> None:
    """With what is cleaned up: whether a cleanup of the last run completed is not known."""

    def build() -> DotFlow:
        workflow = lab.workflow()
        workflow.task.add(lab.step("cluster", 1, checkpoint=False), name="cluster", group_name=group(mode, 0))
        workflow.task.add(action(lambda cluster: lab.ran.append("train")), name="train", group_name=group(mode, 0))
        workflow.task.add(action(lambda cluster: lab.ran.append("end")), name="end", always=True)
        workflow.task.add(lab.step("bill"), name="bill", needs="end", group_name=group(mode, 1))
        return workflow

    lab.red = {"bill"}
    lab.start(build(), mode)
    lab.red.clear()
    assert lab.start(build(), mode, resume=True).status is COMPLETED
    assert lab.ran == ["cluster", "end", "bill"]
    assert lab.start(build(), mode, resume=True)["bill"].restored_from == "checkpoint"
    assert lab.ran == []


# Added workflows


def inner(lab: Lab, first: str = "read", last: str = "write") -> DotFlow:
    workflow = DotFlow()
    workflow.task.add(lab.step(first), name=first).add(lab.step(last), name=last)
    return workflow


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("red", ["read", "write"])
def test_needs_of_an_added_workflow_is_for_all_of_its_tasks(lab: Lab, mode: str, red: str) -> None:
    """None of them may have failed; `after` waits for all of them."""
    lab.red = {red}
    workflow = lab.workflow()
    workflow.task.add(inner(lab), name="prepare", group_name=group(mode, 0))
    workflow.task.add(lab.step("deploy"), name="deploy", needs=["prepare"], group_name=group(mode, 1))
    workflow.task.add(lab.step("tell"), name="tell", after=["prepare"], group_name=group(mode, 1))

    run = lab.start(workflow, mode)

    assert sorted(lab.ran[:2]) == ["read", "write"]
    assert lab.ran[2:] == ["tell"]
    assert run["deploy"].reason == f"it needs 'prepare.{red}', which failed"


def test_needs_of_an_added_workflow_wants_its_value(lab: Lab) -> None:
    """Of its tasks the last one must have completed; another may be skipped."""
    part = DotFlow(params={"fast": True})
    part.task.add(lab.step("slow"), name="slow", unless="fast").add(lab.step("quick"), name="quick", when="fast")
    workflow = lab.workflow()
    workflow.task.add(part, name="one", needs={"fast": "good"}).add(lab.step("deploy"), name="deploy", needs="one")
    workflow.task.add(lab.step("off"), name="off", unless="good").add(part, name="two", needs="off")
    workflow.task.add(lab.step("never"), name="never", needs="two")

    run = lab.start(workflow, "sequential")

    assert lab.ran == ["quick", "deploy"]
    assert run["two.slow"].reason == "it needs 'off', which was skipped"
    assert run["never"].reason == "it needs 'two.quick', which was skipped"


@pytest.mark.parametrize("mode", MODES)
def test_an_added_workflow_waits_as_a_whole(lab: Lab, mode: str) -> None:
    """Its `needs` and `after` hold for each of its tasks, its cleanups too: without a beginning there is no end."""
    lab.red = {"tests"}
    part = inner(lab)
    part.task.add(lab.step("end"), name="end", always=True)
    workflow = lab.workflow()
    workflow.task.add(lab.step("tests"), name="tests", group_name=group(mode, 0))
    workflow.task.add(part, name="deploy", needs=["tests"], group_name=group(mode, 1))
    workflow.task.add(part, name="tell", after=["tests"], group_name=group(mode, 1))

    lab.start(workflow, mode)

    assert lab.ran[0] == "tests"
    assert sorted(lab.ran[1:]) == ["end", "read", "write"]
    assert statuses(workflow) == [FAILED, *[SKIPPED] * 3, *[COMPLETED] * 3]


@pytest.mark.parametrize("word", ["needs", "after"])
def test_a_cleanup_of_an_added_workflow_waits_for_its_tasks(lab: Lab, word: str) -> None:
    """The order of the whole does not let it begin before them."""
    part = lab.workflow()
    part.task.add(lab.step("work"), name="work").add(lab.step("end"), name="end", always=True)
    workflow = lab.workflow()
    options: Any = {word: "first"}
    workflow.task.add(lab.step("first"), name="first").add(part, name="part", **options)

    assert make_plan(list(workflow.task), TypeExecution.PARALLEL).needs_of(2) == (0, 1)


# Plans


def decisions(workflow: DotFlow, **options: Any) -> list[tuple[str, str]]:
    return [(str(task.decision), task.reason) for task in workflow.plan(**options).tasks]


def test_a_plan_takes_needs_as_completed(lab: Lab) -> None:
    """Those that run, that is; one that is skipped for certain skips the task, and one that may be leaves it open."""

    def build() -> DotFlow:
        workflow = lab.workflow()
        workflow.task.add(lab.step("tests"), name="tests").add(lab.step("deploy"), name="deploy", needs="tests")
        workflow.task.add(lab.step("off"), name="off", unless="good").add(lab.step("no"), name="no", needs="off")
        workflow.task.add(lab.step("maybe"), name="maybe", when="deploy").add(lab.step("or"), name="or", needs="maybe")
        workflow.task.add(lab.step("tell"), name="tell", after=["off", "maybe"])
        return workflow

    assert decisions(build()) == [
        ("run", ""),
        ("run", "after tests"),
        ("skip", "good was True"),
        ("skip", "it needs 'off', which was skipped"),
        ("open", "when deploy"),
        ("open", "if maybe runs"),
        ("run", "after maybe"),
    ]
    lab.start(build(), "sequential")
    assert [decision for decision, _ in decisions(build(), rerun="tests")] == [
        *("run", "restore", "skip", "skip", "skip", "skip", "restore"),
    ]
