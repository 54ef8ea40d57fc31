"""Starting workflows with links in each mode, for tests of the graph."""

from typing import Any

from dotflow import DotFlow
from dotflow.core.types.status import TypeStatus

MODES = ["sequential", "background", "parallel", "groups"]
COMPLETED, FAILED, SKIPPED, NOT_STARTED = (
    TypeStatus.COMPLETED,
    TypeStatus.FAILED,
    TypeStatus.SKIPPED,
    TypeStatus.NOT_STARTED,
)


def start(workflow: DotFlow, mode: str, **arguments: Any) -> Any:
    """Starts in one of MODES and waits for the end."""
    run = workflow.start(mode="sequential" if mode == "groups" else mode, **arguments)
    run.wait()
    return run


def group(mode: str, number: int) -> str:
    """Two groups where the mode asks for groups, one elsewhere."""
    return f"group {number % 2}" if mode == "groups" else "default"


def statuses(workflow: DotFlow) -> list[TypeStatus]:
    return [task.status for task in workflow.result_task()]
