"""Which records of a log are wanted."""

from typing import NamedTuple

from dotflow.cli.log.records import Record
from dotflow.providers.logs.formats import escape_controls


class Filter(NamedTuple):
    """Takes the records that are wanted; by default all of them.

    Attributes:
        least: How serious they have to be; what says nothing about that is not.
        workflow: The id of the workflow that they are about, or its name.
        step: The name of the step that they are about, or its dotted path.
    """

    level: int | None = None
    workflow: str | None = None
    step: str | None = None

    def matches(self, record: Record) -> bool:
        """Whether a record is wanted."""
        if self.level is not None and (record.level is None or record.level < self.level):
            return False
        return (self.step is None or self._is_of_step(record)) and (
            self.workflow is None or self._is_of_workflow(record, self.workflow)
        )

    def _is_of_step(self, record: Record) -> bool:
        step = record.fields["step"]
        wanted = escape_controls(str(self.step))
        return step is not None and (wanted == step or wanted.replace(":", ".").endswith(f".{step}"))

    def _is_of_workflow(self, record: Record, wanted: str) -> bool:
        workflow, name = record.fields["workflow"], record.fields["name"]
        # A record for people shows an id and a name as text, and an id may look like both: `nightly (prices)`.
        return wanted in (workflow, name) or escape_controls(wanted) in (workflow, name, f"{workflow} ({name})")
