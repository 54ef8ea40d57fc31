"""NotifyDefault: nobody is told."""

from dotflow.abc.notify import Notify
from dotflow.core.task import Task


class NotifyDefault(Notify):
    """Tells nobody. While it is in use, a run starts no thread for notifications."""

    @property
    def is_silent(self) -> bool:
        """Yes, unless a subclass does more."""
        return type(self).send is NotifyDefault.send

    def send(self, task: Task) -> None:
        """Does nothing."""
