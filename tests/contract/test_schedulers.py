"""The promises of every Scheduler."""

import threading
from collections.abc import Callable

import pytest

from dotflow import Config, DotFlow, action
from dotflow.abc.scheduler import Scheduler
from dotflow.core.types.status import TypeStatus
from dotflow.errors import DotflowError
from dotflow.providers import LogDefault, SchedulerCron, SchedulerDefault
from dotflow.testing import virtual_clock

#: Each scheduler that fires, made to fire every hour.
FIRING: dict[str, Callable[[], Scheduler]] = {
    f"SchedulerCron, {overlap}": lambda overlap=overlap: SchedulerCron("@hourly", overlap=overlap)  # type: ignore[misc]
    for overlap in ("skip", "queue", "parallel")
}
ALL = {"SchedulerDefault": SchedulerDefault, **FIRING}


def workflow_on(scheduler: Scheduler, *steps: Callable[[], object]) -> DotFlow:
    workflow = DotFlow(Config(scheduler=scheduler, log=LogDefault(output="none")))
    for step in steps:
        workflow.task.add(action(step))
    return workflow


@pytest.fixture(params=FIRING.values(), ids=list(FIRING))
def scheduler(request: pytest.FixtureRequest) -> Scheduler:
    instance: Scheduler = request.param()
    return instance


@pytest.mark.parametrize("make", ALL.values(), ids=list(ALL))
def test_stop_without_start_does_nothing(make: Callable[[], Scheduler]) -> None:
    """It may be called at any time, any number of times."""
    scheduler = make()
    scheduler.stop()
    scheduler.stop()


@pytest.mark.parametrize("make", ALL.values(), ids=list(ALL))
def test_a_wrong_argument_is_refused_before_anything_runs(make: Callable[[], Scheduler]) -> None:
    """With any scheduler, the arguments of start() are checked when the schedule begins."""
    with pytest.raises(DotflowError, match="nightly"):
        workflow_on(make()).schedule(nightly=True)


def test_start_runs_the_workflow_repeatedly_until_stop(scheduler: Scheduler) -> None:
    """Each firing is a run of all tasks; start() returns after stop()."""
    ran: list[str] = []
    with virtual_clock() as time:
        workflow = workflow_on(scheduler, lambda: ran.append("a"), lambda: ran.append("b"))
        time.after(3.5 * 3600, scheduler.stop)

        workflow.schedule()

        assert ran == ["a", "b"] * 3
        assert time.monotonic() == 3.5 * 3600


def test_arguments_go_to_start(scheduler: Scheduler) -> None:
    """mode, keep_going, callbacks: as in workflow.start()."""
    ended: list[list[TypeStatus]] = []
    with virtual_clock() as time:
        workflow = workflow_on(scheduler, lambda: 1 / 0, lambda: 1)
        time.after(3700, scheduler.stop)

        workflow.schedule(keep_going=True, on_failure=lambda tasks: ended.append([task.status for task in tasks]))

    assert ended == [[TypeStatus.FAILED, TypeStatus.COMPLETED]]


def test_a_failed_run_does_not_end_it(scheduler: Scheduler) -> None:
    """The next run begins as usual."""
    ran: list[int] = []

    def fail() -> None:
        ran.append(1)
        raise ValueError

    with virtual_clock() as time:
        time.after(3.5 * 3600, scheduler.stop)
        workflow_on(scheduler, fail).schedule()

    assert len(ran) == 3


def test_stop_during_a_run_lets_it_end(scheduler: Scheduler) -> None:
    """stop() returns at once, from a step too; the active run goes on to its end."""
    with virtual_clock():
        workflow = workflow_on(scheduler, scheduler.stop, lambda: "whole")
        workflow.schedule()

    assert workflow.result_storage() == [None, "whole"]


def test_it_works_in_any_thread(scheduler: Scheduler) -> None:
    """A schedule needs the main thread only for signals."""
    ran: list[int] = []
    with virtual_clock() as time:
        time.after(3.5 * 3600, scheduler.stop)
        thread = threading.Thread(target=workflow_on(scheduler, lambda: ran.append(1)).schedule)
        thread.start()
        thread.join(45)

        assert not thread.is_alive()
    assert len(ran) == 3


def test_it_may_be_started_again_after_its_end(scheduler: Scheduler) -> None:
    """A scheduler keeps no state between two starts."""
    ran: list[int] = []
    with virtual_clock() as time:
        workflow = workflow_on(scheduler, lambda: ran.append(1))
        for _ in range(2):
            time.after(1.6 * 3600, scheduler.stop)
            workflow.schedule()

    assert len(ran) == 3  # until 01:36, and until 03:12
