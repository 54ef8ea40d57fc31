"""OpenSpan: a span that has not ended, and the attributes of spans and metrics.

`exception.*` and `error.type` are from OpenTelemetry's semantic conventions
(opentelemetry.io/docs/specs/semconv/registry/attributes); it has none for workflows, so the others are dotflow's.
"""

from datetime import UTC, datetime
from typing import Final

from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, Status, StatusCode, Tracer, set_span_in_context

from dotflow.core.failure import Failure
from dotflow.core.text import escape_surrogates
from dotflow.core.types.status import TypeStatus

WORKFLOW_ID: Final = "dotflow.workflow.id"
WORKFLOW_NAME: Final = "dotflow.workflow.name"
RUN_ID: Final = "dotflow.run.id"
TASK_ID: Final = "dotflow.task.id"
STEP: Final = "dotflow.step.name"
GROUP: Final = "dotflow.group"
ATTEMPT: Final = "dotflow.attempt"
STATUS: Final = "dotflow.status"
RETRY_COUNT: Final = "dotflow.retry.count"
ASKED: Final = "dotflow.asked"
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
PAUSE_REASON: Final = "dotflow.pause.reason"
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


class OpenSpan:
    """A span that has not ended. Its end is its start plus the time on the monotonic clock.

    Args:
        tracer: Makes the span.
        name: Its name.
        parent: The context of its parent.
        attributes: Its attributes.
        start: When it begins, in nanoseconds since 1970.
        began: The same moment on the monotonic clock, in seconds.
        link: The span of the attempt before, if there was one.
    """

    __slots__ = ("began", "context", "span", "start")

    def __init__(
        self,
        tracer: Tracer,
        name: str,
        parent: Context,
        attributes: dict[str, str | int],
        start: int,
        began: float,
        link: Link | None = None,
    ) -> None:
        links = None if link is None else [link]
        self.span: Span = tracer.start_span(name, parent, attributes=attributes, links=links, start_time=start)
        self.context: Context = set_span_in_context(self.span, parent)
        self.start = start
        self.began = began

    def at(self, tick: float) -> int:
        """Returns a moment on the monotonic clock in nanoseconds since 1970, never before the start."""
        return self.start + to_nanoseconds(max(0.0, tick - self.began))

    def end(self, status: TypeStatus, tick: float, failure: Failure | None) -> None:
        """Ends it with a status, and a failure if there was one."""
        span, end = self.span, self.at(tick)
        if span.is_recording():
            span.set_attribute(STATUS, status.value)
            if failure is not None:
                span.add_event("exception", exception_attributes(failure), end)
                set_failed(span, failure.exception, f"{failure.exception}: {failure.message}")
        span.end(end)


def to_nanoseconds(seconds: float) -> int:
    """Returns seconds in nanoseconds."""
    return round(seconds * 1e9)


def set_failed(span: Span, error: str, description: str) -> None:
    """Gives a span the status ERROR."""
    span.set_attribute(ERROR_TYPE, escape_surrogates(error))
    span.set_status(Status(StatusCode.ERROR, escape_surrogates(description)))
