"""The spans of one run: its own, and a child for each attempt."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanContext, Status, StatusCode, Tracer, set_span_in_context

from dotflow import clock
from dotflow.core.call import Carrier
from dotflow.core.events import (
    AttemptFailed,
    AttemptRepeated,
    AttemptStarted,
    Event,
    RunEnded,
    RunStarted,
    TaskCompleted,
    TaskFailed,
    TaskRestored,
)
from dotflow.core.failure import Failure
from dotflow.core.text import escape_surrogates
from dotflow.core.types.status import TypeStatus
from dotflow.providers.tracers.opentelemetry import attributes as keys
from dotflow.providers.tracers.opentelemetry.attributes import nanoseconds
from dotflow.providers.tracers.opentelemetry.metrics import Instruments, RunMetrics
from dotflow.providers.tracers.opentelemetry.propagation import make_carrier

COMPLETED, RETRY, FAILED = TypeStatus.COMPLETED, TypeStatus.RETRY, TypeStatus.FAILED


class _Attempt:
    """An attempt that has not ended. Its end is its start plus the time on the monotonic clock."""

    __slots__ = ("began", "context", "span", "start")

    def __init__(self, span: Span, context: Context, start: int, began: float) -> None:
        self.span = span
        self.context = context
        self.start = start
        self.began = began


class RunSpans:
    """The spans of one run. The parent is the span that is current now.

    Args:
        tracer: Makes the spans.
        instruments: The instruments of the tracer.
        started: The event that the run has started.
    """

    def __init__(self, tracer: Tracer, instruments: Instruments, started: RunStarted) -> None:
        self._tracer = tracer
        self._metrics = RunMetrics(instruments, started.name)
        self._steps = [(escape_surrogates(step.name), escape_surrogates(step.group)) for step in started.steps]
        self._ids = {keys.WORKFLOW_ID: escape_surrogates(started.workflow_id), keys.RUN_ID: started.run_id}
        if started.name is not None:
            self._ids[keys.WORKFLOW_NAME] = escape_surrogates(started.name)
        self._start = nanoseconds(started.at)
        self._began = clock.monotonic()
        # No id in the name: most tools group spans by name.
        self._span = tracer.start_span(
            f"dotflow.run {escape_surrogates(started.name)}" if started.name else "dotflow.run",
            attributes={**self._ids, keys.TASKS: started.tasks},
            start_time=self._start,
        )
        self._context = set_span_in_context(self._span)
        self._attempts: dict[int, _Attempt] = {}
        self._failed_attempts: dict[int, SpanContext] = {}  # of each task, for the link from its next attempt
        self._counts = {keys.TASKS_COMPLETED: 0, keys.TASKS_FAILED: 0, keys.TASKS_RESTORED: 0}
        self._first_failure: tuple[str, Failure] | None = None

    def follow(self, event: Event) -> None:
        """Handles an event."""
        _HANDLERS[event.__class__](self, event)

    def carrier(self, task_id: int) -> Carrier | None:
        """Returns the trace context of the task's attempt."""
        attempt = self._attempts.get(task_id)
        return None if attempt is None else make_carrier(attempt.context)

    def _start_attempt(self, event: AttemptStarted) -> None:
        name, group = self._steps[event.task_id]
        failed = self._failed_attempts.pop(event.task_id, None)
        start = nanoseconds(event.at)
        span = self._tracer.start_span(
            name,
            self._context,
            attributes={
                **self._ids,
                keys.TASK_ID: event.task_id,
                keys.STEP: name,
                keys.GROUP: group,
                keys.ATTEMPT: event.attempt,
                keys.RETRY_COUNT: event.attempt - 1,
            },
            links=None if failed is None else [Link(failed)],
            start_time=start,
        )
        self._attempts[event.task_id] = _Attempt(span, set_span_in_context(span, self._context), start, event.tick)

    def _repeat_action(self, event: AttemptRepeated) -> None:
        """Records a repeated action of a class. Its time is unknown, since it is reported at the attempt's end."""
        attempt = self._attempts[event.task_id]
        if attempt.span.is_recording():
            end = attempt.start + _to_nanoseconds(clock.monotonic() - attempt.began)
            attempt.span.add_event("exception", keys.exception_attributes(event.failure), end)
        self._metrics.retry(self._steps[event.task_id][0], attempt.context)

    def _fail_attempt(self, event: AttemptFailed) -> None:
        attempt = self._attempts[event.task_id]
        attempt.span.set_attribute(keys.RETRY_DELAY, event.retry_in)
        self._failed_attempts[event.task_id] = attempt.span.get_span_context()
        self._end_attempt(event.task_id, RETRY, clock.monotonic(), event.failure)
        self._metrics.retry(self._steps[event.task_id][0], attempt.context)

    def _complete(self, event: TaskCompleted) -> None:
        self._counts[keys.TASKS_COMPLETED] += 1
        self._end_attempt(event.task_id, COMPLETED, event.tick, None)

    def _fail(self, event: TaskFailed) -> None:
        self._counts[keys.TASKS_FAILED] += 1
        self._first_failure = self._first_failure or (self._steps[event.task_id][0], event.failure)
        if event.task_id in self._attempts:
            self._end_attempt(event.task_id, FAILED, event.tick, event.failure)
        else:  # the run was stopped between two attempts
            attributes = {**self._task_attributes(event.task_id), **keys.exception_attributes(event.failure)}
            self._span.add_event("dotflow.task.failed", attributes, nanoseconds(event.at))

    def _restore(self, event: TaskRestored) -> None:
        self._counts[keys.TASKS_RESTORED] += 1
        self._span.add_event("dotflow.task.restored", self._task_attributes(event.task_id), nanoseconds(clock.now()))

    def _task_attributes(self, task_id: int) -> dict[str, str | int]:
        name, group = self._steps[task_id]
        return {keys.TASK_ID: task_id, keys.STEP: name, keys.GROUP: group}

    def _end_attempt(self, task_id: int, status: TypeStatus, tick: float, failure: Failure | None) -> None:
        attempt = self._attempts.pop(task_id)
        seconds = max(0.0, tick - attempt.began)
        end = attempt.start + _to_nanoseconds(seconds)
        span = attempt.span
        if span.is_recording():
            span.set_attribute(keys.STATUS, status.value)
            if failure is not None:
                span.add_event("exception", keys.exception_attributes(failure), end)
                _set_failed(span, failure.exception, f"{failure.exception}: {failure.message}")
        span.end(end)
        self._metrics.attempt(self._steps[task_id][0], status, seconds, failure, attempt.context)

    def _end_run(self, event: RunEnded) -> None:
        seconds = clock.monotonic() - self._began
        # The wall clock may have been set back: the run does not end before its attempts.
        end = max(nanoseconds(event.at), self._start + _to_nanoseconds(seconds))
        while self._attempts:  # only after a failure of the tracer
            self._attempts.popitem()[1].span.end(end)
        error = None
        if event.status is not COMPLETED:
            failed = self._first_failure
            error = keys.OTHER_ERROR if failed is None else escape_surrogates(failed[1].exception)
            _set_failed(self._span, error, _description(self._first_failure))
        self._span.set_attributes({**self._counts, keys.STATUS: event.status.value})
        self._span.end(end)
        self._metrics.run(event.status, seconds, error, self._context)


def _to_nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)


def _set_failed(span: Span, error: str, description: str) -> None:
    span.set_attribute(keys.ERROR_TYPE, escape_surrogates(error))
    span.set_status(Status(StatusCode.ERROR, escape_surrogates(description)))


def _description(failed: tuple[str, Failure] | None) -> str:
    if failed is None:
        return "the run was stopped before all of its tasks had ended"
    name, failure = failed
    return f"step '{name}' failed: {failure.exception}: {failure.message}"


_HANDLERS: Final[Mapping[type, Callable[[RunSpans, Any], None]]] = {
    AttemptStarted: RunSpans._start_attempt,
    AttemptRepeated: RunSpans._repeat_action,
    AttemptFailed: RunSpans._fail_attempt,
    TaskCompleted: RunSpans._complete,
    TaskRestored: RunSpans._restore,
    TaskFailed: RunSpans._fail,
    RunEnded: RunSpans._end_run,
}
