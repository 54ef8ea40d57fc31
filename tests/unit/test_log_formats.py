"""The records of the log, in both formats."""

import json
from datetime import UTC, datetime
from typing import Any, NoReturn

import pytest

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
from dotflow.core.task import RunTask
from dotflow.core.text import escape_controls
from dotflow.graph.linked_task import MapContext
from dotflow.providers.logs.formats import FIELDS, as_json, json_head, simple, simple_head

from .test_item_counts import mapped

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
FAILURE = Failure("ValueError", "no\nnever", "Traceback (most recent call last):\nValueError: no\nnever\n")
STARTED = AttemptStarted(3, 1, Context(), AT, 10.0)
COMPLETED = TaskCompleted(3, Context(1), 12.5)
RETRIED = AttemptFailed(3, 1, FAILURE, 0.0)
FAILED = TaskFailed(3, 2, FAILURE, AT, 11.0)


@action
def extract() -> None: ...


def refuse(name: str) -> NoReturn:
    raise ValueError(name)


def strictly(line: str) -> Any:
    """Returns the object of a line, as a strict JSON reader sees it."""
    assert line.isascii()
    assert line.endswith("\n")
    assert line.count("\n") == 1
    fields = json.loads(line, parse_constant=refuse)
    json.dumps(fields, ensure_ascii=False).encode()  # a lone surrogate can't be encoded
    return fields


def task_after(*events: Any, workflow_id: str = "nightly-7") -> Task:
    task = RunTask(3, extract, workflow_id=workflow_id, run_id="run-1", group_name="eu")
    for event in events:
        task._apply(event)
    return task


ERROR = {"exception": "ValueError", "message": "no\nnever", "traceback": FAILURE.traceback}


class TestJson:
    @pytest.mark.parametrize(
        ("events", "status", "attempt", "duration", "error"),
        [
            ([STARTED], "In progress", 1, None, None),
            ([STARTED, COMPLETED], "Completed", 1, 2.5, None),
            ([STARTED, RETRIED], "Retry", 1, None, ERROR),
            ([STARTED, RETRIED, STARTED._replace(attempt=2)], "In progress", 2, None, None),
            ([STARTED, RETRIED, STARTED._replace(attempt=2), FAILED], "Failed", 2, 1.0, ERROR),
            ([TaskRestored(3, Context(1), Context())], "Completed", 0, None, None),
        ],
    )
    def test_every_field_of_a_task(
        self, events: list[Any], status: str, attempt: int, duration: float | None, error: object
    ) -> None:
        """Workflow, run, group, task and step; status, attempt, duration and error."""
        fields = strictly(as_json("INFO", task_after(*events), ""))

        assert tuple(fields) == FIELDS
        assert datetime.fromisoformat(fields.pop("time")).tzinfo
        assert fields == {
            "level": "INFO",
            "workflow": "nightly-7",
            "name": None,
            "run": "run-1",
            "group": "eu",
            "task": 3,
            "step": "extract",
            "status": status,
            "attempt": attempt,
            "duration": duration,
            "item": None,
            "items": None,
            "reason": "from its checkpoint" if attempt == 0 else None,
            "error": error,
            "message": None,
        }

    def test_a_report_has_the_same_keys(self) -> None:
        """A record about no task has a message, and null for the keys of tasks."""
        fields = strictly(as_json("WARNING", None, "two\nlines"))

        assert tuple(fields) == FIELDS
        assert {name for name, value in fields.items() if value is not None} == {"time", "level", "message"}
        assert fields["message"] == "two\nlines"

    @pytest.mark.parametrize(
        "text", ['"', "\\", "\ud800", "a\udfff\\ud800", "😀", "\x00\x1b[31m\u2028", "{}%s", "ä" * 9]
    )
    def test_any_text_is_strict_json(self, text: str) -> None:
        """Quotes, control characters and emoji come back; a lone surrogate comes back escaped."""
        readable = text.encode("utf-8", "backslashreplace").decode()
        failed = TaskFailed(3, 1, Failure("E", text, text), AT, 11.0)

        task = strictly(as_json("ERROR", task_after(STARTED, failed, workflow_id=text), ""))
        report = strictly(as_json("WARNING", None, text))

        assert (task["workflow"], report["message"]) == (readable, readable)
        assert task["error"] == {"exception": "E", "message": readable, "traceback": readable}

    @pytest.mark.parametrize("tick", [float("inf"), float("nan")])
    def test_a_duration_is_a_number_or_null(self, tick: float) -> None:
        """NaN and Infinity are no JSON."""
        task = task_after(STARTED, COMPLETED._replace(tick=tick))

        assert strictly(as_json("INFO", task, ""))["duration"] is None

    def test_a_runs_head_names_the_workflow(self) -> None:
        """It is made once for a run, and adds the workflow's name to every record."""
        fields = strictly(as_json("INFO", task_after(STARTED), "", json_head("nightly-7", "run-1", 'The "rows"')))

        assert tuple(fields) == FIELDS
        assert (fields["workflow"], fields["name"], fields["run"]) == ("nightly-7", 'The "rows"', "run-1")


