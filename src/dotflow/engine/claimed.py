"""ClaimedRun: a run that was taken from a queue, from its claim to its end."""

from dotflow.abc.operations import Claim, Ending, QueueServer
from dotflow.core.types.run_state import TypeRunState
from dotflow.resume.checkpoint import Chain


class ClaimedRun:
    """A run that was taken from a queue.

    Args:
        server: The process that has taken it.
        claim: The run.

    Attributes:
        claim: The run.
        chain: What its checkpoints need to know.
        has_begun: Whether the values of its name are its own: it can't go back to the queue any more.
    """

    def __init__(self, server: QueueServer, claim: Claim) -> None:
        self.claim = claim
        self.chain = Chain(claim.origin, claim.continues, claim.has_begun, lambda: server.supersede(claim))
        self.has_begun = False
        self._server = server

    def begin(self) -> None:
        """Writes that the values of its name are its own. Raises HistoryError if another process has the run."""
        self._server.begin(self.claim)
        self.has_begun = True

    def put_back(self, delay: float) -> None:
        """Returns it to the queue, due in some seconds."""
        self._server.put_back(self.claim, delay)

    def end(self, ending: Ending) -> TypeRunState | None:
        """Writes its end. Returns its state; None if another process has the run."""
        return self._server.end(self.claim, ending)
