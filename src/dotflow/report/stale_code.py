"""Restored values whose code has changed since: why a run fails again though one of its steps was mended."""

from collections.abc import Sequence
from typing import Final

from dotflow.abc.archive import Archive
from dotflow.code.fingerprint import can_compare
from dotflow.core.text import GENERATED
from dotflow.core.types.attempt_state import TypeAttemptState
from dotflow.core.types.run_state import TypeRunState
from dotflow.records.record import RunRecord, TaskRecord

EARLIER: Final = 20  # runs among which the makers of restored values are looked for


def restored_with_other_code(archive: Archive, run: RunRecord) -> list[str]:
    """Returns the tasks that a run without success has restored, and whose code has changed since.

    The history does not know of values that were made before its earlier runs.
    """
    restored = {task.name: task.code for task in run.steps if _has(task, TypeAttemptState.RESTORED) and task.code}
    if run.is_open or run.state is TypeRunState.COMPLETED or not restored or GENERATED.fullmatch(run.workflow_id):
        return []
    made: dict[str, str] = {}
    for earlier in archive.runs(workflow=run.workflow_id, before=run.began, limit=EARLIER):
        if earlier.workflow_id != run.workflow_id or restored.keys() <= made.keys():
            continue
        for task in archive.load(earlier.run_id).steps:
            if _has(task, TypeAttemptState.COMPLETED):
                made.setdefault(task.name, task.code)
    known = [(name, code, made[name]) for name, code in restored.items() if made.get(name)]
    return [name for name, code, before in known if code != before and can_compare(code, before)]


def _has(task: TaskRecord, state: TypeAttemptState) -> bool:
    """Returns whether a task, or an item of it, has this state."""
    return state in task.counts if task.count is not None else task.state is state


def changed_text(names: Sequence[str]) -> str:
    """Returns that the code of tasks has changed, and the option that runs them again: for people."""
    is_one = len(names) == 1
    listed = ", ".join(repr(name) for name in names)
    return f"The code of {listed} has changed since: --resume-changed runs {'it' if is_one else 'them'} again."
