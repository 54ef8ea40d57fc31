"""What an event sets off, and in which order."""

from datetime import UTC, datetime
from typing import Any

import pytest

from dotflow import Context, Task, action
from dotflow.abc.history import History
from dotflow.abc.log import Log
from dotflow.abc.notify import Notify
from dotflow.abc.storage import Storage
from dotflow.abc.tracer import Tracer
from dotflow.core.call import Carrier
from dotflow.core.events import (
    AttemptFailed,
    AttemptRepeated,
    AttemptStarted,
    Event,
    RunEnded,
    RunStarted,
    TaskCompleted,
    TaskEvent,
    TaskFailed,
    TaskRestored,
)
from dotflow.core.failure import Failure
from dotflow.core.types.status import TypeStatus
from dotflow.engine.checkpoint import Checkpoints
from dotflow.engine.publisher import Publisher, reporter
from dotflow.errors import StorageError

NOW = datetime(2024, 1, 1, tzinfo=UTC)
NO = Failure("ValueError", "no")
STARTED = AttemptStarted(0, 1, Context(), NOW, 1.0)
COMPLETED = TaskCompleted(0, Context("value", task_id=0), 2.0)
RESTORED = TaskRestored(0, Context("value", task_id=0), Context())
FAILED = TaskFailed(0, 1, NO, NOW, 2.0)
RETRY = AttemptFailed(0, 1, NO, 1.0)
REPEATED = AttemptRepeated(0, 1, NO)


@action
def step() -> None: ...


class Everybody(Storage, Log, Notify, History, Tracer):
    """All that can be told in one, which writes down who was told what, and what the record said then.

    Whoever's name is in `broken` raises.
    """

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.reports: list[str] = []
        self.broken: dict[str, BaseException] = {}
        self.carries: Any = None
        self.task = Task(0, step, self.callback)._new_record("w", "r")

    def tell(self, who: str) -> None:
        self.told.append((who, str(self.task.status)))
        if who in self.broken:
            raise self.broken[who]

    def post(self, key: str, context: Context) -> None:
        self.tell("storage")

    def get(self, key: str) -> Context:
        return Context()

    def key(self, task: Task) -> str:
        if "key" in self.broken:
            raise self.broken["key"]
        return f"{task.workflow_id}-{task.task_id}"

    def record(self, run_id: str, event: Event) -> None:
        assert run_id == "r"
        self.tell("history")

    def trace(self, run_id: str, event: Event) -> None:
        assert run_id == "r"
        self.tell("tracer")

    def carrier(self, run_id: str, task_id: int) -> Any:
        assert (run_id, task_id) == ("r", 0)
        self.tell("carrier")
        return self.carries

    def info(self, task: Task) -> None:
        assert task is self.task
        self.tell("log.info")

    def error(self, task: Task) -> None:
        assert task is self.task
        self.tell("log.error")

    def report(self, message: str) -> None:
        self.reports.append(message)
        if "report" in self.broken:
            raise self.broken["report"]

    def send(self, task: Task) -> None:
        self.tell("notify")

    def callback(self, task: Task) -> None:
        assert task is self.task
        self.tell("callback")

    def publisher(self) -> Publisher:
        checkpoints = Checkpoints(self, "w", exclusive=False, report=print)
        checkpoints.open([self.task], resume=False)
        return Publisher(
            "r",
            {0: self.task},
            checkpoints,
            log=self,
            notifier=self,  # told directly here; the real one tells from a thread of its own
            history=self,
            tracer=self,
            report=reporter(self),
        )


@pytest.fixture
def everybody() -> Everybody:
    return Everybody()


