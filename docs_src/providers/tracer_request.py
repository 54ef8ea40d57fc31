"""Adds the run and the task to the log lines of each step, in any process."""

import logging
from collections.abc import Callable, Mapping
from contextvars import ContextVar

from dotflow.abc.tracer import Tracer
from dotflow.core.call import Carrier
from dotflow.core.events import Event, RunStarted

current: ContextVar[str] = ContextVar("current", default="-")


class TracerRequest(Tracer):
    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def trace(self, run_id: str, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._names[run_id] = event.name or event.workflow_id

    def carrier(self, run_id: str, task_id: int) -> Carrier:
        return Carrier(f"{__name__}:enter", {"request": f"{self._names[run_id]}/{task_id}"})


def enter(headers: Mapping[str, str]) -> Callable[[], object]:
    """Called before the step, where it runs. What it returns is called after the step."""
    token = current.set(headers["request"])
    return lambda: current.reset(token)


class WithRequest(logging.Filter):
    """A filter for a handler whose format has %(request)s."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request = current.get()
        return True
