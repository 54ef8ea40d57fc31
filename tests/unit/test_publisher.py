"""The effects of an event, in order."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from dotflow import Context, Task, action
from dotflow.abc.executor import ExecutorSession
from dotflow.abc.history import History, Listener
from dotflow.abc.log import Log
from dotflow.abc.notify import Notify
from dotflow.abc.storage import Storage
from dotflow.abc.tracer import Tracer
from dotflow.capture.capturing_session import CapturingSession
from dotflow.core.attempt_id import AttemptId
from dotflow.core.call import Call, Carrier, TraceIds, Watch
from dotflow.core.capture import Capture
from dotflow.core.events import (
    AttemptFailed,
    AttemptRepeated,
    AttemptStarted,
    Event,
    MapEnded,
    MapOpened,
    RunEnded,
    RunStarted,
    TaskCompleted,
    TaskEvent,
    TaskFailed,
    TaskPaused,
    TaskRestored,
    TaskSkipped,
    Traced,
)
from dotflow.core.failure import Failure
from dotflow.core.task import RunTask
from dotflow.core.types.capture import TypeCapture
from dotflow.core.types.status import TypeStatus
from dotflow.engine.publisher import Publisher
from dotflow.engine.run_log import RunLog, log_line_of
from dotflow.errors import HistoryError, StorageError
from dotflow.resume.checkpoint import Checkpoints

from .conftest import FakeTime
from .test_item_counts import mapped

NOW = datetime(2024, 1, 1, tzinfo=UTC)
NO = Failure("ValueError", "no")
STARTED = AttemptStarted(0, 1, Context(), NOW, 1.0)
COMPLETED = TaskCompleted(0, Context("value", task_id=0), 2.0)
RESTORED = TaskRestored(0, Context("value", task_id=0), Context())
FAILED = TaskFailed(0, 1, NO, NOW, 2.0)
PAUSED = TaskPaused(0, "the run was paused", NOW, 2.0)
RETRY = AttemptFailed(0, 1, NO, 1.0)
REPEATED = AttemptRepeated(0, 1, NO)


@action
def step() -> None: ...


def publish(publisher: Publisher, task: Task, event: TaskEvent) -> None:
    """Publishes an event of a task or an item, as the runner does."""
    if isinstance(event, AttemptStarted):
        publisher.begin(task, event.previous, Call(0, 0, step, Context(), event.previous, "w"))
    elif isinstance(event, TaskCompleted):
        publisher.complete(task, event.context, event.usage)
    else:
        publisher.publish(event)


class AllProviders(Storage, Log, Notify, History, Tracer):
    """All providers in one, which records their calls and the status of the task at each.

    A provider whose name is in `broken` raises.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.reports: list[str] = []
        self.broken: dict[str, BaseException] = {}
        self.carries: Any = None
        self.task = Task(0, step, self.callback)._new_record("w", "r")

    def call(self, name: str) -> None:
        self.calls.append((name, str(self.task.status)))
        if name in self.broken:
            raise self.broken[name]

    def post(self, key: str, context: Context) -> None:
        self.call("storage")

    def get(self, key: str) -> Context:
        return Context()

    def key(self, task: Task) -> str:
        if "key" in self.broken:
            raise self.broken["key"]
        return f"{task.workflow_id}-{task.task_id}"

    def record(self, run_id: str, event: Event) -> None:
        assert run_id == "r"
        self.call("history")

    def settle(self, run_id: str, begins: bool) -> float | None:
        assert run_id == "r"
        self.call("settle")
        return 0.5

    def trace(self, run_id: str, event: Event) -> None:
        assert run_id == "r"
        self.call("tracer")

    def carrier(self, run_id: str, task_id: int) -> Any:
        assert (run_id, task_id) == ("r", 0)
        self.call("carrier")
        return self.carries

    def info(self, task: Task) -> None:
        assert task is self.task
        self.call("log.info")

    def error(self, task: Task) -> None:
        assert task is self.task
        self.call("log.error")

    def report(self, message: str) -> None:
        self.reports.append(message)
        if "report" in self.broken:
            raise self.broken["report"]

    def send(self, task: Task) -> None:
        self.call("notify")

    def callback(self, task: Task) -> None:
        assert task is self.task
        self.call("callback")

    def publisher(self, *listeners: Listener) -> Publisher:
        checkpoints = Checkpoints(self, "w", exclusive=False, log_line=print)
        checkpoints.open([self.task], resume=False)
        tasks, log_line = {0: self.task}, log_line_of(self)
        run_log = RunLog(tasks, self, self.send, log_line)  # sent directly here; the real notifier has a thread
        return Publisher(
            "r",
            tasks,
            checkpoints.save,
            history=self,
            listeners=listeners,
            tracer=self,
            run_log=run_log,
            log_line=log_line,
        )


