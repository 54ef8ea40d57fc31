"""Outage: the time in which a history refuses what a run or a server asks of it."""

from collections.abc import Callable

from dotflow import clock
from dotflow.core.durations import format_duration
from dotflow.errors import HistoryError


class Outage:
    """Reports an outage once when it begins, whatever is refused and however often, and once when it is over.

    It is over when all that was refused is accepted.

    Args:
        report: Writes a line into the log.
        then: What it means, a sentence; "" for none.
        place: Where the history is; "" for none.
        each_cause: Whether each other cause is reported, too, once: the first one may be that of a connection only.

    Attributes:
        refused: What is refused now; nothing unless there is an outage.
    """

    def __init__(
        self, report: Callable[[str], object], then: str = "", place: str = "", *, each_cause: bool = False
    ) -> None:
        self.report = report
        self._then = then and f" {then}"
        self._history = place and f" at {place}"
        self._each_cause = each_cause
        self._reported: set[str] = set()
        self.refused: set[str] = set()
        self._since = self._over = 0.0

    def covers(self, moment: float) -> bool:
        """Returns whether the history, asked then, refused what it refuses in an outage, also in one that is over."""
        return bool(self.refused) or moment < self._over

    def begin(self, what: str, error: HistoryError, since: float | None = None) -> None:
        """Reports a refusal, unless another one was reported.

        Args:
            what: What was refused.
            error: Why.
            since: When the history was asked; None for now.
        """
        if not self.refused:
            self._since = clock.monotonic() if since is None else since
            self._reported.clear()
        self.refused.add(what)
        cause = str(error).rstrip(".")
        if not self._reported or (self._each_cause and cause not in self._reported):
            self._reported.add(cause)
            self.report(f"{cause}.{self._then}")

    def end(self, what: str) -> None:
        """Reports that it is over, if that was the last thing that was refused."""
        if what in self.refused:
            self.refused.remove(what)
            if not self.refused:
                self._over = clock.monotonic()
                away = format_duration(self._over - self._since)
                self.report(f"The history{self._history} can be used again (away for {away}).")
