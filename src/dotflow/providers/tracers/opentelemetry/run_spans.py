"""The spans of one run: its own, and a child for each attempt."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from opentelemetry.trace import Link, SpanContext, Tracer, format_span_id, format_trace_id, set_span_in_context

from dotflow import clock
from dotflow.core.call import Carrier, TraceIds
from dotflow.core.events import (
    AttemptFailed,
    AttemptRepeated,
    AttemptStarted,
    Event,
    MapEnded,
    MapOpened,
    RunEnded,
    RunStarted,
    TaskCompleted,
    TaskFailed,
    TaskRestored,
    TaskSkipped,
)
from dotflow.core.failure import Failure
from dotflow.core.text import escape_surrogates
from dotflow.core.types.status import TypeStatus
from dotflow.providers.tracers.opentelemetry import attributes as keys
from dotflow.providers.tracers.opentelemetry.attributes import nanoseconds
from dotflow.providers.tracers.opentelemetry.map_spans import MapSpans
from dotflow.providers.tracers.opentelemetry.metrics import Instruments, RunMetrics
from dotflow.providers.tracers.opentelemetry.open_span import OpenSpan, set_failed, to_nanoseconds
from dotflow.providers.tracers.opentelemetry.propagation import make_carrier

COMPLETED, RETRY, FAILED, SKIPPED = TypeStatus.COMPLETED, TypeStatus.RETRY, TypeStatus.FAILED, TypeStatus.SKIPPED

Key = tuple[int, int | None]  # a task, and which of its items if it is mapped


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
        self._maps = MapSpans(tracer, self._context, lambda task_id: {**self._ids, **self._task_attributes(task_id)})
        self._attempts: dict[Key, OpenSpan] = {}
        self._failed_attempts: dict[Key, SpanContext] = {}  # for the link from the next attempt
        self._counts = dict.fromkeys(
            (keys.TASKS_COMPLETED, keys.TASKS_FAILED, keys.TASKS_RESTORED, keys.TASKS_SKIPPED), 0
        )
        self._first_failure: tuple[str, Failure] | None = None

    def follow(self, event: Event) -> None:
        """Handles an event; one that it does not know changes nothing."""
        handler = _HANDLERS.get(event.__class__)
        if handler is not None:
            handler(self, event)

    def carrier(self, task_id: int, item: int | None) -> Carrier | None:
        """Returns the trace context of the attempt of a task, or of one of its items."""
        attempt = self._attempts.get((task_id, item))
        return None if attempt is None else make_carrier(attempt.context)

    def ids(self, task_id: int | None, item: int | None) -> TraceIds | None:
        """Returns the ids of the run's span, or of that of an attempt; None without an SDK, which makes no spans."""
        attempt = None if task_id is None else self._attempts.get((task_id, item))
        if task_id is not None and attempt is None:
            return None
        span = (self._span if attempt is None else attempt.span).get_span_context()
        return TraceIds(format_trace_id(span.trace_id), format_span_id(span.span_id)) if span.is_valid else None

    def _start_attempt(self, event: AttemptStarted) -> None:
        key = event.task_id, event.item
        attributes: dict[str, str | int] = {
            **self._ids,
            **self._task_attributes(event.task_id),
            keys.ATTEMPT: event.attempt,
            keys.RETRY_COUNT: event.attempt - 1,
        }
        if event.fallback is not None:
            attributes[keys.FALLBACK] = escape_surrogates(event.fallback)
        parent = self._context
        if event.item is not None:
            attributes[keys.ITEM] = event.item
            parent = self._maps.context_for(event, event.item)
        failed = self._failed_attempts.pop(key, None)
        link = None if failed is None else Link(failed)
        name, start = self._steps[event.task_id][0], nanoseconds(event.at)
        self._attempts[key] = OpenSpan(self._tracer, name, parent, attributes, start, event.tick, link)

    def _repeat_action(self, event: AttemptRepeated) -> None:
        """Records a repeated action of a class. Its time is unknown, since it is reported at the attempt's end."""
        attempt = self._attempts[event.task_id, event.item]
        if attempt.span.is_recording():
            end = attempt.at(clock.monotonic())
            attempt.span.add_event("exception", keys.exception_attributes(event.failure), end)
        self._metrics.retry(self._steps[event.task_id][0], attempt.context)

    def _fail_attempt(self, event: AttemptFailed) -> None:
        key = event.task_id, event.item
        attempt = self._attempts[key]
        attempt.span.set_attribute(keys.RETRY_DELAY, event.retry_in)
        self._failed_attempts[key] = attempt.span.get_span_context()
        self._end_attempt(key, RETRY, clock.monotonic(), event.failure)
        self._metrics.retry(self._steps[event.task_id][0], attempt.context)

    def _complete(self, event: TaskCompleted) -> None:
        self._end_attempt((event.task_id, event.item), COMPLETED, event.tick, None)
        if event.item is None:
            self._counts[keys.TASKS_COMPLETED] += 1
        else:
            self._maps.end_item(event, event.item, None)

    def _fail(self, event: TaskFailed) -> None:
        key = event.task_id, event.item
        name = self._steps[event.task_id][0]
        self._note_failure(name if event.item is None else f"{name}[{event.item}]", event.failure)
        has_attempt = key in self._attempts
        if has_attempt:
            self._end_attempt(key, FAILED, event.tick, event.failure)
        if event.item is not None:
            self._maps.end_item(event, event.item, event.failure)
            return
        self._counts[keys.TASKS_FAILED] += 1
        if not has_attempt:  # the run was stopped between two attempts
            attributes = {**self._task_attributes(event.task_id), **keys.exception_attributes(event.failure)}
            self._span.add_event("dotflow.task.failed", attributes, nanoseconds(event.at))

    def _end_map(self, event: MapEnded) -> None:
        is_restored = self._maps.close(event)
        if event.failure is not None:
            self._counts[keys.TASKS_FAILED] += 1
            self._note_failure(self._steps[event.task_id][0], event.failure)
        else:
            self._counts[keys.TASKS_RESTORED if is_restored else keys.TASKS_COMPLETED] += 1

    def _restore(self, event: TaskRestored) -> None:
        if event.item is None:
            self._counts[keys.TASKS_RESTORED] += 1
            self._add_event("dotflow.task.restored", event.task_id, {})
        else:
            self._maps.restore_item(event)

    def _skip(self, event: TaskSkipped) -> None:
        if event.item is None:
            self._counts[keys.TASKS_SKIPPED] += 1
            attributes = {keys.STATUS: SKIPPED.value, keys.SKIP_REASON: escape_surrogates(event.reason)}
            self._add_event("dotflow.task.skipped", event.task_id, attributes)
        else:
            self._maps.skip_item(event)

    def _add_event(self, name: str, task_id: int, attributes: dict[str, str]) -> None:
        self._span.add_event(name, {**self._task_attributes(task_id), **attributes}, nanoseconds(clock.now()))

    def _note_failure(self, name: str, failure: Failure) -> None:
        self._first_failure = self._first_failure or (name, failure)

    def _task_attributes(self, task_id: int) -> dict[str, str | int]:
        name, group = self._steps[task_id]
        return {keys.TASK_ID: task_id, keys.STEP: name, keys.GROUP: group}

    def _end_attempt(self, key: Key, status: TypeStatus, tick: float, failure: Failure | None) -> None:
        attempt = self._attempts.pop(key)
        attempt.end(status, tick, failure)
        seconds = max(0.0, tick - attempt.began)
        self._metrics.attempt(self._steps[key[0]][0], status, seconds, failure, attempt.context)

    def _end_run(self, event: RunEnded) -> None:
        seconds = clock.monotonic() - self._began
        # The wall clock may have been set back: the run does not end before its attempts.
        end = max(nanoseconds(event.at), self._start + to_nanoseconds(seconds))
        while self._attempts:  # only after a failure of the tracer
            self._attempts.popitem()[1].span.end(end)
        self._maps.end_all(end)
        error = None
        if event.status is not COMPLETED:
            failed = self._first_failure
            error = keys.OTHER_ERROR if failed is None else escape_surrogates(failed[1].exception)
            set_failed(self._span, error, _description(self._first_failure))
        self._span.set_attributes({**self._counts, keys.STATUS: event.status.value})
        self._span.end(end)
        self._metrics.run(event.status, seconds, error, self._context)


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
    TaskSkipped: RunSpans._skip,
    MapOpened: lambda spans, event: spans._maps.open(event),
    MapEnded: RunSpans._end_map,
    RunEnded: RunSpans._end_run,
}
