"""Reports: what a server tells people, in the log and through the notifiers of its workflows."""

from collections.abc import Mapping

from dotflow.abc.workflow import ServedWorkflow
from dotflow.core.masks import Masks, environment_masks
from dotflow.engine.notifier import Notifier
from dotflow.engine.run_log import log_line_of


class Reports:
    """Writes messages, without the secrets of the workflows.

    Args:
        workflows: The workflows by id.

    Attributes:
        masks: Their secrets, and those of the environment.
    """

    def __init__(self, workflows: Mapping[str, ServedWorkflow]) -> None:
        self._workflows = workflows
        self._first = next(iter(workflows.values()))
        self._notifiers: dict[int, Notifier] = {}  # by the id of the provider
        self.masks: Masks = environment_masks()
        for workflow in workflows.values():
            self.masks |= workflow.masks()

    def report(self, message: str, error: BaseException | None = None) -> None:
        """Writes a line into the log."""
        log_line_of(self._first.config.log, self.masks)(message, error)

    def alert(self, workflow_id: str, message: str) -> None:
        """Reports what people should know at once: in the log, and through the notifier of the workflow.

        That of the first workflow sends it where the workflow is another server's.
        """
        message = self.masks.mask(message)
        self.report(message)
        config = self._workflows.get(workflow_id, self._first).config
        if not config.notify.is_silent:
            notifier = self._notifiers.get(id(config.notify))
            if notifier is None:
                log_line = log_line_of(config.log)
                notifier = Notifier(config.notify, config.notify_grace, log_line, sender="server")
                self._notifiers[id(config.notify)] = notifier
            notifier.alert(message)

    def text_of(self, error: BaseException) -> str:
        """Returns the text of an error for the history."""
        return self.masks.mask(f"{type(error).__name__}: {error}")

    def close(self) -> None:
        """Waits for the notifiers."""
        for notifier in self._notifiers.values():
            notifier.close()
