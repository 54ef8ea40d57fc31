"""Task: a definition, and a record that only events change."""

import pickle
import sys
from datetime import UTC, datetime, timedelta

import pytest

from dotflow import Context, DotFlow, Task, action
from dotflow.core.events import (
    AttemptFailed,
    AttemptRepeated,
    AttemptRuns,
    AttemptStarted,
    TaskCompleted,
    TaskEvent,
    TaskFailed,
    TaskRestored,
)
from dotflow.core.failure import Failure, TaskError
from dotflow.core.task import STATUS_AFTER
from dotflow.core.types.status import TypeStatus

START = datetime(2024, 1, 1, tzinfo=UTC)
PREVIOUS = Context("before")
RESULT = Context("after", task_id=0)


@action
def step() -> None: ...


def at(seconds: float) -> tuple[datetime, float]:
    return START + timedelta(seconds=seconds), 1000 + seconds


def started(attempt: int = 1, seconds: float = 0) -> AttemptStarted:
    return AttemptStarted(0, attempt, PREVIOUS, *at(seconds))


def completed(seconds: float) -> TaskCompleted:
    moment, tick = at(seconds)
    return TaskCompleted(0, Context("after", task_id=0, time=moment), tick)


def failure(message: str) -> Failure:
    return Failure("ValueError", message, "Traceback...\n")


def record_after(*events: TaskEvent) -> Task:
    task = Task(0, step, workflow_id="w")._new_record("w", "r")
    for event in events:
        task._apply(event)
    return task


def test_one_that_a_program_makes_is_a_record() -> None:
    """A test of a Log or a Notify gives it the state that it wants."""
    task = Task(3, step, workflow_id="w", run_id="r")

    task.status, task.attempt, task.reason = TypeStatus.FAILED, 2, "why"
    task.errors.append(TaskError(1, failure("a")))
    task.errors.append(TaskError(2, failure("b")))
    task.started_at = START
    task.finished_at = START + timedelta(seconds=5)
    task.duration = 5.0

    again = pickle.loads(pickle.dumps(task))
    for one in (task, task._snapshot(), again):
        assert (one.workflow_id, one.run_id, one.status, one.reason) == ("w", "r", TypeStatus.FAILED, "why")
        assert (one.attempt, one.retry_count, [error.message for error in one.errors]) == (2, 1, ["a", "b"])
        assert (one.started_at, one.finished_at, one.duration) == (START, START + timedelta(seconds=5), 5.0)
    assert task.current_context is task.current_context
    assert task.previous_context is task.previous_context


@pytest.mark.parametrize("is_new", [True, False])
def test_its_duration_and_its_end_are_set_one_by_one(is_new: bool) -> None:
    """In any order, before a run and after it."""
    task = record_after() if is_new else record_after(started(), completed(7))
    task.duration = None
    task.finished_at = None
    assert (task.duration, task.finished_at) == (None, None)

    task.duration = 2.0
    assert (task.duration, task.finished_at) == (2.0, None)
    task.finished_at = START
    assert (task.duration, task.finished_at) == (2.0, START)
    task.duration = None
    assert (task.duration, task.finished_at) == (None, START)
    task.finished_at = None
    assert (task.duration, task.finished_at) == (None, None)
    task.finished_at = START
    assert (task.duration, task.finished_at) == (None, START)

    again = pickle.loads(pickle.dumps(task))
    assert (again.duration, again.finished_at) == (None, START)


def test_those_of_a_workflow_are_tasks_without_room_for_a_run() -> None:
    """100,000 definitions are small, and setting what only a record has is an error."""
    workflow = DotFlow()
    workflow.task.add(step)
    (task,) = workflow.task

    assert isinstance(task, Task)
    assert sys.getsizeof(task) < sys.getsizeof(Task(0, step))
    for name, value in {"status": TypeStatus.FAILED, "run_id": "r", "duration": 1.0, "started_at": START}.items():
        with pytest.raises(AttributeError):
            setattr(task, name, value)


def test_its_value_is_that_of_a_parameter() -> None:
    """None, and `has_value` False, before the task completed; a None that it returned is a value."""
    failed = record_after(started(), TaskFailed(0, 1, failure("no"), *at(1)))
    empty = record_after(started(), TaskCompleted(0, Context(None, task_id=0), at(1)[1]))

    assert (record_after().value, record_after().has_value) == (None, False)
    assert (failed.value, failed.has_value) == (None, False)
    assert (empty.value, empty.has_value) == (None, True)
    assert (record_after(started(), completed(1)).value, record_after(started(), completed(1)).has_value) == (
        "after",
        True,
    )