DONE = [STARTED, COMPLETED]
RESTORED = [TaskRestored(3, Context(1), Context())]
LOST = [STARTED, RETRIED, STARTED._replace(attempt=2), FAILED]
ENDED = MapEnded(0, MapContext([1]), None, AT, 3.5)
NO_ITEMS = Failure("ItemsFailed", "1 of 3 items failed: ...")


def skipped(reason: str) -> Task:
    workflow = DotFlow(workflow_id="nightly-7")
    workflow.task.add(action(lambda: 1), name="good").add(extract, when="good")
    task = workflow.task._tasks[1]._new_record("nightly-7", "run-1")
    task._apply(TaskSkipped(1, reason))
    return task


PAUSED = TaskPaused(3, "the run was\npaused", AT, 3.5)


def paused(task: Task) -> Task:
    task._apply(PAUSED)
    return task


def ended(task: Task, failure: Failure | None = None) -> Task:
    task._apply(ENDED._replace(failure=failure))
    return task


class TestMapsAndSkips:
    @pytest.mark.parametrize(
        ("task", "line"),
        [
            (mapped([], [], []), "In progress (3 items)"),
            (mapped(RESTORED, DONE, []), "In progress (2 of 3 items, 1 restored)"),
            (ended(mapped(DONE, DONE)), "Completed in 2.500 s (2 of 2 items)"),
            (ended(mapped()), "Completed in 2.500 s (0 items)"),
            (paused(mapped(DONE, [STARTED, RETRIED, PAUSED], [])), "Paused (1 of 3 items, 1 retry)"),
            (ended(mapped(RESTORED, RESTORED)), "Completed (2 of 2 items, 2 restored)"),
            (
                ended(mapped(DONE, LOST, DONE), NO_ITEMS),
                "Failed in 2.500 s (2 of 3 items, 1 failed, 1 retry): ItemsFailed: 1 of 3 items failed: ...",
            ),
        ],
        ids=lambda value: value.partition(":")[0] if isinstance(value, str) else "",
    )
    def test_a_map_has_counts(self, task: Task, line: str) -> None:
        """In one line, however many items there are."""
        assert simple("INFO", task, "").endswith(f" w run r task 0 fetch: {line}\n")

    def test_a_map_has_counts_in_json(self) -> None:
        """Of those that it has now, each of them a number."""
        fields = strictly(as_json("ERROR", ended(mapped(RESTORED, LOST, DONE), NO_ITEMS), ""))

        assert tuple(fields) == FIELDS
        assert fields["items"] == {
            "count": 3, "completed": 2, "failed": 1, "skipped": 0, "restored": 1, "retries": 1, "rounds": 0,
            "waiting": 0,
        }  # fmt: skip
        assert (fields["item"], fields["attempt"], fields["duration"]) == (None, 1, 2.5)
        assert fields["error"]["exception"] == "ItemsFailed"

    def test_a_map_that_was_restored_did_not_run(self) -> None:
        """As a task that was restored, it has neither attempt nor duration."""
        fields = strictly(as_json("INFO", ended(mapped(RESTORED, RESTORED)), ""))

        assert (fields["status"], fields["attempt"], fields["duration"]) == ("Completed", 0, None)

    def test_an_item_has_its_index(self) -> None:
        """In text behind the name of its task, in JSON as a field beside it."""
        item = mapped(DONE, LOST).items[1]

        assert " task 0 fetch[1]: Failed (attempt 2): ValueError: no\n" in simple("ERROR", item, "")
        fields = strictly(as_json("ERROR", item, ""))
        assert (fields["step"], fields["item"], fields["items"]) == ("fetch", 1, None)
        assert fields["error"] == ERROR

    @pytest.mark.parametrize("reason", ["good was False", "good was '\x1b[2J\n: x'"])
    def test_a_skipped_task_has_its_reason(self, reason: str) -> None:
        """On its one line, where it can't control the terminal."""
        line = simple("INFO", skipped(reason), "")

        assert line.endswith(f" task 1 extract: Skipped: {escape_controls(reason)}\n")
        assert line.count("\n") == 1
        fields = strictly(as_json("INFO", skipped(reason), ""))
        assert (fields["status"], fields["reason"], fields["error"]) == ("Skipped", reason, None)

    def test_a_paused_task_has_its_reason(self) -> None:
        """In place of the error of its last attempt."""
        task = task_after(STARTED, RETRIED, PAUSED)

        assert simple("INFO", task, "").endswith(": Paused: the run was\\npaused\n")
        fields = strictly(as_json("INFO", task, ""))
        assert (fields["status"], fields["reason"], fields["error"]) == ("Paused", "the run was\npaused", None)


