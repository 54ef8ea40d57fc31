"""Tasks with always=True: they run however the tasks before them ended, and a second stop ends them."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dotflow import DotFlow, action
from dotflow.core.types.run_state import TypeRunState
from dotflow.core.types.status import TypeStatus
from dotflow.providers import ExecutorThread, StorageFile

COMPLETED, FAILED, SKIPPED = TypeStatus.COMPLETED, TypeStatus.FAILED, TypeStatus.SKIPPED
NOT_STARTED = TypeStatus.NOT_STARTED
MODES = ["sequential", "parallel"]
WAIT = 45.0  # seconds, for what happens at once

MakeWorkflow = Callable[..., DotFlow]


def statuses(workflow: DotFlow) -> list[TypeStatus]:
    return [task.status for task in workflow.result_task()]


@action
def breaks() -> None:
    raise ValueError("no")


@pytest.mark.parametrize("mode", MODES)
def test_each_cleanup_runs_though_one_before_it_failed(make_workflow: MakeWorkflow, mode: str) -> None:
    """In the order of add; what the run never reached stays as it is, and the run has failed."""
    ran: list[str] = []
    workflow = make_workflow(executor=ExecutorThread())
    workflow.task.add(breaks)
    workflow.task.add(action(lambda: ran.append("never")), name="never", needs="breaks")
    workflow.task.add(action(lambda: ran.append("first") or 1 / 0), name="first", always=True)
    workflow.task.add(action(lambda: ran.append("second")), name="second", always=True)

    run = workflow.start(mode=mode)

    assert ran == ["first", "second"]
    assert statuses(workflow) == [FAILED, NOT_STARTED, FAILED, COMPLETED]
    assert run.status is FAILED


@pytest.mark.parametrize("mode", MODES)
def test_after_an_interrupt(make_workflow: MakeWorkflow, mode: str) -> None:
    """Ctrl-C ends the tasks that run; cleanup follows, and then the interrupt is raised."""
    ran: list[str] = []

    def interrupts() -> None:
        raise KeyboardInterrupt

    workflow = make_workflow(executor=ExecutorThread())
    workflow.task.add(action(lambda: "cluster"), name="cluster")
    workflow.task.add(action(interrupts), needs="cluster")
    workflow.task.add(action(lambda cluster: ran.append(cluster)), name="teardown", always=True)

    with pytest.raises(KeyboardInterrupt):
        workflow.start(mode=mode)

    assert ran == ["cluster"]
    assert statuses(workflow) == [COMPLETED, FAILED, COMPLETED]


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_a_second_cancel_ends_it(make_workflow: MakeWorkflow, mode: str) -> None:
    """The task fails as any cancelled one, and those after it don't start."""
    works, cleans, blocked = threading.Event(), threading.Event(), threading.Event()

    @action(timeout=60)
    def work() -> None:
        works.set()
        blocked.wait(WAIT)

    @action(timeout=60)
    def clean() -> None:
        cleans.set()
        blocked.wait(WAIT)

    workflow = make_workflow(executor=ExecutorThread())
    workflow.task.add(work).add(clean, always=True).add(action(lambda: 0), name="more", always=True)
    run = workflow.launch(lambda: None, mode=mode)

    assert works.wait(WAIT)
    run.cancel()
    assert cleans.wait(WAIT)
    run.cancel()

    assert run.wait(WAIT)
    assert statuses(workflow) == [FAILED, FAILED, NOT_STARTED]
    assert [error.exception for error in run.tasks[1].errors] == ["RunCancelled"]
    blocked.set()


