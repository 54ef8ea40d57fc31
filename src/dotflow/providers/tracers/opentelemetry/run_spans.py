"""The spans of one run: its own, and a child for each attempt, each map, each item that ran and each call.

`exception.*` and `error.type` are from OpenTelemetry's semantic conventions
(opentelemetry.io/docs/specs/semconv/registry/attributes); it has none for workflows, so the others are dotflow's.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    Status,
    StatusCode,
    Tracer,
    format_span_id,
    format_trace_id,
    set_span_in_context,
)

from dotflow import clock
from dotflow.core import events
from dotflow.core.call import Carrier, TraceIds
from dotflow.core.failure import Failure
from dotflow.core.text import escape_surrogates
from dotflow.core.types.call_state import TypeCallState
from dotflow.core.types.status import TypeStatus
from dotflow.errors import ItemsFailed
from dotflow.providers.tracers.opentelemetry.metrics import (
    ERROR_TYPE,
    STATUS,
    STEP,
    WORKFLOW_NAME,
    Metrics,
)
from dotflow.providers.tracers.opentelemetry.propagation import make_carrier

WORKFLOW_ID: Final = "dotflow.workflow.id"
RUN_ID: Final = "dotflow.run.id"
TASK_ID: Final = "dotflow.task.id"
GROUP: Final = "dotflow.group"
ATTEMPT: Final = "dotflow.attempt"
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
CALL: Final = "dotflow.call"  # its number
CALL_DEPTH: Final = "dotflow.call.depth"
CALLS_GIVEN: Final = "dotflow.calls.given_back"
SKIP_REASON: Final = "dotflow.skip.reason"
PAUSE_REASON: Final = "dotflow.pause.reason"

OTHER_ERROR: Final = "_OTHER"  # the error.type without a known type

COUNTS: Final = (ITEMS_COMPLETED, ITEMS_FAILED, ITEMS_SKIPPED, ITEMS_RESTORED)
COMPLETED, FAILED, PAUSED = TypeStatus.COMPLETED, TypeStatus.FAILED, TypeStatus.PAUSED

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)


def nanoseconds(at: datetime) -> int:
    """Returns a moment in nanoseconds since 1970, in integers, since a float would lose the last three digits."""
    return (at - EPOCH) // MICROSECOND * 1_000


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
        links: A link to the span of the attempt before, if there was one.
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
        links: Sequence[Link] = (),
    ) -> None:
        self.span: Span = tracer.start_span(name, parent, attributes=attributes, links=links, start_time=start)
        self.context: Context = set_span_in_context(self.span, parent)
        self.start = start
        self.began = began

    def at(self, tick: float) -> int:
        """Returns a moment on the monotonic clock in nanoseconds since 1970, never before the start."""
        return self.start + to_nanoseconds(max(0.0, tick - self.began))

    def end(self, status: TypeStatus | TypeCallState, tick: float, failure: Failure | None) -> None:
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


Key = tuple[int, int | None]  # a task, and which of its items if it is mapped


class RunSpans:
    """The spans of one run. The parent is the span that is current now.

    Args:
        tracer: Makes the spans.
        metrics: The metrics of the tracer.
        started: The event that the run has started.
    """

    def __init__(self, tracer: Tracer, metrics: Metrics, started: events.RunStarted) -> None:
        self._tracer = tracer
        self._metrics = metrics
        self._workflow = {} if started.name is None else {WORKFLOW_NAME: escape_surrogates(started.name)}
        self._steps = [(escape_surrogates(step.name), escape_surrogates(step.group)) for step in started.steps]
        self._ids = {
            WORKFLOW_ID: escape_surrogates(started.workflow_id),
            RUN_ID: started.run_id,
            **self._workflow,
        }
        self._start = nanoseconds(started.at)
        self._began = clock.monotonic()
        # No id in the name: most tools group spans by name.
        self._span = tracer.start_span(
            f"dotflow.run {escape_surrogates(started.name)}" if started.name else "dotflow.run",
            attributes={**self._ids, TASKS: started.tasks},
            start_time=self._start,
        )
        self._context = set_span_in_context(self._span)
        self._maps: dict[int, OpenSpan] = {}
        self._items: dict[Key, OpenSpan] = {}
        self._item_counts: dict[int, Counter[str]] = {}
        self._attempts: dict[Key, OpenSpan] = {}
        self._calls: dict[Key, dict[int, OpenSpan]] = {}  # that run in an attempt of a durable step, by number
        self._given: dict[Key, tuple[int, float]] = {}  # how many calls an attempt was given back, and by when
        self._failed_attempts: dict[Key, SpanContext] = {}  # for the link from the next attempt
        self._counts = dict.fromkeys((TASKS_COMPLETED, TASKS_FAILED, TASKS_RESTORED, TASKS_SKIPPED), 0)
        self._first_failure: tuple[str, Failure] | None = None

    def follow(self, event: events.Event) -> None:
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

    def _start_attempt(self, event: events.AttemptStarted) -> None:
        key = event.task_id, event.item
        attributes: dict[str, str | int] = {
            **self._ids,
            **self._task_attributes(event.task_id),
            ATTEMPT: event.attempt,
            RETRY_COUNT: event.attempt - 1,
        }
        if event.fallback is not None:
            attributes[FALLBACK] = escape_surrogates(event.fallback)
        parent = self._context
        if event.item is not None:
            attributes[ITEM] = event.item
            if key not in self._items:  # its span starts with the first attempt
                parent = self._maps[event.task_id].context
                self._items[key] = self._start_part("item", event, parent, {ITEM: event.item})
            parent = self._items[key].context
        failed = self._failed_attempts.pop(key, None)
        links = () if failed is None else (Link(failed),)
        name, start = self._steps[event.task_id][0], nanoseconds(event.at)
        self._attempts[key] = OpenSpan(self._tracer, name, parent, attributes, start, event.tick, links)

    def _start_part(
        self, kind: str, event: events.MapOpened | events.AttemptStarted, parent: Context, own: dict[str, int]
    ) -> OpenSpan:
        """Starts the span of a mapped task, or of one of its items."""
        attributes = {**self._ids, **self._task_attributes(event.task_id), **own}
        name = f"dotflow.{kind} {attributes[STEP]}"
        return OpenSpan(self._tracer, name, parent, attributes, nanoseconds(event.at), event.tick)

    def _run_attempt(self, event: events.AttemptRuns) -> None:
        """Records when an attempt ran that had to wait for its worker: the start of its span was sent along by then."""
        attempt = self._attempts[event.task_id, event.item]
        attempt.span.add_event("dotflow.attempt.runs", timestamp=attempt.at(event.tick))

    def _repeat_action(self, event: events.AttemptRepeated) -> None:
        """Records a repeated action of a class. Its time is unknown, since it is reported at the attempt's end."""
        attempt = self._attempts[event.task_id, event.item]
        if attempt.span.is_recording():
            end = attempt.at(clock.monotonic())
            attempt.span.add_event("exception", exception_attributes(event.failure), end)
        self._metrics.retry(self._workflow, self._steps[event.task_id][0], attempt.context)

    def _wait(self, event: events.AttemptWaits) -> None:
        self._attempts[event.task_id, event.item].span.set_attribute(ASKED, event.asked)

    def _begin_call(self, event: events.CallBegan) -> None:
        """Starts the span of a call. It has none of its arguments, and `dotflow.attempt` tells attempts from it."""
        key = event.task_id, event.item
        if key not in self._attempts:
            return
        attributes: dict[str, str | int] = {
            **self._ids,
            **self._task_attributes(event.task_id),
            CALL: event.number,
            CALL_DEPTH: event.depth,
        }
        if event.item is not None:
            attributes[ITEM] = event.item
        parent, start = self._attempts[key].context, nanoseconds(event.at)
        name = escape_surrogates(event.name)
        span = OpenSpan(self._tracer, name, parent, attributes, start, event.tick)
        self._calls.setdefault(key, {})[event.number] = span

    def _wait_in_call(self, event: events.CallWaits) -> None:
        if span := self._calls.get((event.task_id, event.item), {}).get(event.number):
            span.span.set_attribute(ASKED, event.asked)

    def _end_call(self, event: events.CallEnded) -> None:
        span = self._calls.get((event.task_id, event.item), {}).pop(event.number, None)
        if span is not None:
            made = TypeCallState.CACHED if event.is_cached else TypeCallState.MADE
            span.end(TypeCallState.FAILED if event.failure else made, event.tick, event.failure)

    def _count_calls(self, event: events.CallsCounted) -> None:
        key = event.task_id, event.item
        if event.given > self._given.get(key, (0, 0.0))[0]:
            self._given[key] = event.given, clock.monotonic()

    def _fail_attempt(self, event: events.AttemptFailed) -> None:
        key = event.task_id, event.item
        attempt = self._attempts[key]
        attempt.span.set_attribute(RETRY_DELAY, event.retry_in)
        self._failed_attempts[key] = attempt.span.get_span_context()
        ended = clock.monotonic() if event.tick is None else event.tick
        self._end_attempt(key, TypeStatus.RETRY, ended, event.failure)
        self._metrics.retry(self._workflow, self._steps[event.task_id][0], attempt.context)

    def _complete(self, event: events.TaskCompleted) -> None:
        self._end_attempt((event.task_id, event.item), COMPLETED, event.tick, None)
        if event.item is None:
            self._counts[TASKS_COMPLETED] += 1
        else:
            self._end_item(event, None)

    def _fail(self, event: events.TaskFailed) -> None:
        key = event.task_id, event.item
        name = self._steps[event.task_id][0]
        self._note_failure(name if event.item is None else f"{name}[{event.item}]", event.failure)
        has_attempt = key in self._attempts
        if has_attempt:
            self._end_attempt(key, FAILED, event.tick, event.failure)
        if event.item is not None:
            self._end_item(event, event.failure)
            return
        self._counts[TASKS_FAILED] += 1
        if not has_attempt:  # the run was stopped between two attempts
            attributes = {**self._task_attributes(event.task_id), **exception_attributes(event.failure)}
            self._span.add_event("dotflow.task.failed", attributes, nanoseconds(event.at))

    def _end_item(self, event: events.TaskCompleted | events.TaskFailed, failure: Failure | None) -> None:
        if event.task_id in self._item_counts:  # else a pause has ended its map
            self._item_counts[event.task_id][ITEMS_COMPLETED if failure is None else ITEMS_FAILED] += 1
        span = self._items.pop((event.task_id, event.item), None)
        if span is not None:
            span.end(COMPLETED if failure is None else FAILED, event.tick, failure)

    def _open_map(self, event: events.MapOpened) -> None:
        """Starts the span of a mapped task, or counts its items in a further round."""
        if event.task_id in self._maps:
            self._maps[event.task_id].span.set_attribute(ITEMS, event.items)
            return
        self._maps[event.task_id] = self._start_part("map", event, self._context, {ITEMS: event.items})
        self._item_counts[event.task_id] = Counter()

    def _end_map(self, event: events.MapEnded) -> None:
        failure = event.failure
        if failure is None:
            counts = self._end_map_span(event.task_id, COMPLETED, event.tick, None)
            self._counts[TASKS_COMPLETED] += 1
            self._counts[TASKS_RESTORED] += set(+counts) == {ITEMS_RESTORED}
            return
        self._counts[TASKS_FAILED] += 1
        self._note_failure(self._steps[event.task_id][0], failure)
        if failure.exception == ItemsFailed.__name__:
            failure = Failure(failure.exception, failure.message.partition(":")[0])  # behind it are values of items
        self._end_map_span(event.task_id, FAILED, event.tick, failure)

    def _end_map_span(self, task_id: int, status: TypeStatus, tick: float, failure: Failure | None) -> Counter[str]:
        """Ends the span of a mapped task, unless a pause has; returns the counts of its items."""
        counts, span = self._item_counts.pop(task_id, Counter()), self._maps.pop(task_id, None)
        if span is not None:
            completed = counts[ITEMS_COMPLETED] + counts[ITEMS_RESTORED]
            span.span.set_attributes({name: counts[name] for name in COUNTS} | {ITEMS_COMPLETED: completed})
            span.end(status, tick, failure)
        return counts

    def _restore(self, event: events.TaskRestored) -> None:
        if event.item is None:
            self._counts[TASKS_COMPLETED] += 1
            self._counts[TASKS_RESTORED] += 1
            self._add_event("dotflow.task.restored", event.task_id, {})
        else:  # there may be many, so they make no event
            self._item_counts[event.task_id][ITEMS_RESTORED] += 1

    def _skip(self, event: events.TaskSkipped) -> None:
        reason = escape_surrogates(event.reason)
        if event.item is None:
            self._counts[TASKS_SKIPPED] += 1
            attributes = {STATUS: TypeStatus.SKIPPED.value, SKIP_REASON: reason}
            self._add_event("dotflow.task.skipped", event.task_id, attributes)
        else:
            self._item_counts[event.task_id][ITEMS_SKIPPED] += 1
            of_item: dict[str, str | int] = {SKIP_REASON: reason, ITEM: event.item}
            self._maps[event.task_id].span.add_event("dotflow.item.skipped", of_item, nanoseconds(clock.now()))

    def _pause(self, event: events.TaskPaused) -> None:
        """Ends the span of a mapped task, or of an item that waits for its next attempt."""
        if event.item is None:
            self._end_map_span(event.task_id, PAUSED, event.tick, None)
            attributes = {STATUS: PAUSED.value, PAUSE_REASON: escape_surrogates(event.reason)}
            self._add_event("dotflow.task.paused", event.task_id, attributes)
        elif (span := self._items.pop((event.task_id, event.item), None)) is not None:
            span.end(PAUSED, event.tick, None)

    def _add_event(self, name: str, task_id: int, attributes: dict[str, str]) -> None:
        self._span.add_event(name, {**self._task_attributes(task_id), **attributes}, nanoseconds(clock.now()))

    def _note_failure(self, name: str, failure: Failure) -> None:
        self._first_failure = self._first_failure or (name, failure)

    def _task_attributes(self, task_id: int) -> dict[str, str | int]:
        name, group = self._steps[task_id]
        return {TASK_ID: task_id, STEP: name, GROUP: group}

    def _end_attempt(self, key: Key, status: TypeStatus, tick: float, failure: Failure | None) -> None:
        self._end_calls(key, tick)
        attempt = self._attempts.pop(key)
        attempt.end(status, tick, failure)
        seconds = max(0.0, tick - attempt.began)
        step = self._steps[key[0]][0]
        self._metrics.attempt(self._workflow, step, status, seconds, failure, attempt.context)

    def _end_calls(self, key: Key, tick: float) -> None:
        """Ends the spans of the calls that an attempt has cut off, and adds how many it was given back."""
        for call in self._calls.pop(key, {}).values():
            call.end(TypeCallState.CUT_OFF, tick, None)
        if (given := self._given.pop(key, None)) is not None:
            attempt = self._attempts[key]
            attempt.span.add_event(CALLS_GIVEN, {CALLS_GIVEN: given[0]}, attempt.at(given[1]))

    def _end_run(self, event: events.RunEnded) -> None:
        seconds = clock.monotonic() - self._began
        # The wall clock may have been set back: the run does not end before its attempts.
        end = max(nanoseconds(event.at), self._start + to_nanoseconds(seconds))
        # Open are attempts that were waiting for their next call before a pause, and what the tracer missed the end of.
        for key in self._attempts:
            self._end_calls(key, clock.monotonic())
        for span in (*self._attempts.values(), *self._items.values(), *self._maps.values()):
            span.span.end(end)
        error: str | None = None
        if event.status not in (COMPLETED, PAUSED):
            error, reason = OTHER_ERROR, "the run was stopped before all of its tasks had ended"
            if self._first_failure is not None:
                name, failure = self._first_failure
                error = escape_surrogates(failure.exception)
                reason = f"step '{name}' failed: {failure.exception}: {failure.message}"
            set_failed(self._span, error, reason)
        self._span.set_attributes({**self._counts, STATUS: event.status.value})
        self._span.end(end)
        self._metrics.run(self._workflow, event.status, seconds, error, self._context)


_HANDLERS: Final[Mapping[type, Callable[[RunSpans, Any], None]]] = {
    events.AttemptStarted: RunSpans._start_attempt,
    events.AttemptRuns: RunSpans._run_attempt,
    events.AttemptRepeated: RunSpans._repeat_action,
    events.AttemptWaits: RunSpans._wait,
    events.CallBegan: RunSpans._begin_call,
    events.CallWaits: RunSpans._wait_in_call,
    events.CallEnded: RunSpans._end_call,
    events.CallsCounted: RunSpans._count_calls,
    events.AttemptFailed: RunSpans._fail_attempt,
    events.TaskCompleted: RunSpans._complete,
    events.TaskRestored: RunSpans._restore,
    events.TaskFailed: RunSpans._fail,
    events.TaskSkipped: RunSpans._skip,
    events.TaskPaused: RunSpans._pause,
    events.MapOpened: RunSpans._open_map,
    events.MapEnded: RunSpans._end_map,
    events.RunEnded: RunSpans._end_run,
}
