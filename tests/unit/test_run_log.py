"""What log and notifier receive about a mapped task, event by event."""

from datetime import UTC, datetime

import pytest

from dotflow import Context, Task
from dotflow.abc.log import Log
from dotflow.core.events import (
    AttemptFailed,
    AttemptRepeated,
    AttemptStarted,
    MapEnded,
    MapOpened,
    TaskCompleted,
    TaskEvent,
    TaskFailed,
    TaskRestored,
    TaskSkipped,
)
from dotflow.core.failure import Failure
from dotflow.engine.run_log import MAX_FAILURES, PROGRESS_INTERVAL, RunLog

from .conftest import FakeTime
from .test_item_counts import mapped

AT = datetime(2026, 3, 1, tzinfo=UTC)
NO = Failure("ValueError", "no")


class Reported(Log):
    """Maps whose items have events at times that the test chooses, and what log and notifier received."""

    def __init__(self, time: FakeTime) -> None:
        self.time = time
        self.lines: list[str] = []
        self.tasks: dict[int, Task] = {}
        self.run_log = RunLog(self.tasks, self, lambda task: self.lines.append(f"notify {task.task_id}"), pytest.fail)

    def info(self, task: Task) -> None:
        self.lines.append(f"info {task.task_id}")

    def error(self, task: Task) -> None:
        self.lines.append(f"error {task.task_id}")

    def note(self, message: str) -> None:
        self.lines.append(message)

    def open(self, task_id: int = 0) -> None:
        self.tasks[task_id] = task = mapped([], [])
        for record in (task, *task.items):
            record.task_id = task_id
        self.follow(MapOpened(task_id, 2, AT, self.time.monotonic()))

    def follow(self, event: TaskEvent) -> None:
        self.run_log.record("r", event)

    def start(self, task_id: int = 0) -> None:
        self.run_log.follow_attempt(self.tasks[task_id].items[0], self.time.monotonic(), AttemptStarted)

    def complete(self, task_id: int = 0) -> None:
        self.run_log.follow_attempt(self.tasks[task_id].items[0], self.time.monotonic(), TaskCompleted)

    def fail(self, task_id: int = 0) -> None:
        self.follow(TaskFailed(task_id, 1, NO, AT, self.time.monotonic(), 0))

    def close(self, task_id: int = 0) -> None:
        self.follow(MapEnded(task_id, Context(), None, AT, self.time.monotonic()))


@pytest.fixture
def reported(fake_time: FakeTime) -> Reported:
    return Reported(fake_time)


def test_it_begins_with_the_first_item_that_runs(reported: Reported) -> None:
    """Once, so that the number of restored items is known by then; one without such an item has no beginning."""
    reported.open()
    reported.follow(TaskRestored(0, Context(), Context(), 0))
    reported.follow(TaskSkipped(0, "it needs 'a[1]', which failed", 1))
    assert reported.lines == []

    for _ in range(3):
        reported.start()
        reported.complete()

    assert reported.lines == ["info 0", "notify 0"]


def test_a_map_in_rounds_begins_once(reported: Reported) -> None:
    """It opens again in each round, and its first item that runs is the beginning, whichever round that is of."""
    reported.open()
    for _ in range(3):
        reported.open()
        reported.start()
        reported.complete()

    assert reported.lines == ["info 0", "notify 0"]


def test_progress_is_reported_every_ten_seconds(reported: Reported) -> None:
    """When an item ends, whether it failed or not; an interval in which none ends is not made up for."""
    reported.open()
    reported.start()
    for seconds, lines in [
        (9.9, []),
        (0.1, ["info 0"]),
        (5, []),
        (5, ["info 0"]),
        (60, ["info 0"]),
        (9.9, []),
    ]:
        reported.lines.clear()
        reported.time.move(seconds)
        reported.complete()
        reported.complete()
        assert reported.lines == lines

    reported.lines.clear()
    reported.time.move(PROGRESS_INTERVAL)
    reported.fail()
    assert reported.lines == ["error 0", "info 0"]


def test_several_maps_share_the_interval(reported: Reported) -> None:
    """All that run are reported, until each has ended; after the last one nothing is due."""
    for task_id in (1, 2):
        reported.open(task_id)
        reported.start(task_id)
        reported.time.move(6)
    reported.complete(2)
    reported.close(1)
    reported.time.move(PROGRESS_INTERVAL)
    reported.complete(2)
    reported.close(2)
    reported.time.move(PROGRESS_INTERVAL)
    reported.open(3)
    reported.start(3)
    reported.complete(3)

    assert [line for line in reported.lines if "notify" in line] == [f"notify {task_id}" for task_id in (1, 2, 1, 2, 3)]
    infos = [line for line in reported.lines if "info" in line]
    assert infos == [f"info {task_id}" for task_id in (1, 2, 1, 2, 1, 2, 2, 3)]


@pytest.mark.parametrize(
    ("event", "what"),
    [
        (TaskFailed(0, 1, NO, AT, 0.0, 0), "failed items"),
        (AttemptFailed(0, 1, NO, 0.0, 0), "failed attempts that are repeated"),
        (AttemptRepeated(0, 1, NO, 0), "failed attempts that are repeated"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_the_first_failures_are_logged(reported: Reported, event: TaskEvent, what: str) -> None:
    """The note that the others are only counted comes once."""
    reported.open()
    for _ in range(100):
        reported.follow(event)

    note = f"w task 0 fetch: more than {MAX_FAILURES} {what}; from here on they are only counted."
    assert reported.lines == ["error 0"] * MAX_FAILURES + [note]


def test_repeated_attempts_hide_no_failed_item(reported: Reported) -> None:
    """Each kind, and each map, has a limit of its own."""
    for task_id in (0, 1):
        reported.open(task_id)
        for _ in range(MAX_FAILURES + 1):
            reported.follow(AttemptFailed(task_id, 1, NO, 0.0, 0))
        reported.lines.clear()
        reported.fail(task_id)
        assert reported.lines == [f"error {task_id}"]
