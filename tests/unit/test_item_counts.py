"""The counts of a mapped task's items, and their text."""

from datetime import UTC, datetime
from typing import Any

import pytest

from dotflow import Context, DotFlow, Task, action
from dotflow.core.events import (
    AttemptFailed,
    AttemptStarted,
    MapOpened,
    TaskCompleted,
    TaskFailed,
    TaskRestored,
    TaskSkipped,
)
from dotflow.core.failure import Failure
from dotflow.core.item_counts import ItemCounts, item_counts
from dotflow.graph.linked_task import NO_SCOPE, Item

AT = datetime(2026, 3, 1, tzinfo=UTC)
NO = Failure("ValueError", "no")
STARTED = AttemptStarted(0, 1, Context(), AT, 1.0)


@action
def fetch(url: str | int) -> None: ...


def mapped(*events: list[Any]) -> Task:
    """Returns a mapped task, with an item for each list of events."""
    workflow = DotFlow(workflow_id="w")
    workflow.task.add(fetch, each=list(range(len(events))))
    task: Any = workflow.task._tasks[0]._new_record("w", "r")
    task._open([Item(task, index, index, str(index), NO_SCOPE, str(index)) for index in range(len(events))])
    task._apply(MapOpened(0, len(events), AT, 1.0))
    for item, given in zip(task.items, events, strict=True):
        for event in given:
            item._apply(event)
    return task  # type: ignore[no-any-return]


def test_each_item_is_counted_by_its_status() -> None:
    """One that was restored has completed, too; one that waits or runs is only in the total."""
    task = mapped(
        [],
        [STARTED],
        [STARTED, TaskCompleted(0, Context(), 2.0)],
        [TaskRestored(0, Context(), Context())],
        [TaskSkipped(0, "it needs 'a[4]', which failed")],
        [STARTED, AttemptFailed(0, 1, NO, 0.0), STARTED, AttemptFailed(0, 2, NO, 0.0)],
        [STARTED, AttemptFailed(0, 1, NO, 0.0), STARTED, TaskFailed(0, 2, NO, AT, 3.0)],
    )

    counts = item_counts(task)

    assert counts == ItemCounts(total=7, completed=2, failed=1, skipped=1, restored=1, retries=3)


def test_a_task_without_items_has_no_counts() -> None:
    """One that is not mapped, and a map that has not opened."""
    workflow = DotFlow(workflow_id="w")
    workflow.task.add(fetch, each=["a"]).add(action(lambda: 1))

    assert [item_counts(task) for task in workflow.task._tasks] == [None, None]


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        (ItemCounts(0, 0), "0 items"),
        (ItemCounts(1, 0), "1 item"),
        (ItemCounts(300, 0, retries=1), "300 items, 1 retry"),
        (ItemCounts(300, 300), "300 of 300 items"),
        (ItemCounts(300, 0, failed=300), "0 of 300 items, 300 failed"),
        (
            ItemCounts(300, 280, 3, 5, 12, 20),
            "280 of 300 items, 3 failed, 5 skipped, 12 restored, 20 retries",
        ),
    ],
)
def test_their_text(counts: ItemCounts, text: str) -> None:
    """It has what is not zero."""
    assert str(counts) == text
