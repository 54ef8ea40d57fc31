"""NotifyDefault: no notifications."""

from typing import Final

from dotflow.abc.notify import Notify
from dotflow.core.task import Task

#: What a subclass may override to send something.
SENDERS: Final = ("send", "send_run", "alert")


class NotifyDefault(Notify):
    """Sends nothing. While it is in use, a run starts no thread for notifications."""

    @property
    def is_silent(self) -> bool:
        """True, unless a subclass overrides `send`, `send_run` or `alert`."""
        return all(getattr(type(self), name) is getattr(NotifyDefault, name) for name in SENDERS)

    def send(self, task: Task) -> None:
        """Does nothing."""
