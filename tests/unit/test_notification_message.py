"""The message about a task: its parts, and how it is truncated."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from dotflow import Context, DotFlow, Task, action
from dotflow.core.events import (
    AttemptFailed,
    AttemptStarted,
    MapEnded,
    TaskCompleted,
    TaskFailed,
    TaskPaused,
    TaskRestored,
    TaskSkipped,
)
from dotflow.core.failure import Failure
from dotflow.core.text import escape_surrogates
from dotflow.core.types.status import TypeStatus
from dotflow.providers.notifiers.message import ELLIPSIS, ICONS, details, headline, truncate

from .test_item_counts import mapped

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@action
def load() -> None: ...


@action(retry=3)
def fetch() -> None: ...


def boom() -> None:
    raise ValueError("no such column: <price> & more")


def failure() -> Failure:
    try:
        boom()
    except ValueError as error:
        return Failure.of(error)
    raise AssertionError


def task_after(*events: object, step: object = load, group: str = "default") -> Task:
    task = Task(3, step, group_name=group)._new_record("nightly", "r")  # type: ignore[arg-type]
    for event in events:
        task._apply(event)  # type: ignore[arg-type]
    return task


BEGUN = AttemptStarted(3, 1, Context(), NOW, 100.0)


def test_the_headline_has_the_status_and_the_task() -> None:
    """A locked phone shows only this line."""
    assert headline(task_after(BEGUN)) == "▶️ In progress: task 3 load"
    assert headline(task_after(BEGUN, TaskFailed(3, 1, failure(), NOW, 112.0))) == "❌ Failed: task 3 load"


def test_a_task_that_has_begun() -> None:
    """It has the workflow, and the attempt if there may be several."""
    assert details(task_after(BEGUN)) == "workflow nightly"
    assert details(task_after(BEGUN, step=fetch, group="eu")) == "workflow nightly, group eu\nattempt 1 of 3"


def test_a_task_that_has_ended() -> None:
    """How long it took."""
    done = TaskCompleted(3, Context(1, time=NOW), 112.34)

    assert details(task_after(BEGUN, done)) == "workflow nightly\ntook 12.3 s"


def test_a_task_that_was_restored() -> None:
    """It did not run, which the message shows, and where its value is from."""
    restored = TaskRestored(3, Context(), Context(1))

    assert details(task_after(restored)) == "workflow nightly\nrestored from its checkpoint"
    workflow = DotFlow(workflow_id="nightly")
    workflow.task.add(action(cache=True)(load.function))
    cached = workflow.task._tasks[0]._new_record("nightly", "r")
    cached._apply(restored._replace(task_id=0, source="cache"))
    assert details(cached) == "workflow nightly\nrestored from the cache"


def test_a_failure_has_its_error_and_its_place() -> None:
    """Type, file, line, function and code first; the message, which may be long, comes last."""
    text = details(task_after(BEGUN, TaskFailed(3, 1, failure(), NOW, 100.5)))

    where = f"tests/unit/test_notification_message.py:{boom.__code__.co_firstlineno + 1} in boom"
    code = 'raise ValueError("no such column: <price> & more")'
    assert text == f"workflow nightly\ntook 0.50 s\nValueError at {where}: {code}\nno such column: <price> & more"


def test_a_failed_attempt_that_is_repeated() -> None:
    """It has the attempt, the number of attempts, and the error."""
    text = details(task_after(BEGUN, AttemptFailed(3, 1, Failure("OSError", ""), 1.0), step=fetch))

    assert text == "workflow nightly\nattempt 1 of 3\nOSError"


def test_a_later_attempt_has_no_old_error() -> None:
    """The error of an earlier attempt was in an earlier message."""
    again = AttemptStarted(3, 2, Context(), NOW, 101.0)
    text = details(task_after(BEGUN, AttemptFailed(3, 1, failure(), 1.0), again, step=fetch))

    assert text == "workflow nightly\nattempt 2 of 3"


def test_a_skipped_task_has_its_reason() -> None:
    """It did not run, so there is no attempt and no duration."""
    workflow = DotFlow(workflow_id="nightly")
    workflow.task.add(load, name="good").add(fetch, when="good")
    task = workflow.task._tasks[1]._new_record("nightly", "r")
    task._apply(TaskSkipped(1, "good was False"))

    assert headline(task) == "⏭️ Skipped: task 1 fetch"
    assert details(task) == "workflow nightly\ngood was False"


def test_a_paused_task_has_its_reason() -> None:
    """And its attempt, but no duration, and not the error of that attempt."""
    paused = TaskPaused(3, "the run was paused", NOW, 102.0)
    task = task_after(BEGUN, AttemptFailed(3, 1, failure(), 1.0), paused, step=fetch)

    assert headline(task) == "⏸️ Paused: task 3 fetch"
    assert details(task) == "workflow nightly\nthe run was paused, attempt 1 of 3"


def test_a_map_has_counts() -> None:
    """At its beginning and at its end; the attempts are its items'."""
    restored = [TaskRestored(0, Context(1), Context())]
    failed = [AttemptStarted(0, 1, Context(), NOW, 100.0), TaskFailed(0, 1, failure(), NOW, 101.0)]
    task = mapped(restored, failed)
    error = Failure("ItemsFailed", "1 of 2 items failed: [1] 1 ValueError")

    assert details(mapped(restored, [])) == "workflow w\n1 of 2 items, 1 restored"
    task._apply(MapEnded(0, Context(), error, NOW, 13.3))
    assert details(task) == (
        "workflow w\n1 of 2 items, 1 failed, 1 restored, took 12.3 s\n"
        "ItemsFailed\n1 of 2 items failed: [1] 1 ValueError"
    )


def test_a_map_that_was_restored() -> None:
    """Its counts say so."""
    task = mapped([TaskRestored(0, Context(1), Context())])
    task._apply(MapEnded(0, Context(), None, NOW, 13.3))

    assert details(task) == "workflow w\n1 of 1 item, 1 restored"


def test_every_status_has_an_icon() -> None:
    """A new one, too."""
    assert set(ICONS) == set(TypeStatus)


def units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


ANY_TEXT = st.text(st.characters(exclude_categories=()) | st.sampled_from("\ud83d\ude00😀é<&"), max_size=60)


@given(ANY_TEXT, st.integers(2, 40))
def test_a_cut_text_fits_and_is_whole_characters(text: str, most: int) -> None:
    """It is never too long, never ends in half a character, and is a prefix of the text."""
    cut = truncate(text, most)

    assert units(cut) <= most
    whole = escape_surrogates(text)
    assert cut == whole or (cut.endswith(ELLIPSIS) and whole.startswith(cut[:-1]))
    assert units(cut) >= min(most - 1, units(whole))


@given(ANY_TEXT)
def test_a_text_that_fits_is_not_cut(text: str) -> None:
    """To the last unit."""
    whole = escape_surrogates(text)
    assert truncate(text, max(2, units(whole))) == whole


def test_a_cut_does_not_fall_into_a_pair() -> None:
    """If there is room for half a character only, the character is left out."""
    assert truncate("ab😀😀", 5) == f"ab😀{ELLIPSIS}"
    assert truncate("ab😀😀", 4) == f"ab{ELLIPSIS}"
