"""Paused runs: running steps end and are saved, nothing else begins, and a resume goes on."""

import asyncio
import contextlib
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, Context, DotFlow, Run, Task, action
from dotflow.abc.executor import Executor
from dotflow.abc.history import Listener
from dotflow.abc.notify import Notify
from dotflow.abc.storage import Storage
from dotflow.cli.live.progress import Progress
from dotflow.core.events import AttemptFailed, AttemptStarted, Event, RunEnded, TaskCompleted, TaskPaused
from dotflow.core.types.run_state import TypeRunState
from dotflow.core.types.status import TypeStatus
from dotflow.engine.runner import Runner
from dotflow.engine.stop import PAUSED as PAUSE_ORDER
from dotflow.errors import RunFailed
from dotflow.providers import (
    ExecutorAsync,
    ExecutorProcess,
    ExecutorThread,
    HistorySQLite,
    LogDefault,
    StorageDefault,
    StorageFile,
)
from dotflow.report.document import document
from tests import pause_fuzz

COMPLETED, FAILED, SKIPPED = TypeStatus.COMPLETED, TypeStatus.FAILED, TypeStatus.SKIPPED
NOT_STARTED, PAUSED = TypeStatus.NOT_STARTED, TypeStatus.PAUSED
WAIT = 45.0  # seconds, for what happens at once
FOR_EVER = 3600.0  # seconds that no test waits

MakeWorkflow = Callable[..., DotFlow]

#: How a workflow runs: the mode, and the executor.
WAYS: dict[str, tuple[str, Callable[[], Executor] | None]] = {
    "sequential": ("sequential", None),
    "background": ("background", None),
    "threads": ("parallel", ExecutorThread),
    "async": ("parallel", ExecutorAsync),
    "processes": ("parallel", lambda: ExecutorProcess(max_workers=2)),
}


class PausesAt(Listener):
    """Pauses a run at the first event that a function accepts, and keeps all events."""

    def __init__(self, is_moment: Callable[[Any], bool] = lambda event: False) -> None:
        self.is_moment = is_moment
        self.workflow: DotFlow | None = None
        self.events: list[Any] = []

    def record(self, run_id: str, event: Event) -> None:
        self.events.append(event)
        if self.workflow is not None and self.is_moment(event):
            self.workflow.last.pause()

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def paused_at(workflow: DotFlow, is_moment: Callable[[Any], bool]) -> PausesAt:
    """Pauses each run of a workflow at the first event that is the moment."""
    listener = PausesAt(is_moment)
    listener.workflow = workflow
    workflow.config.listeners.append(listener)
    return listener


def statuses(run: Run) -> list[TypeStatus]:
    return [task.status for task in run.tasks]


def start(workflow: DotFlow, **arguments: Any) -> Run:
    run = workflow.start(**arguments)
    run.wait()
    return run


# At any moment


def build(way: str, storage: Storage, ran: Path, added: bool) -> tuple[DotFlow, str]:
    """A chain, a map, a map over it, a retry, a cleanup and an added workflow. Each step that finishes is a line."""
    mode, executor = WAYS[way]

    def note(text: object) -> None:
        with ran.open("a") as file:
            file.write(f"{text}\n")

    @action
    def numbers() -> list[int]:
        note("numbers")
        return [1, 2, 3, 3]

    @action(retry=2, retry_delay=0.001)
    def double(number: int) -> int:
        failed = ran.with_name(f"failed {number}")
        if number == 2 and not failed.exists():
            failed.touch()
            raise ValueError(number)
        note(f"double {number}")
        return 2 * number

    @action
    def negative(doubled: int) -> int:
        note(f"negative {doubled}")
        return -doubled

    @action(retry=3, retry_delay=0.001)
    def total(double: list[int]) -> int:
        failed = ran.with_name("failed total")
        if not failed.exists():
            failed.touch()
            raise ConnectionError
        note("total")
        return sum(double)

    @action
    def report(total: int, negative: list[int]) -> str:
        note("report")
        return f"{total} {negative}"

    settings: dict[str, Any] = {} if executor is None else {"executor": executor()}
    config = Config(storage=storage, log=LogDefault(output="none"), **settings)
    inner = DotFlow(config)
    target = inner if added else DotFlow(config, workflow_id="w")
    target.task.add(numbers).add(double, each=numbers)
    target.task.add(negative, each={"doubled": double}).add(total)
    workflow = target
    if added:
        workflow = DotFlow(config, workflow_id="w")
        workflow.task.add(inner, name="inner")
        workflow.task.add(action(lambda: note("last")), name="last", after="inner")
    else:
        workflow.task.add(report)
        workflow.task.add(action(lambda: note("clean")), name="clean", always=True)
    return workflow, mode