class TestSimple:
    @pytest.mark.parametrize(
        ("workflow_id", "name", "expected"),
        [
            ("nightly-of-prices-1", None, "nightly-of-prices-1 run 0f0c1a52"),
            ("nightly-of-prices-2", "Prices", "nightly-of-prices-2 (Prices) run 0f0c1a52"),
            ("nightly", "nightly", "nightly run 0f0c1a52"),
            ("7f3a9c12-0000-4000-8000-0123456789ab", "shop", "shop run 0f0c1a52"),
            ("7f3a9c12-0000-4000-8000-0123456789ab", None, "run 0f0c1a52"),
            ("7f3a9c12-0000-4000-8000-0123456789ab@day=3", "shop", "shop@day=3 run 0f0c1a52"),
            ("7f3a9c12-0000-4000-8000-0123456789ab@day=3", None, "@day=3 run 0f0c1a52"),
            ("nightly@day=3", "shop", "nightly@day=3 (shop) run 0f0c1a52"),
            ("a\nb", "\x1b[31m", r"a\nb (\x1b[31m) run 0f0c1a52"),
        ],
    )
    def test_a_head_has_the_workflow_and_the_run(self, workflow_id: str, name: str | None, expected: str) -> None:
        """It has the whole id, another name, and the first characters of the run's id, but no generated id."""
        head = simple_head(workflow_id, "0f0c1a52-bbbb-cccc", name)

        assert head == expected
        assert f"{expected} task 3 extract [eu]: In progress\n" in simple("INFO", task_after(STARTED), "", head)

    def test_the_default_group_is_not_named(self) -> None:
        """Most workflows have no other."""
        task = RunTask(3, extract, workflow_id="w")

        assert simple("INFO", task, "").endswith(" w task 3 extract: Not started\n")

    def test_further_lines_of_a_record_are_indented(self) -> None:
        """Only its first line begins at the left, so its end is visible for any message."""
        failed = simple("ERROR", task_after(STARTED, FAILED), "").splitlines()
        report = simple("WARNING", None, "it raised:\n\nTraceback\n").splitlines()

        assert failed[0].endswith("ERROR   nightly-7 run run-1 task 3 extract [eu]: Failed (attempt 2): ValueError: no")
        assert failed[1:] == [
            "    never",
            "    Traceback (most recent call last):",
            "    ValueError: no",
            "    never",
        ]
        assert report[0].endswith("WARNING it raised:")
        assert report[1:] == ["    ", "    Traceback"]

    def test_no_text_looks_like_a_record(self) -> None:
        """An id or a message with line ends makes no further line at the left."""
        evil = "a\n2026"
        failed = TaskFailed(3, 1, Failure("E\n2026", "x\r\n2026-01-01 00:00:00.000 INFO    fine", ""), AT, 11.0)

        record = simple("ERROR", task_after(STARTED, failed, workflow_id=evil), "")

        first, second = record.splitlines()
        assert first.endswith(r" a\n2026 run run-1 task 3 extract [eu]: Failed (attempt 1): E\n2026: x\r")
        assert second == "    2026-01-01 00:00:00.000 INFO    fine"


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("plain, ä, 👩‍👧, a\ttab and no-break\xa0space", "plain, ä, 👩‍👧, a\ttab and no-break\xa0space"),
        ("\x1b[2J\x07", r"\x1b[2J\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("a\u202eb\u2028", r"a\u202eb\u2028"),
        ("\ud800", r"\ud800"),
    ],
)
def test_control_characters_are_escaped(text: str, safe: str) -> None:
    """Characters that move the cursor, colour or turn text are escaped; readable text stays as it is."""
    assert escape_controls(text) == safe
