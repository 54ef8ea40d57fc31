"""The message about a task or a run, short enough for a phone, and which are sent."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Final

from dotflow.abc.notify import Notify, RunMessage
from dotflow.core.attempt_id import ID_LENGTH
from dotflow.core.durations import format_duration
from dotflow.core.failure import raised_at
from dotflow.core.item_counts import item_counts
from dotflow.core.task import Task
from dotflow.core.text import escape_surrogates, shorten
from dotflow.core.types.status import TypeStatus
from dotflow.errors import InvalidArgument
from dotflow.report.text import as_command

ICONS: Final = {
    TypeStatus.NOT_STARTED: "⏳",
    TypeStatus.IN_PROGRESS: "▶️",
    TypeStatus.COMPLETED: "✅",
    TypeStatus.PAUSED: "⏸️",
    TypeStatus.RETRY: "🔁",
    TypeStatus.FAILED: "❌",
    TypeStatus.SKIPPED: "⏭️",
}
ALERT: Final = "⚠️ Alert of dotflow serve"
FAILURES: Final = (TypeStatus.RETRY, TypeStatus.FAILED)
#: Statuses of a run that has ended.
ENDS: Final = (TypeStatus.COMPLETED, TypeStatus.FAILED, TypeStatus.PAUSED)
TASK, RUN = "task", "run"
ELLIPSIS: Final = "…"
MAX_LINE: Final = 300  # characters of a line of code


class NotifyMessages(Notify):
    """Sends messages about tasks, runs and alerts. A subclass delivers them.

    A question that a task waits with is always sent, since a person has to answer it, and so is an alert.

    Args:
        by: "task" for a message at each change of a task's status, "run" for one at the end of a run.
        notification_type: A TypeStatus, its value or name in any case, several of them, or None for all.

    Raises:
        InvalidArgument: One of them is not accepted, or no run ends with one of the statuses.
    """

    def __init__(self, by: object, notification_type: object) -> None:
        if by not in (TASK, RUN):
            raise InvalidArgument("by", by, '"task" or "run"')
        self._by = by
        self._statuses = status_filter(notification_type)
        if by == RUN and notification_type is not None and not self._statuses.issubset(ENDS):
            ends = ", ".join(repr(status.value) for status in ENDS)
            raise InvalidArgument("notification_type", notification_type, f'{ends}, or None, with by="run"')

    @abstractmethod
    def deliver(self, title: str, text: str, status: TypeStatus | None) -> None:
        """Sends one message. The status is that of the task or the run; None is an alert.

        Raises:
            NotifyError: The message was not delivered.
        """

    def wants(self, message: Task | RunMessage) -> bool:
        if isinstance(message, RunMessage):
            return self._by == RUN and message.status in self._statuses
        asks = message.status is TypeStatus.PAUSED and message.question is not None
        return asks or (self._by == TASK and message.status in self._statuses)

    def send(self, task: Task) -> None:
        """Sends a message about a task. Raises NotifyError if it was not delivered."""
        if self.wants(task):
            self.deliver(headline(task), details(task), task.status)

    def send_run(self, message: RunMessage) -> None:
        """Sends the message about the end of a run with `by="run"`. Raises as `send`."""
        if self.wants(message):
            self.deliver(f"{ICONS[message.status]} {message.title}", message.text, message.status)

    def alert(self, message: str) -> None:
        """Sends an alert, whatever `notification_type` is. Raises as `send`."""
        self.deliver(ALERT, message, None)


def headline(task: Task) -> str:
    """Returns one line with the status and the task."""
    return f"{ICONS[task.status]} {task.status.value}: task {task.task_id} {task.name}"


def details(task: Task) -> str:
    """Returns the rest of the message. The error comes last, so that truncating a long text takes only from it."""
    return "\n".join(_lines(task))


def _lines(task: Task) -> Iterator[str]:
    yield f"workflow {task.workflow_id}" + (f", group {task.group_name}" if task.group_name != "default" else "")
    progress = ", ".join(_progress(task))
    if progress:
        yield progress
    if task.question is not None and task.run_id is not None:
        for what in ("approve", "reject"):
            yield as_command(what, task.run_id[:ID_LENGTH], task.question.step, history=task.question.history)
    if task.error is not None and task.status in FAILURES:
        where = raised_at(task.error.traceback)
        yield task.error.exception + (f" at {shorten(where, MAX_LINE)}" if where else "")
        if task.error.message:
            yield task.error.message


def _progress(task: Task) -> Iterator[str]:
    if task.reason:
        yield task.reason
    counts = item_counts(task)
    if counts is not None:
        yield str(counts)
    attempts = task.step.policy.attempts
    if attempts > 1 and task.attempt and not task.is_mapped:
        yield f"attempt {task.attempt} of {attempts}"
    if task.duration is not None:
        yield f"took {format_duration(task.duration)}"
    elif task.status is TypeStatus.COMPLETED and counts is None:
        yield f"restored from {'the cache' if task.restored_from == 'cache' else 'its checkpoint'}"


def truncate(text: str, max_units: int) -> str:
    """Returns the text with surrogates escaped, cut between two characters to a number of UTF-16 code units."""
    units = escape_surrogates(text[: max_units + 1]).encode("utf-16-le")  # a character has at least one unit
    if len(units) <= 2 * max_units:
        return units.decode("utf-16-le")
    return units[: 2 * (max_units - len(ELLIPSIS))].decode("utf-16-le", "ignore") + ELLIPSIS


ACCEPTED = (
    f"None for all, or one or several (list, tuple, set) of {', '.join(repr(status.value) for status in TypeStatus)}, "
    f"as TypeStatus or as text"
)


def status_filter(notification_type: object) -> frozenset[TypeStatus]:
    """Returns the statuses that a notifier reports.

    Args:
        notification_type: A TypeStatus, its value or name in any case, several of them, or None for all.

    Raises:
        InvalidArgument: One is no status, or there is none at all.
    """
    if notification_type is None:
        return frozenset(TypeStatus)
    values = notification_type if isinstance(notification_type, list | tuple | set | frozenset) else [notification_type]
    matches = {_STATUSES.get(_normalized(value)) if isinstance(value, str) else None for value in values}
    statuses = frozenset(status for status in matches if status is not None)
    if not statuses or None in matches:
        raise InvalidArgument("notification_type", notification_type, ACCEPTED)
    return statuses


def _normalized(name: str) -> str:
    """Returns the same text for IN_PROGRESS and "In progress"."""
    return name.replace("_", " ").casefold()


_STATUSES = {_normalized(status.value): status for status in TypeStatus}
