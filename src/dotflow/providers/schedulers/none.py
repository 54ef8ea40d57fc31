"""SchedulerDefault: no schedule."""

from typing import TYPE_CHECKING, Any

from dotflow.abc.scheduler import Scheduler
from dotflow.errors import NothingScheduled

if TYPE_CHECKING:
    from dotflow.workflow import DotFlow


class SchedulerDefault(Scheduler):
    """Stands where no schedule was configured, and says so: a schedule that never fires would be a mistake."""

    def start(self, workflow: "DotFlow", **kwargs: Any) -> None:
        """Raises NothingScheduled."""
        raise NothingScheduled

    def stop(self) -> None:
        """There is nothing to stop."""
