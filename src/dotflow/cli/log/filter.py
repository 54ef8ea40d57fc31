"""The filter for the records of a log."""

from typing import NamedTuple

from dotflow.cli.log.records import Record
from dotflow.core.text import escape_controls


class Filter(NamedTuple):
    """Selects records; by default all of them.

    Attributes:
        level: The number of the lowest level; records without a level don't match.
        workflow: The id or the name of the records' workflow.
        step: The name or the dotted path of the records' step.
    """

    level: int | None = None
    workflow: str | None = None
    step: str | None = None

    def matches(self, record: Record) -> bool:
        """Returns whether a record matches."""
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
        # In a text record, an id may look like an id and a name: `nightly (prices)`.
        return wanted in (workflow, name) or escape_controls(wanted) in (workflow, name, f"{workflow} ({name})")
