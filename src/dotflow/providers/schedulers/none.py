"""SchedulerDefault: no schedule."""

from typing import Any

from dotflow.abc.scheduler import Scheduler
from dotflow.abc.workflow import Workflow
from dotflow.errors import NoSchedule


class SchedulerDefault(Scheduler):
    """Stands where no schedule was configured, and says so: a schedule that never fires would be a mistake."""

    def start(self, workflow: Workflow, **kwargs: Any) -> None:
        """Raises NoSchedule."""
        raise NoSchedule

    def stop(self) -> None:
        """There is nothing to stop."""