@pytest.fixture
def providers() -> AllProviders:
    return AllProviders()


@pytest.mark.parametrize(
    ("event", "names", "status"),
    [
        (STARTED, ["history", "tracer", "log.info", "notify"], "In progress"),
        (REPEATED, ["history", "tracer", "log.error", "notify"], "Retry"),
        (RETRY, ["history", "tracer", "log.error", "notify"], "Retry"),
        (COMPLETED, ["history", "tracer", "log.info", "notify", "callback"], "Completed"),
        (RESTORED, ["history", "tracer", "log.info", "notify"], "Completed"),
        (FAILED, ["history", "tracer", "log.error", "notify", "callback"], "Failed"),
        (TaskSkipped(0, "good was False"), ["history", "tracer", "log.info", "notify"], "Skipped"),
        (PAUSED, ["history", "tracer", "log.info", "notify"], "Paused"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_order(providers: AllProviders, event: TaskEvent, names: list[str], status: str) -> None:
    """Storage, record, history, tracer, log, notify, callback: all but the storage see the record up to date."""
    publish(providers.publisher(), providers.task, event)

    stored = [("storage", "Not started")] if isinstance(event, TaskCompleted) else []
    assert providers.calls == stored + [(name, status) for name in names]


@pytest.mark.parametrize("name", ["storage", "key"])
def test_a_storage_that_raises_stops_the_event(providers: AllProviders, name: str) -> None:
    """A value that could not be saved is no result: nothing is recorded and no other provider is called."""
    publisher = providers.publisher()
    publish(publisher, providers.task, STARTED)
    providers.calls.clear()
    providers.broken[name] = OSError("disk full")

    with pytest.raises(StorageError) as caught:
        publish(publisher, providers.task, COMPLETED)

    assert "OSError: disk full" in str(caught.value)
    assert "'step'" in str(caught.value)
    assert caught.value.__cause__ is providers.broken[name]
    assert providers.task.status is TypeStatus.IN_PROGRESS
    assert {name for name, _ in providers.calls} <= {"storage"}


def test_a_history_error_is_a_line(providers: AllProviders) -> None:
    """Without a traceback: it says itself what is wrong."""
    providers.broken["history"] = HistoryError("The history can't be written", "the disk is full")

    publish(providers.publisher(), providers.task, STARTED)

    assert providers.reports == ["The history can't be written: the disk is full."]


def test_the_history_is_settled_before_an_attempt(providers: AllProviders) -> None:
    """And what it raises there changes nothing, except for Ctrl-C."""
    publisher = providers.publisher()
    call = Call(0, 0, step, Context(), Context(), "w")

    assert publisher.prepare(call, providers.task).watch is None
    assert publisher.settle(begins=False) == 0.5
    providers.broken["settle"] = ValueError("broken")
    assert publisher.prepare(call, providers.task) == call
    assert "ValueError: broken" in providers.reports[0]
    providers.broken["settle"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        publisher.settle(begins=True)


class Bounded(Listener):
    """A listener whose `settle` bounds a wait to so many seconds. *calls* are those of all providers."""

    def __init__(self, calls: list[tuple[str, str]], seconds: float | None) -> None:
        self.calls = calls
        self.seconds = seconds

    def record(self, run_id: str, event: Event) -> None:
        self.calls.append(("listener", type(event).__name__))
        raise ValueError("broken listener")

    def settle(self, run_id: str, begins: bool) -> float | None:
        return self.seconds


def test_listeners_come_after_the_history(providers: AllProviders) -> None:
    """And before the tracer. One that raises is reported by its class, and the others are called all the same."""
    publisher = providers.publisher(Bounded(providers.calls, None))

    publisher.publish_run(RunStarted("w", "r", 1, NOW))
    publish(publisher, providers.task, STARTED)

    names = [name for name, _ in providers.calls]
    assert names == ["history", "listener", "tracer", "history", "listener", "tracer", "log.info", "notify"]
    assert [report.partition(",")[0] for report in providers.reports] == [
        "Bounded raised at RunStarted", "Bounded raised at AttemptStarted",
    ]  # fmt: skip


@pytest.mark.parametrize(("seconds", "bound"), [(None, 0.5), (0.1, 0.1), (2.0, 0.5)])
def test_the_shortest_bound_of_a_wait_counts(providers: AllProviders, seconds: float | None, bound: float) -> None:
    """The history's, which is 0.5 here, or that of another listener."""
    assert providers.publisher(Bounded(providers.calls, seconds)).settle(begins=False) == bound


def test_an_attempt_that_is_measured_has_a_watch(providers: AllProviders) -> None:
    """With its id, and what the history wants of its output."""
    providers.measures_usage, providers.output_limit = True, 100
    call = Call(0, 0, step, Context(), Context(), "w")
    providers.task._apply(STARTED)

    watch = providers.publisher().prepare(call, providers.task).watch

    assert watch == Watch(AttemptId("r", 0, 1), TypeCapture.NONE, 100)


def test_a_log_that_cannot_even_report(providers: AllProviders, caplog: pytest.LogCaptureFixture) -> None:
    """A report that raises too goes to Python's own logging: it is never lost, and breaks nothing."""
    providers.broken["history"] = ValueError("broken history")
    providers.broken["report"] = OSError("broken log")

    publish(providers.publisher(), providers.task, STARTED)

    assert providers.task.status is TypeStatus.IN_PROGRESS
    assert "broken history" in caplog.text
    assert "broken log" in caplog.text


def test_a_log_reports_to_pythons_logging_by_default(caplog: pytest.LogCaptureFixture) -> None:
    """A user's log with just info and error reports through the logger 'dotflow'."""

    class Mine(Log):
        def info(self, task: Task) -> None: ...

        def error(self, task: Task) -> None: ...

    log_line_of(Mine())("100% of it", None)

    assert [(record.name, record.levelname, record.getMessage()) for record in caplog.records] == [
        ("dotflow", "WARNING", "100% of it")
    ]


@pytest.mark.parametrize("name", ["history", "log.info", "callback"])
def test_a_keyboard_interrupt_is_no_listeners_error(providers: AllProviders, name: str) -> None:
    """Ctrl-C in a listener reaches the caller."""
    providers.broken[name] = KeyboardInterrupt()

    with pytest.raises(KeyboardInterrupt):
        publish(providers.publisher(), providers.task, COMPLETED)


def test_all_providers_are_optional() -> None:
    """Without log, notify, history, tracer and callback the record is kept."""
    task = Task(0, step)._new_record("w", "r")
    checkpoints = Checkpoints(AllProviders(), "w", exclusive=False, log_line=print)
    checkpoints.open([task], resume=False)
    publisher = Publisher("r", {0: task}, checkpoints.save, log_line=pytest.fail)

    for event in (STARTED, COMPLETED):
        publish(publisher, task, event)

    assert task.status is TypeStatus.COMPLETED


def test_a_history_that_is_empty_is_a_history(providers: AllProviders) -> None:
    """One with a length of 0 is called like any other."""

    class Events(list[Event], History):
        def record(self, run_id: str, event: Event) -> None:
            self.append(event)

    events = Events()
    checkpoints = Checkpoints(providers, "w", exclusive=False, log_line=print)
    publisher = Publisher("r", {0: providers.task}, checkpoints.save, history=events, log_line=pytest.fail)

    publish(publisher, providers.task, STARTED)

    assert [type(event) for event in events] == [AttemptStarted]


def test_sys_exit_in_a_tasks_callback_is_reported(providers: AllProviders) -> None:
    """During a run it is an error like any other."""
    providers.broken["callback"] = SystemExit(3)

    publish(providers.publisher(), providers.task, COMPLETED)

    assert "SystemExit: 3" in providers.reports[0]


def test_sys_exit_at_the_end_ends_the_program(providers: AllProviders) -> None:
    """At the end of the run, on_failure may set the program's exit code."""

    def on_failure(tasks: list[Task]) -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        providers.publisher().end("on_failure", on_failure, [providers.task])


@pytest.mark.parametrize("carrier", [None, Carrier("module:function", {}), Carrier("module:function", {"a": "b"})])
def test_an_attempt_has_a_carrier(providers: AllProviders, carrier: Carrier | None) -> None:
    """It is that of the tracer."""
    providers.carries = carrier

    assert providers.publisher().carrier(0) == carrier


def test_the_carrier_is_a_copy(providers: AllProviders) -> None:
    """Later changes by the tracer don't change it."""
    headers = {"a": "b"}
    providers.carries = Carrier("module:function", headers)

    carrier = providers.publisher().carrier(0)
    headers["a"] = "changed"

    assert carrier == Carrier("module:function", {"a": "b"})


@pytest.mark.parametrize(
    "carries", ["text", 1, Carrier("m:f", {"a": b"secret"}), Carrier(print, {}), Carrier("m:f", {1: "a"})], ids=repr
)
def test_a_carrier_of_other_types_is_refused(providers: AllProviders, carries: Any) -> None:
    """Anything but plain text is reported, without the value; the attempt has no carrier."""
    providers.carries = carries

    assert providers.publisher().carrier(0) is None
    assert "carrier() raised at task 0" in providers.reports[0]
    assert "secret" not in providers.reports[0]


def test_a_carrier_that_raises_is_reported(providers: AllProviders) -> None:
    """The attempt has no carrier; but Ctrl-C reaches the caller."""
    providers.broken["carrier"] = ValueError("broken")
    assert providers.publisher().carrier(0) is None
    assert "ValueError: broken" in providers.reports[0]

    providers.broken["carrier"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        providers.publisher().carrier(0)


class Traces(AllProviders):
    """Providers whose tracer has ids, and the events about them that the history received."""

    def __init__(self) -> None:
        super().__init__()
        self.traced: list[Traced] = []

    def trace_ids(self, run_id: str, task_id: int | None = None, item: int | None = None) -> TraceIds | None:
        self.call("trace_ids")
        return TraceIds("trace", f"{run_id} {task_id} {item}")

    def record(self, run_id: str, event: Event) -> None:
        super().record(run_id, event)
        if isinstance(event, Traced):
            self.traced.append(event)


def test_ids_that_raise_are_reported() -> None:
    """The attempt has none; but Ctrl-C reaches the caller."""
    providers = Traces()
    call = Call(0, 0, providers.task.step, Context(), Context(), "w")

    providers.broken["trace_ids"] = ValueError("broken")
    providers.publisher().prepare(call, providers.task)

    assert providers.traced == []
    assert "The tracer's trace_ids() raised at task 0" in providers.reports[0]
    providers.broken["trace_ids"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        providers.publisher().prepare(call, providers.task)


class Mapped:
    """A publisher for a workflow with one map of so many items."""

    def __init__(self, providers: AllProviders, count: int = 1) -> None:
        self.task = mapped(*([[]] * count))
        self.task.callback = lambda task: providers.calls.append(("callback", task.name))
        self.calls = providers.calls
        checkpoints = Checkpoints(providers, "w", exclusive=False, log_line=print)
        checkpoints.open([self.task], resume=False)
        tasks, log_line = {0: self.task}, log_line_of(providers)
        run_log = RunLog(tasks, Lines(providers), providers.send, log_line)
        self.publisher = Publisher(
            "r", tasks, checkpoints.save, history=providers, tracer=providers, run_log=run_log, log_line=log_line
        )
        self.publisher.publish(MapOpened(0, count, NOW, 1.0))
        self.calls.clear()

    def publish(self, *events: TaskEvent) -> list[str]:
        """Publishes events, and returns the calls that they lead to."""
        self.calls.clear()
        for event in events:
            publish(self.publisher, self.task if event.item is None else self.task.items[event.item], event)
        return [f"{name} {detail}" if name.startswith("log") else name for name, detail in self.calls]


class Lines(Log):
    """Keeps the name of each task."""

    def __init__(self, providers: AllProviders) -> None:
        self.providers = providers

    def info(self, task: Task) -> None:
        self.providers.calls.append(("log.info", task.name))

    def error(self, task: Task) -> None:
        self.providers.calls.append(("log.error", task.name))

    def note(self, message: str) -> None:
        self.providers.call("note")


def test_an_items_events_are_for_history_and_tracer(providers: AllProviders, fake_time: FakeTime) -> None:
    """Log and notifier receive the map: its beginning, the failures of items, and its end."""
    task = Mapped(providers)
    started = STARTED._replace(item=0, tick=fake_time.monotonic())
    retry, failed = RETRY._replace(item=0), FAILED._replace(item=0)

    assert task.publish(started) == ["history", "tracer", "log.info fetch", "notify"]
    assert task.publish(retry) == ["history", "tracer", "log.error fetch[0]"]
    assert task.publish(started._replace(attempt=2)) == ["history", "tracer"]
    assert task.publish(failed) == ["history", "tracer", "log.error fetch[0]"]
    assert task.publish(MapEnded(0, Context(), NO, NOW, 2.0)) == [
        "history", "tracer", "log.error fetch", "notify", "callback",
    ]  # fmt: skip


def test_an_item_is_stored(providers: AllProviders) -> None:
    """Before anything else, as a task is."""
    task = Mapped(providers)
    task.publish(STARTED._replace(item=0))

    assert task.publish(COMPLETED._replace(item=0)) == ["storage", "history", "tracer"]
    assert task.publish(MapEnded(0, Context(), None, NOW, 2.0)) == [
        "history", "tracer", "log.info fetch", "notify", "callback",
    ]  # fmt: skip


def test_a_restored_map_has_an_end_without_callback(providers: AllProviders) -> None:
    """As a task that was restored."""
    task = Mapped(providers)

    assert task.publish(RESTORED._replace(item=0)) == ["history", "tracer"]
    assert task.publish(MapEnded(0, Context(), None, NOW, 2.0)) == ["history", "tracer", "log.info fetch", "notify"]


def test_a_note_that_raises_is_reported(providers: AllProviders) -> None:
    """And Ctrl-C in it reaches the caller."""
    task = Mapped(providers)
    providers.broken["note"] = ValueError("broken note")
    task.publish(*[RETRY._replace(item=0)] * 25)

    assert ["broken note" in report for report in providers.reports] == [True]

    task = Mapped(providers)
    providers.broken["note"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        task.publish(*[RETRY._replace(item=0)] * 25)


def test_a_history_that_raises_at_each_item_fills_no_log(providers: AllProviders) -> None:
    """The first exceptions are reported, and at the end of the run their number; the tracer is counted on its own."""
    providers.broken["history"] = KeyError("no such event")
    task = Mapped(providers, 100)
    for index in range(100):
        task.publish(STARTED._replace(item=index))
    providers.broken["tracer"] = ValueError("broken tracer")
    task.publisher.publish_run(RunEnded("w", "r", TypeStatus.COMPLETED, NOW))

    last = "The history raised 102 times in this run; the first 20 are logged."
    assert [report.partition(",")[0] for report in providers.reports[:20]] == [
        f"The history raised at {name}" for name in ["MapOpened"] + ["AttemptStarted"] * 19
    ]
    assert "broken tracer" in providers.reports[20]
    assert providers.reports[21:] == [last]


def test_an_items_carrier(providers: AllProviders) -> None:
    """A tracer may tell items apart; for one that doesn't, carrier() is asked as for any attempt."""
    assert Mapped(providers).publisher.carrier(0, 7) is None
    assert ("carrier", "Not started") in providers.calls

    class PerItem(AllProviders):
        def item_carrier(self, run_id: str, task_id: int, item: int) -> Carrier:
            return Carrier("module:function", {"item": f"{run_id} {task_id} {item}"})

    assert Mapped(PerItem()).publisher.carrier(0, 7) == Carrier("module:function", {"item": "r 0 7"})
    assert Mapped(PerItem()).publisher.carrier(0) is None


class GatheringSession(CapturingSession):
    """Gathers one attempt after the other, and notes when it begins them."""

    def __init__(self, fake_time: FakeTime) -> None:
        self.fake_time = fake_time
        self.began: list[float] = []

    def capture_output(self, capture: Capture) -> bool:
        return False

    def gather(self) -> Callable[[], None]:
        return lambda: self.began.append(self.fake_time.seconds)


class TestGatheredAttempts:
    """A session begins several attempts at once, after the records about all of them."""

    @pytest.fixture
    def session(self, fake_time: FakeTime) -> GatheringSession:
        return GatheringSession(fake_time)

    @pytest.fixture
    def task(self) -> RunTask:
        return Task(0, step)._new_record("w", "r")

    @pytest.fixture
    def publisher(self, session: GatheringSession, task: RunTask) -> Publisher:
        publisher = Publisher("r", {0: task}, lambda task, context: None, log_line=pytest.fail)
        publisher.follow_session(cast("ExecutorSession", session))
        return publisher

    def begin(self, publisher: Publisher, task: Task) -> None:
        publisher.begin(task, Context(), Call(0, task.step, Context(), None, 0, "w", "r"))

    def test_a_task_begins_when_its_session_begins_it(
        self, publisher: Publisher, session: GatheringSession, task: RunTask, fake_time: FakeTime
    ) -> None:
        """Neither the beginning nor the duration has what came before, such as the records of other tasks."""
        self.begin(publisher, task)
        fake_time.move(5)
        publisher.flush()
        fake_time.move(2)
        publisher.flush()
        publisher.complete(task, Context(1), None)

        assert session.began[0] == 105
        assert (task.started_at, task.duration) == (datetime(2024, 1, 1, 0, 1, 45, tzinfo=UTC), 2)

    def test_a_repeated_attempt_does_not_move_the_beginning(
        self, publisher: Publisher, task: RunTask, fake_time: FakeTime
    ) -> None:
        """The duration of a task counts from its first attempt."""
        for _ in range(2):
            self.begin(publisher, task)
            publisher.flush()
            fake_time.move(5)
        publisher.complete(task, Context(1), None)

        assert (task.attempt, task.duration) == (2, 10)

    def test_what_never_began_keeps_its_end(
        self, publisher: Publisher, session: GatheringSession, task: RunTask, fake_time: FakeTime
    ) -> None:
        """The session of the cleanup begins nothing that the session before it has gathered."""
        self.begin(publisher, task)
        publisher.leave_session()
        publisher.publish(TaskFailed(0, 1, NO, fake_time.now(), fake_time.monotonic()))
        publisher.follow_session(cast("ExecutorSession", session))
        fake_time.move(5)
        publisher.flush()

        assert (task.status, task.duration) == (TypeStatus.FAILED, 0)
