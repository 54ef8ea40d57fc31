"""Watch: an eye on the cluster that a run is on. Ray itself waits for a head that is gone, and says nothing."""

from typing import Final

from dotflow import clock
from dotflow.errors import ClusterError
from dotflow.providers.executors.cluster.session import RESUME, in_one_line
from dotflow.providers.executors.ray import connection as ray_connection

HEARTBEAT: Final = 5.0  # seconds between two looks at the head
GONE_AFTER: Final = 10.0  # seconds without an answer; a head that is restarted may take some


class Watch:
    """Sees that the cluster is gone, or that this process is no longer connected to it.

    Args:
        job: The connection's.
    """

    def __init__(self, job: str) -> None:
        self._job = job
        self._looked = self._answered = clock.ticks()

    @property
    def is_connected(self) -> bool:
        """Whether Ray may be asked for anything."""
        return ray_connection.is_connected(self._job)

    def check_connection(self) -> None:
        """Raises ClusterError where the user's program has ended it."""
        if not self.is_connected:
            raise ClusterError("Ray", "was disconnected in the middle of the run, by ray.shutdown()", RESUME)

    def check_head(self) -> None:
        """Raises ClusterError where it does not answer now."""
        self.check_connection()
        if not ray_connection.head_answers():
            raise gone()

    def look(self) -> None:
        """Now and then, the same; a head that is silent for a moment is forgiven."""
        now = clock.ticks()
        if now - self._looked < HEARTBEAT:
            return
        self._looked = now
        self.check_connection()
        if ray_connection.head_answers():
            self._answered = now
        elif now - self._answered >= GONE_AFTER:
            raise gone()


def gone(error: BaseException | None = None) -> ClusterError:
    """What ends the run: Ray's own error, or its silence."""
    if error is None:
        return ClusterError("Ray", "is gone, and the run with it: its head does not answer", RESUME)
    return ClusterError("Ray", f"can't go on: {in_one_line(error)}", RESUME)