@pytest.mark.parametrize("name", ["result", "output", "storage", "return_value"])
def test_the_words_of_other_libraries_for_its_value_have_a_hint(name: str) -> None:
    """They are an AttributeError that says what to write."""
    with pytest.raises(AttributeError, match=f"'RunTask' object has no attribute '{name}': write task.value"):
        getattr(record_after(), name)
    with pytest.raises(AttributeError, match=r"'RunTask' object has no attribute 'nonsense'$"):
        _ = record_after().nonsense  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match=f"type object 'RunTask' has no attribute '{name}': write task.value"):
        getattr(type(record_after()), name)


def test_a_hint_is_no_attribute() -> None:
    """An editor doesn't offer the words of other libraries, and no program finds them."""
    assert "result" not in dir(record_after())
    assert {"value", "errors", "status"} <= set(dir(record_after()))
    assert not hasattr(record_after(), "result")
    assert not hasattr(Task, "result")


def test_a_new_one_has_done_nothing() -> None:
    """Before its first event a task is NOT_STARTED, and everything else is empty."""
    task = record_after()

    assert task.status is TypeStatus.NOT_STARTED
    assert task.current_context.storage is None
    assert task.previous_context.storage is None
    assert (task.errors, task.error, task.attempt, task.retry_count) == ([], None, 0, 0)
    assert (task.started_at, task.finished_at, task.duration) == (None, None, None)


@pytest.mark.parametrize(
    ("events", "status"),
    [
        ([started()], TypeStatus.IN_PROGRESS),
        ([started(), AttemptRepeated(0, 1, failure("a"))], TypeStatus.RETRY),
        ([started(), AttemptFailed(0, 1, failure("a"), 1.0)], TypeStatus.RETRY),
        ([started(), AttemptFailed(0, 1, failure("a"), 1.0), started(2)], TypeStatus.IN_PROGRESS),
        ([started(), completed(1)], TypeStatus.COMPLETED),
        ([started(), TaskFailed(0, 1, failure("a"), *at(1))], TypeStatus.FAILED),
        ([TaskRestored(0, RESULT, PREVIOUS)], TypeStatus.COMPLETED),
        ([started(), completed(1), TaskFailed(0, 1, failure("a"), *at(2))], TypeStatus.FAILED),
    ],
)
def test_the_status_follows_from_the_last_event(events: list[TaskEvent], status: TypeStatus) -> None:
    """NOT_STARTED -> IN_PROGRESS -> (RETRY -> IN_PROGRESS)* -> COMPLETED | FAILED."""
    assert record_after(*events).status is status


def test_every_event_has_its_status() -> None:
    """No event of a task is missing from the table."""
    assert set(STATUS_AFTER) == set(TaskEvent.__args__)


def test_the_first_attempt_starts_the_clock() -> None:
    """started_at is the beginning of the first attempt."""
    task = record_after(
        started(1, seconds=0), AttemptFailed(0, 1, failure("a"), 5.0), started(2, seconds=5), completed(7)
    )

    assert task.started_at == START
    assert task.finished_at == START + timedelta(seconds=7)
    assert task.duration == 7
    assert task.attempt == 2


def test_an_attempt_that_waited_for_its_worker_counts_from_its_run() -> None:
    """Of the first attempt, since later ones lie within the task's time."""
    task = record_after(started(1, seconds=0), AttemptRuns(0, 1, *at(3)), completed(7))
    again = record_after(started(), AttemptFailed(0, 1, failure("a"), 0.0), started(2), AttemptRuns(0, 2, *at(3)))

    assert (task.started_at, task.duration) == (START + timedelta(seconds=3), 4)
    assert (again.started_at, again.status) == (START, TypeStatus.IN_PROGRESS)


def test_the_duration_is_measured_on_the_monotonic_clock() -> None:
    """A wall clock that is set back makes no negative duration."""
    task = record_after(
        AttemptStarted(0, 1, PREVIOUS, START, 50.0), TaskCompleted(0, Context(time=START - timedelta(hours=1)), 52.5)
    )

    assert task.duration == 2.5


def test_contexts_are_the_very_objects() -> None:
    """The argument and the result of the step are kept as the same objects."""
    task = record_after(started(), TaskCompleted(0, RESULT, 1.0))

    assert task.previous_context is PREVIOUS
    assert task.current_context is RESULT


