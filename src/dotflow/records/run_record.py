"""A run of this process as a record, made of its tasks: what a history would know, as far as they do."""

import contextlib
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final

from dotflow.core.events import RunEnded, RunStarted
from dotflow.core.failure import TaskError
from dotflow.core.files import FileRecord
from dotflow.core.item_counts import levels_of, rounds_of
from dotflow.core.masks import Masks
from dotflow.core.task import Task
from dotflow.core.text import error_line
from dotflow.core.types.attempt_state import TypeAttemptState
from dotflow.core.types.run_state import TypeRunState
from dotflow.core.types.status import TypeStatus
from dotflow.graph.linked_task import Item
from dotflow.graph.plan import Plan
from dotflow.records.environment import describe_environment, process_name
from dotflow.records.preview import MAX_INPUT, preview
from dotflow.records.record import AttemptRecord, ErrorRecord, RunRecord, TaskRecord

#: What the record lacks.
NO_HISTORY: Final = (
    "This run had no history, which keeps what the steps print and the times of each attempt: "
    "Config(history=HistorySQLite())."
)
NO_ARCHIVE: Final = "What the steps printed and the times of each attempt are missing: the history can't be read."

RESTORED: Final = {"cache": TypeAttemptState.CACHED, "checkpoint": TypeAttemptState.RESTORED}


def run_record(
    started: RunStarted,
    ended: RunEnded | None,
    state: TypeRunState,
    tasks: Sequence[Task],
    plan: Plan,
    note: str,
) -> RunRecord:
    """Returns a run as a record.

    Of several attempts of a task, only the errors are known: the last attempt has the times of all of them.

    Args:
        started: Its first event.
        ended: Its last one; None while it runs.
        state: Its state.
        tasks: Its tasks.
        plan: Their dependencies and lanes.
        note: What the record lacks, and why.
    """
    completed = [task for task in tasks if task.status is TypeStatus.COMPLETED]
    restored = sum(task.restored_from is not None for task in completed)
    failed = [task for task in tasks if task.status is TypeStatus.FAILED]
    return RunRecord(
        run_id=started.run_id,
        workflow_id=started.workflow_id,
        name=started.name,
        state=state,
        reason="" if ended is None else started.masks.mask(ended.reason),
        mode=started.mode,
        resumed=started.resumed,
        trigger=started.trigger,
        began=started.at,
        ended=None if ended is None else ended.at,
        tasks=len(tasks),
        completed=len(completed),
        failed=len(failed),
        restored=restored,
        skipped=sum(task.status is TypeStatus.SKIPPED for task in tasks),
        error=_first_error(failed),
        parent=started.parent,
        process=process_name(),
        storage=started.storage,
        files=FileRecord.from_text(FileRecord(taken=started.files).as_text(started.masks)),
        environment=describe_environment(started.masks),
        steps=[_task_record(task, plan, started.masks) for task in tasks],
        notes=[(started.at, note)],
    )


def _first_error(failed: Sequence[Task]) -> str:
    ended = [
        (task.finished_at, task.task_id, task.name, task.error) for task in failed if task.finished_at and task.error
    ]
    if not ended:
        return ""
    _, _, name, error = min(ended)
    return error_line(name, error.exception, error.message)


def _task_record(task: Task, plan: Plan, masks: Masks) -> TaskRecord:
    items = {
        number: [attempt._replace(round=path[0], nth=path[1]) for attempt in _attempts(item, masks)]
        for number, item in enumerate(task.items)
        for path in (_path_of(item),)
    }
    has_count = task.is_mapped and (task.attempt or task.items)
    return TaskRecord(
        task_id=task.task_id,
        name=task.name,
        group=task.group_name,
        lane=plan.lanes[task.task_id],
        identity=task.step.identity,
        needs=plan.needs_of(task.task_id),
        levels=levels_of(task),
        policy=task.step.policy.changed(rounds_of(task)),
        attempts=list(_attempts(task, masks)),
        items={number: attempts for number, attempts in items.items() if attempts},
        count=len(task.items) if has_count else None,
    )


def _path_of(item: Task) -> tuple[int | None, int | None]:
    """Returns the round of an item of a map in rounds, or the index of the item around it, and its own there."""
    path = item.path if isinstance(item, Item) and item.task_links.is_map_inside else ()
    return (path[0], path[-1]) if path else (None, None)


def _attempts(task: Task, masks: Masks) -> Iterator[AttemptRecord]:
    source = task.restored_from
    if task.status is TypeStatus.SKIPPED:
        yield AttemptRecord(task.item, 0, TypeAttemptState.SKIPPED, glimpse=task.reason)
    elif source is not None:
        value = _preview(task, masks)
        end = AttemptRecord(task.item, 0, RESTORED[source], began=task.current_context.time, glimpse=value)
        yield end._replace(files_text=_files_text(task, masks))
    elif task.status is not TypeStatus.NOT_STARTED:
        errors = {
            number: list(map(_error, group)) for number, group in groupby(task.errors, lambda error: error.attempt)
        }
        last = max(task.attempt, 1)
        for number in range(1, last):
            yield AttemptRecord(task.item, number, TypeAttemptState.RETRY, errors=errors.get(number, ()))
        duration = task.duration if task.started_at else None
        is_running = task.status is TypeStatus.IN_PROGRESS
        state = TypeAttemptState.RUNNING if is_running else TypeAttemptState(task.status)
        end = AttemptRecord(task.item, last, state, task.started_at, duration, input=_input(task, masks))
        value = _preview(task, masks) if task.status is TypeStatus.COMPLETED else task.reason
        yield end._replace(glimpse=value, errors=errors.get(last, ()), files_text=_files_text(task, masks))


def _error(error: TaskError) -> ErrorRecord:
    return ErrorRecord(error.exception, error.message, error.traceback, refusal=error.failure.refusal)


def _input(task: Task, masks: Masks) -> str:
    with contextlib.suppress(Exception):  # a step may have changed the value that the entry is a part of
        return preview(task.input, masks, MAX_INPUT) if isinstance(task, Item) else ""
    return ""


def _files_text(task: Task, masks: Masks) -> str:
    files = None if task._current is None else task._current._origin.files
    return "" if files is None else files.as_text(masks)


def _preview(task: Task, masks: Masks) -> str:
    value = None if task._current is None else task._current.storage
    return "" if value is None else preview(value, masks)