@pytest.mark.parametrize(
    ("event", "told", "status"),
    [
        (STARTED, ["history", "tracer", "log.info", "notify"], "In progress"),
        (REPEATED, ["history", "tracer", "log.error", "notify"], "Retry"),
        (RETRY, ["history", "tracer", "log.error", "notify"], "Retry"),
        (COMPLETED, ["history", "tracer", "log.info", "notify", "callback"], "Completed"),
        (RESTORED, ["history", "tracer", "log.info", "notify"], "Completed"),
        (FAILED, ["history", "tracer", "log.error", "notify", "callback"], "Failed"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_order(everybody: Everybody, event: TaskEvent, told: list[str], status: str) -> None:
    """Storage, record, history, tracer, log, notify, callback: all but the storage see the record up to date."""
    everybody.publisher().publish(event)

    stored = [("storage", "Not started")] if isinstance(event, TaskCompleted) else []
    assert everybody.told == stored + [(who, status) for who in told]


def test_only_completed_tasks_are_stored(everybody: Everybody) -> None:
    """A failed task leaves no checkpoint, and a restored one has its own already."""
    for event in (STARTED, REPEATED, RETRY, RESTORED, FAILED):
        everybody.publisher().publish(event)

    assert "storage" not in [who for who, _ in everybody.told]


@pytest.mark.parametrize("who", ["storage", "key"])
def test_a_storage_that_raises_stops_the_event(everybody: Everybody, who: str) -> None:
    """A value that could not be kept is no result: nothing is recorded and nobody else hears of it."""
    publisher = everybody.publisher()
    publisher.publish(STARTED)
    everybody.told.clear()
    everybody.broken[who] = OSError("disk full")

    with pytest.raises(StorageError) as caught:
        publisher.publish(COMPLETED)

    assert "OSError: disk full" in str(caught.value)
    assert "'step'" in str(caught.value)
    assert caught.value.__cause__ is everybody.broken[who]
    assert everybody.task.status is TypeStatus.IN_PROGRESS
    assert {told for told, _ in everybody.told} <= {"storage"}


@pytest.mark.parametrize("who", ["history", "tracer", "log.info", "callback"])
@pytest.mark.parametrize("error", [ValueError("broken"), StorageError("s", "from a listener")], ids=["any", "ours"])
def test_whoever_else_raises_is_reported_and_changes_nothing(everybody: Everybody, who: str, error: Exception) -> None:
    """The others are told all the same; the report has the traceback of what was raised."""
    everybody.broken[who] = error

    everybody.publisher().publish(COMPLETED)

    assert [told for told, _ in everybody.told] == ["storage", "history", "tracer", "log.info", "notify", "callback"]
    assert everybody.task.status is TypeStatus.COMPLETED
    assert len(everybody.reports) == 1
    assert "raised" in everybody.reports[0]
    assert "Traceback (most recent call last):" in everybody.reports[0]
    assert str(error) in everybody.reports[0]


def test_a_log_that_cannot_even_report(everybody: Everybody, caplog: pytest.LogCaptureFixture) -> None:
    """A report that raises too goes to Python's own logging: it is never lost, and breaks nothing."""
    everybody.broken["history"] = ValueError("broken history")
    everybody.broken["report"] = OSError("broken log")

    everybody.publisher().publish(STARTED)

    assert everybody.task.status is TypeStatus.IN_PROGRESS
    assert "broken history" in caplog.text
    assert "broken log" in caplog.text


def test_a_log_reports_to_pythons_logging_by_default(caplog: pytest.LogCaptureFixture) -> None:
    """A user's log with just info and error says the rest through the logger 'dotflow'."""

    class Mine(Log):
        def info(self, task: Task) -> None: ...

        def error(self, task: Task) -> None: ...

    reporter(Mine())("100% of it", None)

    assert [(record.name, record.levelname, record.getMessage()) for record in caplog.records] == [
        ("dotflow", "WARNING", "100% of it")
    ]


@pytest.mark.parametrize("who", ["history", "log.info", "callback"])
def test_a_keyboard_interrupt_is_no_listeners_error(everybody: Everybody, who: str) -> None:
    """Ctrl-C in the middle of telling goes on to whoever runs the program."""
    everybody.broken[who] = KeyboardInterrupt()

    with pytest.raises(KeyboardInterrupt):
        everybody.publisher().publish(COMPLETED)


def test_run_events_are_for_those_who_keep_events(everybody: Everybody) -> None:
    """History and tracer follow the run; one that raises is reported and the other told."""
    everybody.broken["history"] = ValueError("broken")

    everybody.publisher().follow(RunStarted("w", "r", 1, NOW))
    everybody.publisher().follow(RunEnded("w", "r", TypeStatus.COMPLETED, NOW))

    assert [who for who, _ in everybody.told] == ["history", "tracer"] * 2
    assert len(everybody.reports) == 2
    assert "RunStarted" in everybody.reports[0]


def test_nobody_has_to_be_there() -> None:
    """Without log, notify, history, tracer and callback the record is kept."""
    task = Task(0, step)._new_record("w", "r")
    checkpoints = Checkpoints(Everybody(), "w", exclusive=False, report=print)
    checkpoints.open([task], resume=False)
    publisher = Publisher(
        "r",
        {0: task},
        checkpoints,
        log=None,
        notifier=None,
        history=None,
        tracer=None,
        report=pytest.fail,
    )

    for event in (STARTED, COMPLETED):
        publisher.publish(event)

    assert task.status is TypeStatus.COMPLETED


def test_a_history_that_is_empty_is_a_history(everybody: Everybody) -> None:
    """One with a length of 0 is told like any other."""

    class Events(list[Event], History):
        def record(self, run_id: str, event: Event) -> None:
            self.append(event)

    events = Events()
    publisher = Publisher(
        "r",
        {0: everybody.task},
        Checkpoints(everybody, "w", exclusive=False, report=print),
        log=None,
        notifier=None,
        history=events,
        tracer=None,
        report=pytest.fail,
    )

    publisher.publish(STARTED)

    assert events == [STARTED]


@pytest.mark.parametrize("error", [None, ValueError("broken")])
def test_the_end_is_told_with_the_tasks(everybody: Everybody, error: Exception | None) -> None:
    """on_success(tasks=...) is called by name; what it raises is reported under its own."""
    seen: dict[str, Any] = {}

    def on_success(**told: Any) -> None:
        seen.update(told)
        if error:
            raise error

    everybody.publisher().end("on_success", on_success, [everybody.task])

    assert seen == {"tasks": [everybody.task]}
    assert [report.startswith("on_success raised") for report in everybody.reports] == ([True] if error else [])


def test_sys_exit_in_a_tasks_callback_is_reported(everybody: Everybody) -> None:
    """In the middle of a run it is a mistake like any other."""
    everybody.broken["callback"] = SystemExit(3)

    everybody.publisher().publish(COMPLETED)

    assert "SystemExit: 3" in everybody.reports[0]


def test_sys_exit_at_the_end_is_meant(everybody: Everybody) -> None:
    """When all is over, on_failure may choose the program's exit code."""

    def on_failure(tasks: list[Task]) -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        everybody.publisher().end("on_failure", on_failure, [everybody.task])


@pytest.mark.parametrize("carrier", [None, Carrier("module:function", {}), Carrier("module:function", {"a": "b"})])
def test_what_an_attempt_takes_along(everybody: Everybody, carrier: Carrier | None) -> None:
    """It is the tracer that says."""
    everybody.carries = carrier

    assert everybody.publisher().carrier(0) == carrier


def test_what_an_attempt_takes_along_is_a_copy(everybody: Everybody) -> None:
    """What the tracer changes later does not change what has been handed on."""
    headers = {"a": "b"}
    everybody.carries = Carrier("module:function", headers)

    carrier = everybody.publisher().carrier(0)
    headers["a"] = "changed"

    assert carrier == Carrier("module:function", {"a": "b"})


@pytest.mark.parametrize(
    "carries", ["text", 1, Carrier("m:f", {"a": b"secret"}), Carrier(print, {}), Carrier("m:f", {1: "a"})], ids=repr
)
def test_what_could_not_travel_stays_here(everybody: Everybody, carries: Any) -> None:
    """A tracer that gives anything but plain text is reported, without what it gave; the attempt goes without."""
    everybody.carries = carries

    assert everybody.publisher().carrier(0) is None
    assert "carrier() raised at task 0" in everybody.reports[0]
    assert "secret" not in everybody.reports[0]


def test_a_carrier_that_raises_is_reported(everybody: Everybody) -> None:
    """The attempt goes without; but Ctrl-C is nobody's mistake."""
    everybody.broken["carrier"] = ValueError("broken")
    assert everybody.publisher().carrier(0) is None
    assert "ValueError: broken" in everybody.reports[0]

    everybody.broken["carrier"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        everybody.publisher().carrier(0)
