"""The attributes of spans and metrics.

`exception.*` and `error.type` are from OpenTelemetry's semantic conventions
(opentelemetry.io/docs/specs/semconv/registry/attributes); it has none for workflows, so the others are dotflow's.
"""

from datetime import UTC, datetime
from typing import Final

from dotflow.core.failure import Failure
from dotflow.core.text import escape_surrogates

WORKFLOW_ID: Final = "dotflow.workflow.id"
WORKFLOW_NAME: Final = "dotflow.workflow.name"
RUN_ID: Final = "dotflow.run.id"
TASK_ID: Final = "dotflow.task.id"
STEP: Final = "dotflow.step.name"
GROUP: Final = "dotflow.group"
ATTEMPT: Final = "dotflow.attempt"
STATUS: Final = "dotflow.status"
RETRY_COUNT: Final = "dotflow.retry.count"
RETRY_DELAY: Final = "dotflow.retry.delay"  # seconds
TASKS: Final = "dotflow.tasks"
TASKS_COMPLETED: Final = "dotflow.tasks.completed"
TASKS_FAILED: Final = "dotflow.tasks.failed"
TASKS_RESTORED: Final = "dotflow.tasks.restored"
TASKS_SKIPPED: Final = "dotflow.tasks.skipped"
ITEM: Final = "dotflow.item"  # its index
ITEMS: Final = "dotflow.items"
ITEMS_COMPLETED: Final = "dotflow.items.completed"
ITEMS_FAILED: Final = "dotflow.items.failed"
ITEMS_RESTORED: Final = "dotflow.items.restored"
ITEMS_SKIPPED: Final = "dotflow.items.skipped"
FALLBACK: Final = "dotflow.fallback"  # the name of the step that makes the attempt instead
SKIP_REASON: Final = "dotflow.skip.reason"
ERROR_TYPE: Final = "error.type"

OTHER_ERROR: Final = "_OTHER"  # the error.type without a known type

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def nanoseconds(at: datetime) -> int:
    """Returns a moment in nanoseconds since 1970, in integers, since a float would lose the last three digits."""
    elapsed = at - EPOCH
    return ((elapsed.days * 86_400 + elapsed.seconds) * 1_000_000 + elapsed.microseconds) * 1_000


def exception_attributes(failure: Failure) -> dict[str, str]:
    """Returns a failure as the attributes of an `exception` event."""
    attributes = {"exception.type": failure.exception, "exception.message": failure.message}
    if failure.traceback:
        attributes["exception.stacktrace"] = failure.traceback
    return {name: escape_surrogates(text) for name, text in attributes.items()}
