"""Notifier: sends notifications from a thread of its own, so that they never block a run or a server."""

import contextlib
import queue
import threading
from typing import Final

from dotflow import clock
from dotflow.abc.notify import Notify
from dotflow.core.task import Task
from dotflow.engine.run_log import LogLine, as_task_method

MAX_WAITING: Final = 10_000  # notifications; more are dropped, so that they never block their sender


class Notifier:
    """Sends notifications in order, with the task as it was at the event.

    Args:
        notify: The provider.
        grace: Seconds for the remaining notifications at the end.
        log_line: Writes a line into the log.
        sender: What sends them: "run" or "server".
    """

    def __init__(self, notify: Notify, grace: float, log_line: LogLine, sender: str = "run") -> None:
        self._notify = notify
        self._listener = as_task_method(notify.send)
        self._grace = grace
        self._log_line = log_line
        self._sender = sender
        self._queue: queue.Queue[Task | str | None] = queue.Queue(MAX_WAITING)
        self._dropped = 0
        self._is_abandoned = False
        self._thread = threading.Thread(target=self._work, name="dotflow-notify", daemon=True)
        self._thread.start()

    def send(self, task: Task) -> None:
        """Queues a notification of the task as it is now, and returns at once."""
        self._put(task._snapshot())

    def alert(self, message: str) -> None:
        """Queues an alert, and returns at once."""
        self._put(message)

    def _put(self, notification: Task | str) -> None:
        try:
            self._queue.put_nowait(notification)
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
            left += self._queue.qsize()
            name = type(self._notify).__name__
            self._log_line(
                f"{name} did not finish within {self._grace:g} s of the {self._sender}'s end: one notification still "
                f"hangs, {max(left - 1, 0)} more were not sent. The {self._sender} is not affected.",
                None,
            )
        elif left:
            self._log_line(f"{left} notifications were dropped: more than {MAX_WAITING} were waiting.", None)

    def _work(self) -> None:
        while (notification := self._queue.get()) is not None and not self._is_abandoned:
            try:
                if isinstance(notification, str):
                    self._notify.alert(notification)
                else:
                    self._listener(notification)
            except BaseException as error:  # the user's code: logged, and its sender continues
                name = type(self._notify).__name__
                if isinstance(notification, str):
                    self._log_line(f"{name}.alert raised", error)
                else:
                    self._log_line(f"{name}.send raised for task {notification.task_id} {notification.name}", error)
