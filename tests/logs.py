"""A log for tests that read what is reported."""

from dotflow.abc.log import Log
from dotflow.core.task import Task


class Reports(Log):
    """Keeps the lines that are about no task."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, task: Task) -> None: ...

    def error(self, task: Task) -> None: ...

    def report(self, message: str) -> None:
        self.lines.append(message)