@pytest.mark.exhaustive(keep_every=5)
@pytest.mark.parametrize("added", [False, True], ids=["plain", "added"])
@pytest.mark.parametrize("way", WAYS)
def test_a_pause_at_any_event_changes_no_value(way: str, added: bool, tmp_path: Path, stride: int) -> None:
    """Paused at each event in turn, and resumed, it returns what it returns anyway, and no step finishes twice."""
    step = stride if way != "processes" else 5 * stride
    expected: list[Any] = []
    lines: Counter[str] = Counter()
    number, has_paused = 0, True
    while has_paused:
        folder = tmp_path / f"{number}"
        folder.mkdir()
        storage, left = StorageDefault() if way != "processes" else StorageFile(folder / "kept"), [number]

        def is_moment(event: Any, left: list[int] = left) -> bool:
            left[0] -= 1
            return left[0] == 0

        workflow, mode = build(way, storage, folder / "ran", added)
        paused_at(workflow, is_moment)
        run = start(workflow, mode=mode)
        has_paused = run.state is TypeRunState.PAUSED or not number
        if run.state is TypeRunState.PAUSED:
            workflow, mode = build(way, storage, folder / "ran", added)
            run = start(workflow, mode=mode, resume=True)

        values = workflow.result_storage()
        ran = Counter(line for line in (folder / "ran").read_text().splitlines() if line != "clean")
        expected, lines = expected or values, lines or ran
        assert (run.state, values, ran) == (TypeRunState.COMPLETED, expected, lines), number
        number += step if number else 1
    assert number > 5


@pytest.mark.exhaustive(keep_every=2)
@pytest.mark.parametrize("name", ["memory", "sqlite"])
def test_random_workflows(name: str, stride: int) -> None:
    """Random workflows that are paused at random moments, and resumed, end as those that are not."""
    first = random.Random(name).randrange(1000)
    seeds = range(first, first + (100 if stride == 1 else 5))

    assert "\n".join(filter(None, (pause_fuzz.check(seed, name) for seed in seeds))) == ""


# What becomes of tasks


