"""WorkflowPlan: the text of a plan."""

from typing import Any

import pytest

from dotflow import WorkflowPlan
from dotflow.core.types.decision import TypeDecision
from dotflow.graph.workflow_plan import PlannedTask


def planned(task_id: int, name: str, decision: str, reason: str = "", **items: Any) -> PlannedTask:
    return PlannedTask(
        task_id=task_id,
        name=name,
        step=f"jobs:{name}",
        needs=[],
        decision=TypeDecision(decision),
        reason=reason,
        **items,
    )


def test_a_plan_is_a_table_with_counts() -> None:
    """Of `str` and of `dotflow plan`. Removed tasks have a line of their own."""
    plan = WorkflowPlan(
        workflow_id="nightly",
        tasks=[
            planned(0, "urls", "restore", "finished 2026-11-25 02:13:07"),
            planned(1, "fetch", "run", items=300, items_done=297, items_cached=7),
            planned(2, "summary", "run", "after fetch"),
            planned(3, "train", "cached", items=1, items_done=1),
            planned(4, "deploy", "open", "when good_enough"),
            planned(5, "tell", "skip", "fast was False", items=3),
        ],
        removed=["parse"],
    )

    assert str(plan).splitlines() == [
        "0 urls     restore        finished 2026-11-25 02:13:07",
        "1 fetch    run 3 of 300   290 restored, 7 cached",
        "2 summary  run            after fetch",
        "3 train    cached 1 item",
        "4 deploy   open           when good_enough",
        "5 tell     skip           fast was False",
        "1 restored, 2 run, 1 cached, 1 open, 1 skipped.",
        "In the storage and no longer in the workflow: parse",
    ]
    assert plan.count("run") == 2


@pytest.mark.parametrize(("count", "end"), [(0, "0 skipped."), (10, "t8, t9"), (300, "t8, t9 and 290 more")])
def test_many_removed_tasks_are_counted(count: int, end: str) -> None:
    """The text has ten; the model has all."""
    plan = WorkflowPlan(workflow_id="w", tasks=[], removed=[f"t{number}" for number in range(count)])

    assert str(plan).endswith(end)
