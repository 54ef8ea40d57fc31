"""OpenSpan: a span that has not ended."""

from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, Status, StatusCode, Tracer, set_span_in_context

from dotflow.core.failure import Failure
from dotflow.core.text import escape_surrogates
from dotflow.core.types.status import TypeStatus
from dotflow.providers.tracers.opentelemetry import attributes as keys


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
            span.set_attribute(keys.STATUS, status.value)
            if failure is not None:
                span.add_event("exception", keys.exception_attributes(failure), end)
                set_failed(span, failure.exception, f"{failure.exception}: {failure.message}")
        span.end(end)


def to_nanoseconds(seconds: float) -> int:
    """Returns seconds in nanoseconds."""
    return round(seconds * 1e9)


def set_failed(span: Span, error: str, description: str) -> None:
    """Gives a span the status ERROR."""
    span.set_attribute(keys.ERROR_TYPE, escape_surrogates(error))
    span.set_status(Status(StatusCode.ERROR, escape_surrogates(description)))
