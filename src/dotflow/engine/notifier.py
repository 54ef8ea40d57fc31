"""Notifier: sends notifications from a thread of its own, so that they never block a run."""

import contextlib
import queue
import threading
from typing import Final

from dotflow import clock
from dotflow.abc.notify import Notify
from dotflow.core.task import Task
from dotflow.engine.run_log import LogLine, as_task_method

MAX_WAITING: Final = 10_000  # notifications; more are dropped, so that they never block the run


class Notifier:
    """Sends notifications in order, with the task as it was at the event.

    Args:
        notify: The provider.
        grace: Seconds for the remaining notifications at the end of the run.
        log_line: Writes a line into the log.
    """

    def __init__(self, notify: Notify, grace: float, log_line: LogLine) -> None:
        self._notify = notify
        self._listener = as_task_method(notify.send)
        self._grace = grace
        self._log_line = log_line
        self._queue: queue.Queue[Task | None] = queue.Queue(MAX_WAITING)
        self._dropped = 0
        self._is_abandoned = False
        self._thread = threading.Thread(target=self._work, name="dotflow-notify", daemon=True)
        self._thread.start()

    def send(self, task: Task) -> None:
        """Queues a notification of the task as it is now, and returns at once."""
        try:
            self._queue.put_nowait(task._snapshot())
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
                f"{name} did not finish within {self._grace:g} s of the run's end: one notification still hangs, "
                f"{max(left - 1, 0)} more were not sent. The run is not affected.",
                None,
            )
        elif left:
            self._log_line(f"{left} notifications were dropped: more than {MAX_WAITING} were waiting.", None)

    def _work(self) -> None:
        while (task := self._queue.get()) is not None and not self._is_abandoned:
            try:
                self._listener(task)
            except BaseException as error:  # the user's code: logged, and the run continues
                self._log_line(f"{type(self._notify).__name__}.send raised for task {task.task_id} {task.name}", error)