def test_every_failed_attempt_is_an_error_the_last_one_too() -> None:
    """errors has each attempt in order; retry_count counts the repeats."""
    task = record_after(
        started(1),
        AttemptFailed(0, 1, failure("first"), 1.0),
        started(2),
        AttemptFailed(0, 2, failure("second"), 1.0),
        started(3),
        TaskFailed(0, 3, failure("third"), *at(9)),
    )

    assert [(error.attempt, error.exception, error.message) for error in task.errors] == [
        (1, "ValueError", "first"),
        (2, "ValueError", "second"),
        (3, "ValueError", "third"),
    ]
    assert task.error is task.errors[-1]
    assert task.retry_count == 2
    assert task.current_context.storage is None


def test_a_completed_task_keeps_the_errors_on_its_way() -> None:
    """Its three attempts can be seen afterwards."""
    task = record_after(started(1), AttemptFailed(0, 1, failure("a"), 0.0), started(2), completed(1))

    assert task.status is TypeStatus.COMPLETED
    assert [error.message for error in task.errors] == ["a"]
    assert task.retry_count == 1


def test_a_repeated_action_of_a_class_counts_as_a_repeat() -> None:
    """Failures inside the attempt are recorded too, under its number."""
    task = record_after(started(1), AttemptRepeated(0, 1, failure("inner")), completed(1))

    assert [(error.attempt, error.message) for error in task.errors] == [(1, "inner")]
    assert task.retry_count == 1


def test_a_restored_task_has_its_value_and_no_times() -> None:
    """It did not run in this run, so there is nothing to measure."""
    task = record_after(TaskRestored(0, RESULT, PREVIOUS))

    assert (task.current_context, task.previous_context) == (RESULT, PREVIOUS)
    assert (task.started_at, task.finished_at, task.duration, task.attempt) == (None, None, None, 0)


def test_fresh_records_share_nothing() -> None:
    """Each run has records of its own, apart from the definition and other runs."""
    definition = Task(3, step, print, Context(1), "g", "w")
    one, other = definition._new_record("w", "run-1"), definition._new_record("w", "run-2")

    one._apply(AttemptStarted(3, 1, PREVIOUS, *at(0)))
    one._apply(TaskFailed(3, 1, failure("a"), *at(1)))

    for untouched in (definition, other):
        assert untouched.status is TypeStatus.NOT_STARTED
        assert untouched.errors == []
    assert (other.task_id, other.step, other.callback, other.group_name) == (3, step, print, "g")
    assert other.initial_context is not definition.initial_context
    assert other.initial_context.storage is definition.initial_context.storage
    assert (definition.run_id, one.run_id, other.run_id) == (None, "run-1", "run-2")


def test_a_snapshot_stays_as_it_was() -> None:
    """It does not change with the task."""
    task = record_after(started(), AttemptFailed(0, 1, failure("a"), 1.0))

    then = task._snapshot()
    task._apply(started(2))
    task._apply(TaskFailed(0, 2, failure("b"), *at(1)))

    assert (then.status, then.attempt, then.retry_count) == (TypeStatus.RETRY, 1, 1)
    assert [error.message for error in then.errors] == ["a"]
    assert then.finished_at is None
    assert (then.task_id, then.name, then.workflow_id, then.run_id) == (0, "step", "w", "r")


def test_a_snapshot_without_errors_stays_without() -> None:
    """It has no later errors, even if the empty list was accessed before."""
    task = record_after(started())
    assert task.errors == []

    then = task._snapshot()
    task._apply(TaskFailed(0, 1, failure("a"), *at(1)))

    assert then.errors == []
    assert len(task.errors) == 1


def test_name_is_the_steps() -> None:
    """A task has the name of its step."""
    assert record_after().name == "step"
    assert repr(record_after(started())) == "<task 0 step: In progress>"


def test_takes_no_attributes_of_its_own() -> None:
    """A misspelt attribute is an error, not a silent new one."""
    with pytest.raises(AttributeError):
        record_after().staus = 1


def test_a_record_survives_pickling() -> None:
    """A notification or a history may send it to another process."""
    task = record_after(started(), TaskFailed(0, 1, failure("a"), *at(1)))

    loaded = pickle.loads(pickle.dumps(task))

    assert (loaded.status, loaded.duration, loaded.errors[0].message) == (TypeStatus.FAILED, 1, "a")


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (TypeStatus.NOT_STARTED, "Not started"),
        (TypeStatus.IN_PROGRESS, "In progress"),
        (TypeStatus.COMPLETED, "Completed"),
        (TypeStatus.PAUSED, "Paused"),
        (TypeStatus.RETRY, "Retry"),
        (TypeStatus.FAILED, "Failed"),
    ],
)
def test_statuses_compare_and_print_as_their_word(status: TypeStatus, word: str) -> None:
    """A program may compare it with the text, and print it."""
    assert status == word
    assert str(status) == f"{status}" == word
    assert TypeStatus(word) is status
