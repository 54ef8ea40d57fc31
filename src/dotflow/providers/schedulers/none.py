"""SchedulerDefault: no schedule."""

from typing import Any

from dotflow.abc.scheduler import Scheduler
from dotflow.abc.workflow import Workflow
from dotflow.errors import NoSchedule


class SchedulerDefault(Scheduler):
    """The scheduler of a workflow without a schedule. It raises, since a schedule that never fires is a mistake."""

    def start(self, workflow: Workflow, **kwargs: Any) -> None:
        """Raises NoSchedule."""
        raise NoSchedule

    def stop(self) -> None:
        """Does nothing."""