class TestTasks:
    @pytest.mark.exhaustive(keep_every=3)
    @pytest.mark.parametrize("executor", [ExecutorThread, ExecutorAsync, ExecutorProcess], ids=["t", "a", "p"])
    def test_running_steps_end_and_are_saved(self, executor: Callable[..., Executor], tmp_path: Path) -> None:
        """Another task, which waits for a worker, does not begin; a resume restores what ended."""
        go, ran = tmp_path / "go", tmp_path / "ran"
        ran.mkdir()

        def wait(name: str) -> Callable[[], str]:
            def step() -> str:
                (ran / name).touch()
                while not go.exists():
                    threading.Event().wait(0.005)
                return name

            return step

        workflow = DotFlow(
            Config(storage=StorageFile(tmp_path / "kept"), executor=executor(2), log=LogDefault(output="none"))
        )
        for name in "abc":
            workflow.task.add(action(wait(name)), name=name)

        begun: list[int] = []

        def second(event: Any) -> bool:
            begun.extend([event.task_id] if isinstance(event, AttemptStarted) else [])
            return len(begun) == 2

        paused_at(workflow, second)
        run = workflow.launch(lambda: None, mode="parallel")
        while len(begun) < 2:
            threading.Event().wait(0.005)
        assert run.wait(0.01) is False
        go.touch()
        assert run.wait(WAIT)

        assert (run.status, run.state) == (PAUSED, TypeRunState.PAUSED)
        assert statuses(run) == [COMPLETED, COMPLETED, NOT_STARTED]
        assert not (ran / "c").exists()
        workflow.config.listeners.clear()
        again = workflow.start(mode="parallel", resume=True)
        assert [task.restored_from for task in again.tasks] == ["checkpoint", "checkpoint", None]
        assert [task.value for task in again.tasks] == ["a", "b", "c"]

    @pytest.mark.parametrize("mode", ["sequential", "parallel"])
    def test_a_task_that_waits_for_a_retry_is_paused_at_once(self, mode: str) -> None:
        """It has its errors, no end and no duration; the resume begins with its first attempt again."""
        attempts: list[int] = []

        @action(retry=3, retry_delay=FOR_EVER)
        def fetch() -> int:
            attempts.append(1)
            if len(attempts) == 1:
                raise ConnectionError("away")
            return 5

        workflow = DotFlow(Config(executor=ExecutorThread(), log=LogDefault(output="none")))
        workflow.task.add(fetch).add(action(lambda fetch: fetch + 1), name="next")
        listener = paused_at(workflow, lambda event: isinstance(event, AttemptFailed))

        run = workflow.start(mode=mode)

        task = run.task("fetch")
        assert statuses(run) == [PAUSED, NOT_STARTED]
        assert (task.reason, task.attempt, task.finished_at, task.duration) == ("the run was paused", 1, None, None)
        assert [error.exception for error in task.errors] == ["ConnectionError"]
        (event,) = listener.of(TaskPaused)
        assert event[:2] == (0, "the run was paused")
        assert event.item is None
        assert (event.at.tzinfo is not None, event.tick > 0) == (True, True)
        assert workflow.start(mode=mode, resume=True).value("next") == 6

    @pytest.mark.parametrize("mode", ["sequential", "parallel"])
    def test_an_open_map_is_paused(self, mode: str) -> None:
        """An item that waits for its retry is PAUSED, too, and one that has not begun NOT_STARTED."""
        ran: list[int] = []

        @action(retry=2, retry_delay=FOR_EVER)
        def double(number: int) -> int:
            ran.append(number)
            if ran.count(2) == 1 and number == 2:
                raise ValueError(number)
            return 2 * number

        workflow = DotFlow(Config(executor=ExecutorThread(), log=LogDefault(output="none")))
        workflow.task.add(double, each=[1, 2, 3], max_parallel=1).add(action(sum_of), name="total", needs="double")
        listener = paused_at(workflow, lambda event: isinstance(event, AttemptFailed))

        run = workflow.start(mode=mode)

        task = run.task("double")
        assert statuses(run) == [PAUSED, NOT_STARTED]
        assert [item.status for item in task.items] == [COMPLETED, PAUSED, NOT_STARTED]
        assert [event.item for event in listener.of(TaskPaused)] == [1, None]
        assert (task.has_value, task.value) == (False, None)
        again = workflow.start(mode=mode, resume=True)
        assert again.value("total") == 12
        assert Counter(ran) == {1: 1, 2: 2, 3: 1}

    def test_a_fallback_that_has_not_begun_is_held(self) -> None:
        """Its task waits for its next attempt."""

        @action
        def rates() -> int:
            raise ValueError

        workflow = DotFlow(Config(log=LogDefault(output="none")))
        workflow.task.add(rates, fallback=action(lambda: 5))
        paused_at(workflow, lambda event: isinstance(event, AttemptFailed))

        assert statuses(workflow.start()) == [PAUSED]
        workflow.config.listeners.clear()
        assert workflow.start(resume=True).value("rates") == 5

    def test_a_run_that_a_step_starts_is_not_paused(self) -> None:
        """The step ends first, and the run in it."""
        inner = DotFlow(Config(log=LogDefault(output="none")))
        outer = DotFlow(Config(log=LogDefault(output="none")))
        inner.task.add(action(lambda: outer.last.pause()), name="pause").add(action(lambda: 5), name="value")

        @action
        def nested() -> Any:
            return inner.start().value("value")

        outer.task.add(nested).add(action(lambda: None), name="next")

        run = outer.start()
        assert (inner.last.state, run.state, run.value("nested")) == (TypeRunState.COMPLETED, TypeRunState.PAUSED, 5)
        assert statuses(run) == [COMPLETED, NOT_STARTED]

    def test_a_run_may_be_paused_before_it_begins(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing begins, not even what a resume would restore."""
        workflow = DotFlow(Config(log=LogDefault(output="none")))
        workflow.task.add(action(lambda: 5), name="five").add(action(lambda: 6), name="six")
        workflow.start()
        make_runner = Run._make_runner

        def late(run: Run, *arguments: Any) -> Any:
            run.pause()
            return make_runner(run, *arguments)

        monkeypatch.setattr(Run, "_make_runner", late)
        run = workflow.start(resume=True)

        assert (run.state, statuses(run)) == (TypeRunState.PAUSED, [NOT_STARTED, NOT_STARTED])
        monkeypatch.undo()
        assert [task.restored_from for task in workflow.start(resume=True).tasks] == ["checkpoint"] * 2


def sum_of(double: list[int]) -> int:
    return sum(double)


class TestCleanup:
    @pytest.mark.parametrize("mode", ["sequential", "parallel"])
    def test_it_runs_after_a_pause_and_after_the_resume(self, mode: str) -> None:
        """So a paused run holds no cluster; what the rest of the run opens is closed, too."""
        ran: list[str] = []
        workflow = DotFlow(Config(executor=ExecutorThread(), log=LogDefault(output="none")))
        workflow.task.add(action(lambda: ran.append("work")), name="work")
        workflow.task.add(action(lambda: ran.append("more")), name="more", after="work")
        workflow.task.add(action(lambda: ran.append("clean")), name="clean", after="more", always=True)
        paused_at(workflow, lambda event: isinstance(event, TaskCompleted) and event.task_id == 0)

        run = workflow.start(mode=mode)

        assert statuses(run) == [COMPLETED, NOT_STARTED, COMPLETED]
        assert (run.state, ran) == (TypeRunState.PAUSED, ["work", "clean"])
        workflow.config.listeners.clear()
        workflow.start(mode=mode, resume=True)
        assert ran == ["work", "clean", "more", "clean"]

    @pytest.mark.parametrize("mode", ["sequential", "parallel"])
    def test_one_that_has_begun_goes_on_to_its_end(self, mode: str) -> None:
        """With its retries, and all items of a map."""
        ran: list[object] = []

        @action(retry=3, retry_delay=0.001)
        def close() -> None:
            ran.append("close")
            if len(ran) < 3:
                raise ConnectionError

        workflow = DotFlow(Config(executor=ExecutorThread(), log=LogDefault(output="none")))
        workflow.task.add(close, always=True)
        workflow.task.add(action(lambda number: ran.append(number)), name="each", each=[1, 2], always=True)
        workflow.task.add(action(lambda: None), name="next", after="close")
        paused_at(workflow, lambda event: isinstance(event, AttemptFailed))

        run = workflow.start(mode=mode, keep_going=True)

        assert statuses(run) == [COMPLETED, COMPLETED, NOT_STARTED]
        assert Counter(ran) == {"close": 3, 1: 1, 2: 1}

    @pytest.mark.parametrize("task_id", [0, 1])
    @pytest.mark.parametrize("moment", [AttemptStarted, TaskCompleted])
    @pytest.mark.parametrize("executor", [None, ExecutorThread])
    def test_it_takes_the_context_that_it_takes_without_a_pause(
        self, executor: Callable[[], Executor] | None, moment: type, task_id: int
    ) -> None:
        """Whether the pause came before it was ready or after."""

        @action
        def again(previous_context: Context) -> str:
            return f"{previous_context.storage}+"

        workflow = DotFlow(Config(executor=executor and executor(), log=LogDefault(output="none")))
        workflow.task.add(action(lambda: "value"), name="value")
        workflow.task.add(again, name="first", always=True).add(again, name="second", always=True)
        pauses = paused_at(workflow, lambda event: isinstance(event, moment) and event.task_id == task_id)

        run = workflow.start()

        assert pauses.of(moment)
        assert run.state is TypeRunState.COMPLETED
        assert [task.value for task in run.tasks] == ["value", "value+", "value++"]

    def test_a_failure_of_it_fails_the_run(self) -> None:
        """A cluster may be left, so `on_failure` is called."""
        called: list[str] = []
        workflow = DotFlow(Config(log=LogDefault(output="none")))
        workflow.task.add(action(lambda: workflow.last.pause()), name="pause").add(action(lambda: 5), name="five")
        workflow.task.add(action(lambda: 1 / 0), name="clean", always=True)

        run = workflow.start(on_failure=lambda tasks: called.append("failure"))

        assert (run.state, statuses(run), called) == (
            TypeRunState.FAILED,
            [COMPLETED, NOT_STARTED, FAILED],
            ["failure"],
        )


# What becomes of the run


class TestRuns:
    def test_neither_callback_is_called(self) -> None:
        """It has neither succeeded nor failed. A task that is PAUSED has not ended, so its callback is not called."""
        called: list[Any] = []

        @action(retry=2, retry_delay=FOR_EVER)
        def fails() -> None:
            raise ValueError

        workflow = DotFlow(Config(log=LogDefault(output="none")))
        workflow.task.add(fails, callback=lambda task: called.append(task))
        listener = paused_at(workflow, lambda event: isinstance(event, AttemptFailed))

        run = workflow.start(
            on_success=lambda tasks: called.append("success"), on_failure=lambda tasks: called.append("failure")
        )

        assert called == []
        assert listener.of(RunEnded)[0][2:] == (PAUSED, run._ended.at, TypeRunState.PAUSED, "the run was paused", None)

    def test_raise_for_failure_says_that_it_is_paused(self) -> None:
        """With what goes on."""
        workflow = DotFlow(Config(log=LogDefault(output="none")), workflow_id="nightly")
        workflow.task.add(action(lambda: workflow.last.pause()), name="pause").add(action(lambda: 5), name="five")

        with pytest.raises(RunFailed, match=r"is paused\. Start the workflow with resume=True to go on\.$") as caught:
            workflow.start().raise_for_failure()

        assert (caught.value.is_paused, caught.value.reason) == (True, "the run was paused")

    @pytest.mark.parametrize("mode", ["sequential", "parallel"])
    def test_one_whose_last_step_runs_completes(self, mode: str) -> None:
        """The pause has held nothing."""
        called: list[str] = []
        workflow = DotFlow(Config(executor=ExecutorThread(), log=LogDefault(output="none")))
        workflow.task.add(action(lambda: workflow.last.pause()), name="pause")
        workflow.task.add(action(lambda: called.append("clean")), name="clean", always=True)

        run = workflow.start(mode=mode, on_success=lambda tasks: called.append("success"))

        assert (run.status, run.state, called) == (COMPLETED, TypeRunState.COMPLETED, ["clean", "success"])
        assert run.raise_for_failure() is run

    def test_after_its_end_a_pause_does_nothing(self) -> None:
        """It stays what it is."""
        workflow = DotFlow(Config(log=LogDefault(output="none")))
        workflow.task.add(action(lambda: 5), name="five")
        run = workflow.start()

        run.pause()

        assert (run.status, run.state, run.wait(0)) == (COMPLETED, TypeRunState.COMPLETED, True)

    @pytest.mark.exhaustive(keep_every=4)
    @pytest.mark.parametrize("orders", [["pause", "cancel"], ["cancel", "pause"]], ids="-".join)
    @pytest.mark.parametrize("mode", ["background", "parallel"])
    def test_of_a_pause_and_a_cancel_the_cancel_wins(self, mode: str, orders: list[str]) -> None:
        """Whichever came first."""
        works, blocked = threading.Event(), threading.Event()

        @action(timeout=FOR_EVER)
        def work() -> None:
            works.set()
            blocked.wait(WAIT)

        workflow = DotFlow(Config(executor=ExecutorThread(), log=LogDefault(output="none")))
        workflow.task.add(work).add(action(lambda: None), name="next", after=work)
        run = workflow.launch(lambda: None, mode=mode)
        assert works.wait(WAIT)
        for order in orders:
            getattr(run, order)()
        assert run.wait(WAIT)

        assert run.state is TypeRunState.CANCELLED
        assert statuses(run) == [FAILED, NOT_STARTED]

    @pytest.mark.parametrize("stop", ["cancel", "interrupt"])
    def test_a_stop_during_its_cleanup_fails_what_it_has_paused(self, stop: str, history: HistorySQLite) -> None:
        """As without the pause: a task that waits for a retry, and a map with its item that does."""

        @action(retry=2, retry_delay=FOR_EVER)
        def breaks(number: int = 0) -> None:
            raise ValueError

        @action
        def clean() -> None:
            if stop == "interrupt":
                raise KeyboardInterrupt
            workflow.last.cancel()

        workflow = DotFlow(Config(history=history, executor=ExecutorThread(), log=LogDefault(output="none")))
        workflow.task.add(breaks, name="one").add(breaks, name="many", each={"number": [1, 2]})
        workflow.task.add(clean, always=True)
        progress = Progress(workflow.task)
        workflow.config.listeners.append(progress)
        pauses = paused_at(workflow, lambda event: len(pauses.of(AttemptFailed)) == 3)

        with pytest.raises(KeyboardInterrupt) if stop == "interrupt" else contextlib.nullcontext():
            workflow.start(mode="parallel")

        run = workflow.last
        exception = "KeyboardInterrupt" if stop == "interrupt" else "RunCancelled"
        assert len(pauses.of(TaskPaused)) == 4
        assert statuses(run)[:2] == [FAILED, FAILED]
        assert [item.status for item in run.tasks[1].items] == [FAILED, FAILED]
        for task in (*run.tasks[:2], *run.tasks[1].items):
            assert task.error is not None
            assert (task.error.exception, task.reason) == (exception, "")
        recorded = history.load(run.run_id)
        assert [step.state for step in recorded.steps] == statuses(run)
        assert [recorded.steps[1].items[item][-1].state for item in (0, 1)] == [FAILED, FAILED]
        assert progress.all.done == sum(status is not NOT_STARTED for status in statuses(run))

    @pytest.mark.parametrize(("keep_going", "state"), [(False, TypeRunState.FAILED), (True, TypeRunState.PAUSED)])
    def test_a_failure_that_stops_the_run_outweighs_a_pause(self, keep_going: bool, state: TypeRunState) -> None:
        """With keep_going it stops nothing, so the rest is held."""
        called: list[str] = []

        @action
        def fails() -> None:
            workflow.last.pause()
            raise ValueError

        workflow = DotFlow(Config(log=LogDefault(output="none")))
        workflow.task.add(fails).add(action(lambda: 5), name="five")

        run = workflow.start(keep_going=keep_going, on_failure=lambda tasks: called.append("failure"))

        assert (run.state, statuses(run)) == (state, [FAILED, NOT_STARTED])
        assert called == ["failure"] * (not keep_going)

    def test_a_failed_item_ends_its_map_as_without_a_pause(self) -> None:
        """An item without a retry left fails its map, if it may not go on with the others."""

        @action
        def double(number: int) -> None:
            workflow.last.pause()
            raise ValueError(number)

        workflow = DotFlow(Config(executor=ExecutorThread(), log=LogDefault(output="none")))
        workflow.task.add(double, each=[1, 2, 3])

        run = workflow.start()

        assert (run.state, statuses(run)) == (TypeRunState.FAILED, [FAILED])
        assert run.task("double").error.exception == "ItemsFailed"  # type: ignore[union-attr]

    def test_the_first_reason_stays(self) -> None:
        """That of an order, or of a shutdown."""
        workflow = DotFlow(Config(log=LogDefault(output="none")))

        def pause() -> None:
            workflow.last.pause_for(PAUSE_ORDER._replace(reason="paused by web: deploy"))
            workflow.last.pause()

        workflow.task.add(action(pause)).add(action(lambda: 5), name="five")
        listener = paused_at(workflow, lambda event: False)
        workflow.start()

        assert listener.of(RunEnded)[0].reason == "paused by web: deploy"

    def test_a_signal_handler_may_pause_it_at_any_moment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also while the same thread pauses it."""
        workflow = DotFlow(Config(log=LogDefault(output="none")))
        workflow.task.add(action(lambda: workflow.last.pause()), name="pause").add(action(lambda: 5), name="five")
        pause, handled = Runner.pause, []

        def interrupted(runner: Runner, stop: Any) -> None:
            signal.raise_signal(signal.SIGUSR1)
            pause(runner, stop)

        def handler(*_: object) -> None:
            workflow.last.pause()
            handled.append(True)

        monkeypatch.setattr(Runner, "pause", interrupted)
        previous = signal.signal(signal.SIGUSR1, handler)
        try:
            run = workflow.start()
        finally:
            signal.signal(signal.SIGUSR1, previous)

        assert (run.state, handled) == (TypeRunState.PAUSED, [True])

    def test_an_awaited_run_can_be_paused(self) -> None:
        """`astart` returns it."""
        workflow = DotFlow(Config(log=LogDefault(output="none")))
        workflow.task.add(action(lambda: workflow.last.pause()), name="pause").add(action(lambda: 5), name="five")

        run = asyncio.run(workflow.astart())

        assert run.state is TypeRunState.PAUSED

    @pytest.mark.parametrize("resume", ["unfinished", "changed"])
    def test_each_resume_goes_on_with_it(self, resume: str, tmp_path: Path) -> None:
        """A paused run is an unfinished one."""
        ran: list[str] = []
        config = Config(storage=StorageFile(tmp_path), log=LogDefault(output="none"))
        workflow = DotFlow(config, workflow_id="nightly")
        workflow.task.add(action(lambda: ran.append("first")), name="first")
        workflow.task.add(action(lambda: ran.append("second")), name="second")
        paused_at(workflow, lambda event: isinstance(event, TaskCompleted) and ran == ["first"])
        workflow.start()

        run = workflow.start(resume=resume)  # type: ignore[arg-type]

        assert ran == ["first", "second"]
        assert run.state is TypeRunState.COMPLETED


# Who hears of it


class Told(Notify):
    """Keeps the status and the reason of each task that it was sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, str]] = []

    def send(self, task: Task) -> None:
        self.sent.append((task.name, str(task.status), task.reason))


def paused_run(history: HistorySQLite, **providers: Any) -> Run:
    """A run with a task that was restored, one that waits for a retry, an open map, and one that has not begun."""

    @action(retry=3, retry_delay=FOR_EVER)
    def fetch() -> int:
        raise ConnectionError("away")

    @action(retry=2, retry_delay=FOR_EVER)
    def double(number: int) -> int:
        if number == 2:
            raise ValueError(number)
        return number

    settings = {"log": LogDefault(output="none"), **providers}
    workflow = DotFlow(Config(history=history, executor=ExecutorThread(), **settings), workflow_id="nightly")
    workflow.task.add(action(lambda: 5), name="five")
    workflow.task.add(double, each=[1, 2, 3], max_parallel=1, after="five").add(fetch, after="five")
    workflow.task.add(action(lambda fetch: fetch), name="next", needs="fetch")
    failed: list[int] = []
    paused_at(workflow, lambda event: isinstance(event, AttemptFailed) and bool(failed.append(1) or len(failed) == 2))
    return workflow.start(mode="parallel")


def test_log_and_notifier_hear_of_it(history: HistorySQLite, capfd: pytest.CaptureFixture[str]) -> None:
    """Of each PAUSED task once; the log of its reason, and of the items of a map in numbers."""
    told = Told()

    paused_run(history, notify=told, log=LogDefault(output="console"))

    assert [sent for sent in told.sent if sent[1] == "Paused"] == [
        ("double", "Paused", "the run was paused"),
        ("fetch", "Paused", "the run was paused"),
    ]
    lines = [line.partition(" task ")[2] for line in capfd.readouterr().err.splitlines() if "Paused" in line]
    assert lines == ["1 double: Paused (1 of 3 items, 1 retry)", "2 fetch: Paused: the run was paused"]


def test_the_history_has_it(history: HistorySQLite) -> None:
    """The last attempt of a task that waits for a retry is Paused, and so are its map and its items that do."""
    paused_run(history)

    run = history.load("last")
    assert (run.state, run.reason, run.ended is not None) == ("Paused", "the run was paused", True)
    assert [(task.name, task.state) for task in run.steps] == [
        ("five", "Completed"),
        ("double", "Paused"),
        ("fetch", "Paused"),
        ("next", None),
    ]
    (attempt,) = run.steps[2].attempts
    assert (attempt.glimpse, [error.exception for error in attempt.errors]) == (
        "the run was paused",
        ["ConnectionError"],
    )
    assert [run.steps[1].items[item][-1].state for item in (0, 1)] == ["Completed", "Paused"]
    assert (run.completed, run.failed, run.failures) == (1, 0, [])
    assert [found.run_id for found in history.runs(state="paused")] == [run.run_id]
    assert [task.state for task in history.task_states([run.run_id])[0]] == ["Completed", "Paused", "Paused", None]


def test_the_views_of_the_file_have_it(history: HistorySQLite) -> None:
    """Also in a file of the format before, which had no Paused attempts."""
    import sqlite3

    from tests.integration.test_archive import SECOND_FORMAT

    paused_run(history)
    history.close()

    with sqlite3.connect(history.path) as connection:
        states = connection.execute("SELECT state FROM attempt_list WHERE step = 'fetch'").fetchall()
        assert (states, connection.execute("SELECT state FROM run_list").fetchall()) == ([("Paused",)], [("Paused",)])
        connection.executescript(SECOND_FORMAT)
    connection.close()
    older = HistorySQLite(history.path)
    assert older.load("last").steps[2].state == "Paused"
    paused_run(older)
    older.close()
    with sqlite3.connect(history.path) as connection:
        states = connection.execute("SELECT DISTINCT state FROM attempt_list WHERE step = 'fetch'").fetchall()
    connection.close()
    assert states == [("Paused",)]


def test_a_report_without_a_history_has_it() -> None:
    """The record of the tasks says the same."""

    @action(retry=2, retry_delay=FOR_EVER)
    def fetch() -> int:
        raise ConnectionError("away")

    workflow = DotFlow(Config(log=LogDefault(output="none")))
    workflow.task.add(fetch)
    paused_at(workflow, lambda event: isinstance(event, AttemptFailed))

    record = workflow.start()._record("")

    assert (record.state, record.steps[0].state) == ("Paused", "Paused")
    assert record.steps[0].attempts[-1].glimpse == "the run was paused"
    made = document(record, output={"output": None})
    assert (made["run"]["state"], made["tasks"][0]["state"]) == ("Paused", "Paused")
    assert "Paused" in workflow.last._repr_html_()