@pytest.mark.parametrize("pauses", ["before", "between", "never"])
def test_a_second_interrupt_ends_it_also_after_a_pause(make_workflow: MakeWorkflow, pauses: str) -> None:
    """A run that was interrupted has no paused task, though the pause came first, or while its cleanup runs."""

    @action
    def work() -> None:
        if pauses == "before":
            workflow.last.pause()
        raise KeyboardInterrupt

    @action
    def clean() -> None:
        if pauses == "between":
            workflow.last.pause()
        raise KeyboardInterrupt

    workflow = make_workflow()
    workflow.task.add(work).add(action(lambda: 0), name="more").add(clean, always=True)

    with pytest.raises(KeyboardInterrupt):
        workflow.start()

    assert statuses(workflow) == [FAILED, NOT_STARTED, FAILED]
    assert workflow.last.state is TypeRunState.INTERRUPTED
    assert [error.exception for error in workflow.last.tasks[2].errors] == ["KeyboardInterrupt"]


def test_a_second_cancel_counts_while_new_workers_start(make_workflow: MakeWorkflow) -> None:
    """Between the end of the first workers and the begin of the cleanup."""

    class Slow(ExecutorThread):
        opened = 0

        def open(self, *arguments: Any, **options: Any) -> Any:
            self.opened += 1
            if self.opened == 2:
                run.cancel()
            return super().open(*arguments, **options)

    works = threading.Event()

    @action
    def work() -> None:
        works.set()
        threading.Event().wait(WAIT)

    workflow = make_workflow(executor=Slow())
    workflow.task.add(work).add(action(pytest.fail), always=True)
    run = workflow.launch(lambda: None)
    assert works.wait(WAIT)

    run.cancel()

    assert run.wait(WAIT)
    assert statuses(workflow) == [FAILED, NOT_STARTED]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("keep_going", [None, False])
def test_a_mapped_cleanup_runs_for_all_items(make_workflow: MakeWorkflow, mode: str, keep_going: bool | None) -> None:
    """After a failure too, and though one of its items fails, unless it says otherwise."""
    ran: list[str] = []

    def stop(server: str) -> None:
        ran.append(server)
        if server == "a":
            raise ValueError(server)

    workflow = make_workflow(executor=ExecutorThread())
    workflow.task.add(action(lambda: ["a", "b", "c"]), name="servers").add(breaks)
    workflow.task.add(action(stop), each="servers", always=True, max_parallel=1, keep_going=keep_going)

    workflow.start(mode=mode)

    assert ran == (["a"] if keep_going is False else ["a", "b", "c"])
    assert statuses(workflow) == [COMPLETED, FAILED, FAILED]


@pytest.mark.parametrize("mode", MODES)
def test_a_cleanup_over_a_map_begins_after_its_last_item(make_workflow: MakeWorkflow, mode: str) -> None:
    """Not item by item: the clusters are needed until all tasks have ended."""
    ran: list[str] = []
    workflow = make_workflow(executor=ExecutorThread())
    workflow.task.add(action(lambda name: ran.append(f"+{name}") or name), name="clusters", each=["a", "b", "c"])
    workflow.task.add(action(lambda cluster: ran.append(f"-{cluster}")), each="clusters", always=True)

    workflow.start(mode=mode)

    assert [entry[0] for entry in ran] == ["+"] * 3 + ["-"] * 3


@pytest.mark.parametrize("mode", MODES)
def test_a_cleanup_over_a_map_that_was_stopped(make_workflow: MakeWorkflow, mode: str) -> None:
    """It runs for the items that have a value; the others are skipped."""
    ran: list[str] = []

    def start(name: str) -> str:
        if name == "b":
            raise ValueError(name)
        return name

    workflow = make_workflow(executor=ExecutorThread())
    workflow.task.add(action(start), name="clusters", each=["a", "b", "c"], max_parallel=1)
    workflow.task.add(action(lambda cluster: ran.append(cluster)), name="stop", each="clusters", always=True)

    workflow.start(mode=mode)

    assert ran == ["a"]
    assert [item.status for item in workflow.result_task()[0].items] == [COMPLETED, FAILED, NOT_STARTED]
    assert [item.status for item in workflow.result_task()[1].items] == [COMPLETED, SKIPPED, SKIPPED]
    assert workflow.result_task()[1].items[2].reason == "it needs 'clusters[2]', which did not run"


