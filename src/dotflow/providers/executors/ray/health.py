"""ClusterHealth: checks that the cluster of a run still exists. Ray waits for a lost head without a message."""

from typing import Final

from dotflow import clock
from dotflow.errors import ClusterError
from dotflow.providers.executors.cluster.session import RESUME_HINT, describe_error
from dotflow.providers.executors.ray import connection as ray_connection

HEAD_CHECK_INTERVAL: Final = 5.0  # seconds between two checks of the head
MAX_HEAD_SILENCE: Final = 10.0  # seconds without an answer; a head may restart in that time


class ClusterHealth:
    """Checks that the cluster exists and that this process is connected to it.

    Args:
        job: The job id of the connection.
    """

    def __init__(self, job: str) -> None:
        self._job = job
        self._checked_at = self._answered_at = clock.ticks()

    @property
    def is_connected(self) -> bool:
        """Whether the connection exists."""
        return ray_connection.is_connected(self._job)

    def check_connection(self) -> None:
        """Raises ClusterError if the program has ended the connection."""
        if not self.is_connected:
            raise ClusterError("Ray", "was disconnected during the run, by ray.shutdown()", RESUME_HINT)

    def check_head(self) -> None:
        """Raises ClusterError if the head does not answer now."""
        self.check_connection()
        if not ray_connection.is_head_reachable():
            raise connection_lost()

    def check_periodically(self) -> None:
        """Checks every few seconds, and raises ClusterError if the head has been silent for too long."""
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
    """Returns the error that ends the run."""
    if error is None:
        return ClusterError("Ray", "is lost: its head does not answer", RESUME_HINT)
    return ClusterError("Ray", f"can't go on: {describe_error(error)}", RESUME_HINT)
