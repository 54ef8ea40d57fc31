"""Notifier: sends notifications from a thread of its own, so that they never block a run or a server."""

import contextlib
import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from dotflow import clock
from dotflow.abc.notify import Notify, RunMessage
from dotflow.core.task import Task
from dotflow.engine.run_log import LogLine, as_task_method, reraise_interrupt
from dotflow.errors import HistoryError

if TYPE_CHECKING:  # few tasks ask
    from dotflow.core.approval import Question

MAX_WAITING: Final = 10_000  # notifications; more are dropped, so that they never block their sender


class Notifier:
    """Sends notifications in order, with the task as it was at the event.

    Args:
        notify: The provider.
        grace: Seconds for the remaining notifications at the end.
        log_line: Writes a line into the log.
        sender: What sends them: "run" or "server".
        note_sent: Called in the thread when a message with a question was sent; None for nothing.
    """

    def __init__(
        self,
        notify: Notify,
        grace: float,
        log_line: LogLine,
        sender: str = "run",
        note_sent: "Callable[[Question], None] | None" = None,
    ) -> None:
        self._notify = notify
        self._listener = as_task_method(notify.send)
        self._grace = grace
        self._log_line = log_line
        self._sender = sender
        self._note_sent = note_sent
        self._queue: queue.Queue[tuple[Callable[[Any], object], Any, str] | None] = queue.Queue(MAX_WAITING)
        self._dropped = 0
        self._is_abandoned = False
        self._thread = threading.Thread(target=self._work, name="dotflow-notify", daemon=True)
        self._thread.start()

    def send(self, task: Task) -> None:
        """Queues a notification of the task as it is now, if it is wanted, and returns at once.

        An earlier run may have sent its question.
        """
        if (task.question is None or task.question.sent is None) and self._wants(task):
            self._put(self._send, task._snapshot(), f"send raised for task {task.task_id} {task.name}")

    def send_run(self, message: RunMessage) -> None:
        """Queues the message about the end of a run, if it is wanted, and returns at once."""
        if self._wants(message):
            self._put(self._notify.send_run, message, f"send_run raised for run {message.run_id}")

    def alert(self, message: str) -> None:
        """Queues an alert, and returns at once."""
        self._put(self._notify.alert, message, "alert raised")

    def _wants(self, message: Task | RunMessage) -> bool:
        try:
            return bool(self._notify.wants(message))
        except BaseException as error:  # the user's code
            reraise_interrupt(error)
            self._log_line(f"{type(self._notify).__name__}.wants raised", error)
            return True

    def _put(self, send: Callable[[Any], object], message: object, failure: str) -> None:
        try:
            self._queue.put_nowait((send, message, failure))
        except queue.Full:
            self._dropped += 1

    def close(self) -> None:
        """Waits for the remaining notifications during the grace, and abandons the rest."""
        deadline = clock.ticks() + self._grace
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=self._grace)
        self._thread.join(max(0.0, deadline - clock.ticks()))
        left = self._dropped
        if self._thread.is_alive():
            self._is_abandoned = True
            left += self._queue.unfinished_tasks - 1  # without the end; with what is being sent, if that has begun
            name = type(self._notify).__name__
            self._log_line(
                f"{name} did not finish within {self._grace:g} s of the {self._sender}'s end: one notification still "
                f"hangs, {max(left - 1, 0)} more were not sent. The {self._sender} is not affected.",
                None,
            )
        elif left:
            self._log_line(f"{left} notifications were dropped: more than {MAX_WAITING} were waiting.", None)

    def _send(self, task: Task) -> None:
        self._listener(task)
        if task.question is not None and self._note_sent is not None:
            try:
                self._note_sent(task.question)
            except HistoryError as error:  # it is sent again
                what = f"The history did not record that task {task.task_id} {task.name} has sent its question"
                self._log_line(f"{what}, which the next run sends again", error)

    def _work(self) -> None:
        while (notification := self._queue.get()) is not None and not self._is_abandoned:
            send, message, failure = notification
            try:
                send(message)
            except BaseException as error:  # the user's code: logged, and its sender continues
                self._log_line(f"{type(self._notify).__name__}.{failure}", error)
            self._queue.task_done()
