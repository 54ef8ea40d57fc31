"""NotifyDefault: no notifications."""

from dotflow.abc.notify import Notify
from dotflow.core.task import Task


class NotifyDefault(Notify):
    """Sends nothing. While it is in use, a run starts no thread for notifications."""

    @property
    def is_silent(self) -> bool:
        """True, unless a subclass overrides `send`, `send_run` or `alert`."""
        own, none = type(self), NotifyDefault
        return own.send is none.send and own.send_run is none.send_run and own.alert is none.alert

    def send(self, task: Task) -> None:
        """Does nothing."""