def test_needs_let_it_begin_earlier(make_workflow: MakeWorkflow) -> None:
    """With needs, it waits for these tasks only."""
    cleaned = threading.Event()
    workflow = make_workflow(executor=ExecutorThread())
    workflow.task.add(action(lambda: 0), name="first")
    workflow.task.add(action(lambda: cleaned.wait(WAIT)), name="slow")
    workflow.task.add(action(cleaned.set), always=True, needs="first")

    workflow.start(mode="parallel")

    assert workflow.result_storage()[1] is True


@pytest.mark.parametrize("mode", MODES)
def test_it_is_never_restored_and_leaves_no_checkpoint(make_workflow: MakeWorkflow, mode: str, tmp_path: Path) -> None:
    """Neither a task nor the items of a mapped one."""
    ran: list[str] = []
    workflow = make_workflow(workflow_id="w", storage=StorageFile(path=tmp_path), executor=ExecutorThread())
    workflow.task.add(action(lambda: ["a", "b"]), name="servers")
    workflow.task.add(action(lambda server: ran.append(server)), name="stop", each="servers", always=True)
    workflow.task.add(action(lambda: ran.append("end")), name="end", always=True)

    for _ in range(2):
        workflow.start(mode=mode, resume=True)

    assert sorted(ran) == ["a", "a", "b", "b", "end", "end"]
    assert [path.stem for path in tmp_path.rglob("*.json")] == ["servers"]


def test_a_cleanup_that_an_interrupt_ended_is_left_to_do(make_workflow: MakeWorkflow) -> None:
    """A resume runs it, though everything else is finished."""
    ran: list[str] = []
    is_impatient = True

    @action
    def teardown(cluster: str) -> None:
        if is_impatient:
            raise KeyboardInterrupt
        ran.append(cluster)

    workflow = make_workflow(workflow_id="nightly")
    workflow.task.add(action(lambda: "cluster", checkpoint=False), name="cluster")
    workflow.task.add(action(lambda cluster: None), name="work").add(teardown, always=True)

    with pytest.raises(KeyboardInterrupt):
        workflow.start()
    is_impatient = False
    workflow.start(resume="unfinished")

    assert ran == ["cluster"]
    assert [task.restored_from for task in workflow.result_task()] == [None, "checkpoint", None]


@pytest.mark.parametrize("needs", [None, "teardown"])
@pytest.mark.parametrize("mode", MODES)
def test_no_other_task_follows_a_cleanup_of_a_cancelled_run(
    make_workflow: MakeWorkflow, mode: str, needs: str | None
) -> None:
    """A task that comes after a cleanup, in order or by its needs, stays NOT_STARTED."""
    begun, ran = threading.Event(), list[str]()

    @action
    def endless() -> None:
        begun.set()
        while True:
            threading.Event().wait(0.01)

    workflow = make_workflow(executor=ExecutorThread())
    workflow.task.add(endless)
    workflow.task.add(action(lambda: ran.append("teardown")), name="teardown", needs="endless", always=True)
    workflow.task.add(action(lambda: ran.append("after")), name="after", needs=needs or "endless")

    run = workflow.launch(lambda: None, mode=mode)
    assert begun.wait(WAIT)
    run.cancel()
    assert run.wait(WAIT)

    assert ran == ["teardown"]
    assert statuses(workflow) == [FAILED, COMPLETED, NOT_STARTED]


def test_a_mapped_cleanup_finishes_its_items_though_the_run_stops(make_workflow: MakeWorkflow) -> None:
    """Also where the next item waits for a worker at the moment of the stop."""
    ran: list[int] = []
    workflow = make_workflow(executor=ExecutorThread(max_workers=1))
    workflow.task.add(action(lambda: [1, 2, 3]), name="clusters")
    workflow.task.add(action(lambda c: ran.append(c)), name="teardown", each="clusters", always=True, needs="clusters")
    workflow.task.add(breaks)

    workflow.start(mode="parallel")

    assert ran == [1, 2, 3]
    assert statuses(workflow) == [COMPLETED, COMPLETED, FAILED]
