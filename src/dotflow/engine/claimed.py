"""ClaimedRun: a run that was taken from a queue, from its claim to its end."""

import contextlib
from collections.abc import Callable

from dotflow.abc.operations import Claim, Ending, QueueServer
from dotflow.abc.workflow import Superseded
from dotflow.core.attempt_id import ID_LENGTH
from dotflow.core.types.run_state import TypeRunState
from dotflow.errors import HistoryError
from dotflow.resume.checkpoint import Chain


class ClaimedRun:
    """A run that was taken from a queue.

    Args:
        server: The process that has taken it.
        claim: The run.
        is_alone: Whether the server has taken no other run, and ends with it.

    Attributes:
        claim: The run.
        chain: What its checkpoints need to know.
        has_begun: Whether the values of its name are its own: it can't go back to the queue any more.
        is_alone: Whether the server has taken no other run, and ends with it.
        was_cut_off: Whether it has ended since others may take its process for dead.
    """

    def __init__(self, server: QueueServer, claim: Claim, *, is_alone: bool = False) -> None:
        self.claim = claim
        self.chain = Chain(claim.origin, claim.continues, claim.has_begun, lambda: server.supersede(claim))
        self.has_begun = False
        self.was_cut_off = False
        self.is_alone = is_alone
        self._server = server

    def begin(self) -> None:
        """Writes that the values of its name are its own. Raises HistoryError if another process has the run."""
        self._server.begin(self.claim)
        self.has_begun = True

    def is_mine(self) -> bool:
        """Returns whether it is still this process's run."""
        return self._server.is_mine(self.claim)

    def was_taken_over(self) -> bool:
        """Returns whether another process has it, since this one seemed to have ended."""
        return self._server.was_taken_over(self.claim)

    def may_begin(self) -> bool:
        """Returns whether a step of it may begin: no other process may take its own for dead."""
        self.was_cut_off = self.was_cut_off or not self._server.may_begin()
        return not self.was_cut_off

    def conceal(self, name: str) -> None:
        """Takes what has a secret out of the queue: the parameters and the key. *name* is its name without one."""
        self._server.conceal(self.claim.run_id, name)
        self.claim = self.claim._replace(name=name)

    def put_back(self, delay: float) -> None:
        """Returns it to the queue, due in some seconds."""
        self._server.put_back(self.claim, delay)

    def end(self, ending: Ending) -> TypeRunState | None:
        """Writes its end. Returns its state; None if another process has the run."""
        return self._server.end(self.claim, ending)

    def end_alone(self, ending: Ending, log_line: Callable[..., None]) -> None:
        """Writes the end of a run that a program has started itself; where that fails, a server continues it."""
        try:
            self.end(ending)
        except HistoryError as error:
            log_line(f"The end of the run {self.claim.run_id} can't be written: {error}", None)
        finally:
            self.close()

    def give_up(self) -> None:
        """Returns a run that could not begin to the queue."""
        with contextlib.suppress(HistoryError):
            self.put_back(0)
        self.close()

    def close(self) -> None:
        """Ends a server that has taken this run alone."""
        with contextlib.suppress(HistoryError):
            self._server.close()


def superseded_by(error: Superseded) -> Ending:
    """Returns the end of a run whose values a newer chain has replaced."""
    return Ending(TypeRunState.CANCELLED, f"superseded by {error.args[0][:ID_LENGTH]}")
