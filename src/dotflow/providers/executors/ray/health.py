"""ClusterHealth: an eye on the cluster that a run is on. Ray itself waits for a head that is gone, and says nothing."""

from typing import Final

from dotflow import clock
from dotflow.errors import ClusterError
from dotflow.providers.executors.cluster.session import RESUME_HINT, describe_error
from dotflow.providers.executors.ray import connection as ray_connection

HEAD_CHECK_INTERVAL: Final = 5.0  # seconds between two looks at the head
MAX_HEAD_SILENCE: Final = 10.0  # seconds without an answer; a head that is restarted may take some


class ClusterHealth:
    """Sees that the cluster is gone, or that this process is no longer connected to it.

    Args:
        job: The connection's.
    """

    def __init__(self, job: str) -> None:
        self._job = job
        self._checked_at = self._answered_at = clock.ticks()

    @property
    def is_connected(self) -> bool:
        """Whether Ray may be asked for anything."""
        return ray_connection.is_connected(self._job)

    def check_connection(self) -> None:
        """Raises ClusterError where the user's program has ended it."""
        if not self.is_connected:
            raise ClusterError("Ray", "was disconnected in the middle of the run, by ray.shutdown()", RESUME_HINT)

    def check_head(self) -> None:
        """Raises ClusterError where it does not answer now."""
        self.check_connection()
        if not ray_connection.is_head_reachable():
            raise connection_lost()

    def check_periodically(self) -> None:
        """Now and then, the same; a head that is silent for a moment is forgiven."""
        now = clock.ticks()
        if now - self._checked_at < HEAD_CHECK_INTERVAL:
            return
        self._checked_at = now
        self.check_connection()
        if ray_connection.is_head_reachable():
            self._answered_at = now
        elif now - self._answered_at >= MAX_HEAD_SILENCE:
            raise connection_lost()


def connection_lost(error: BaseException | None = None) -> ClusterError:
    """What ends the run: Ray's own error, or its silence."""
    if error is None:
        return ClusterError("Ray", "is gone, and the run with it: its head does not answer", RESUME_HINT)
    return ClusterError("Ray", f"can't go on: {describe_error(error)}", RESUME_HINT)
