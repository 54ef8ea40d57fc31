"""NotifyDefault: no notifications."""

from dotflow.abc.notify import Notify
from dotflow.core.task import Task


class NotifyDefault(Notify):
    """Sends nothing. While it is in use, a run starts no thread for notifications."""

    @property
    def is_silent(self) -> bool:
        """True, unless a subclass overrides `send`."""
        return type(self).send is NotifyDefault.send

    def send(self, task: Task) -> None:
        """Does nothing."""
