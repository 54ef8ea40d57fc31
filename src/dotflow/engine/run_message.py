"""The text about the end of a run: what failed and where, how long since it last worked, and the commands to go on."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from dotflow.abc.archive import Archive
from dotflow.core.attempt_id import ID_LENGTH
from dotflow.core.durations import format_duration
from dotflow.core.events import RunEnded, RunStarted
from dotflow.core.failure import message_of, raised_at
from dotflow.core.item_counts import levels_of
from dotflow.core.task import Task
from dotflow.core.text import GENERATED, shorten
from dotflow.core.types.status import TypeStatus
from dotflow.engine.stop import STOPPED
from dotflow.report.next_steps import ATTEMPTS, GO_ON, last_completed, next_steps

MAX_FAILURES: Final = 3  # tasks; a phone shows some ten lines at once
MAX_TEXT: Final = 300  # characters of a message, or of a line of code


def message_text(started: RunStarted, ended: RunEnded, tasks: Sequence[Task], archive: Archive | None) -> str:
    """Returns the text about a run that has ended, short enough for a phone.

    Args:
        started: Its first event.
        ended: Its last one.
        tasks: Its records.
        archive: The history of its workflow; None for none. Where it can't be read, the text says so.
    """
    lines = [_counts(started, ended, tasks), *filter(None, [ended.reason]), *_failures(ended, tasks)]
    if archive is not None and ended.status is not TypeStatus.COMPLETED:
        try:
            lines += _from_history(ended, archive)
        except Exception as error:  # the history's code
            lines.append(f"The history can't be read: {shorten(message_of(error), MAX_TEXT)}")
    return "\n".join(lines)


def _counts(started: RunStarted, ended: RunEnded, tasks: Sequence[Task]) -> str:
    statuses = [task.status for task in tasks]
    skipped = statuses.count(TypeStatus.SKIPPED)
    total = f"{len(tasks)} task{'' if len(tasks) == 1 else 's'}"
    return ", ".join(
        [
            f"run {ended.run_id[:ID_LENGTH]}: {statuses.count(TypeStatus.COMPLETED)} of {total} completed",
            *([f"{skipped} skipped"] if skipped else []),
            f"took {format_duration((ended.at - started.at).total_seconds())}",
        ]
    )


def _failures(ended: RunEnded, tasks: Sequence[Task]) -> Iterator[str]:
    """Yields the errors of the tasks that failed by themselves, in the order of their ends; of a map its first one."""
    failed = sorted(filter(_has_failed, tasks), key=lambda task: task.finished_at or ended.at)
    for task in failed[:MAX_FAILURES]:
        yield from _failure(task, task.name)
        item = next(filter(_has_failed, task.items), None)
        if item is not None:
            yield from _failure(item, item.name if levels_of(task) else f"{task.name}#{item.item}")
    if len(failed) > MAX_FAILURES:
        yield f"and {len(failed) - MAX_FAILURES} more that failed"


def _has_failed(task: Task) -> bool:
    return task.status is TypeStatus.FAILED and task.error is not None and task.error.exception not in STOPPED


def _failure(task: Task, name: str) -> Iterator[str]:
    assert task.error is not None
    after = f" after {task.attempt} attempts" if task.attempt > 1 else ""
    cause = f"{task.error.exception}: {task.error.message.strip()}".removesuffix(": ")
    yield shorten(f"{name} failed{after}: {' '.join(cause.split())}", MAX_TEXT)
    if where := raised_at(task.error.traceback):
        yield shorten(where, MAX_TEXT)


def _from_history(ended: RunEnded, archive: Archive) -> list[str]:
    # A run that was taken from the queue has an end there only after this message.
    run = replace(archive.load(ended.run_id), state=ended.state, reason=ended.reason, ended=ended.at)
    lines = []
    if not GENERATED.fullmatch(run.workflow_id):
        last = last_completed(archive, run)
        ago = "" if last is None or last.ended is None else format_duration((ended.at - last.ended).total_seconds())
        lines.append(f"last completed {ago} ago" if ago else "no earlier run in the history completed")
    commands = next_steps(archive, run, archive.option)
    lines += [text for text, purpose in commands if purpose in (ATTEMPTS, GO_ON) and text.isprintable()]
    return lines
