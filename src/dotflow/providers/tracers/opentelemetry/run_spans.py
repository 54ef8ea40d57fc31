"""The spans of one run: its own, and a child for each attempt, each map and each item that ran."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext, Tracer, format_span_id, format_trace_id, set_span_in_context

from dotflow import clock
from dotflow.core.call import Carrier, TraceIds
from dotflow.core.events import (
    AttemptFailed,
    AttemptRepeated,
    AttemptStarted,
    AttemptWaits,
    Event,
    MapEnded,
    MapOpened,
    RunEnded,
    RunStarted,
    TaskCompleted,
    TaskFailed,
    TaskPaused,
    TaskRestored,
    TaskSkipped,
)
from dotflow.core.failure import Failure
from dotflow.core.text import escape_surrogates
from dotflow.core.types.status import TypeStatus
from dotflow.errors import ItemsFailed
from dotflow.providers.tracers.opentelemetry.metrics import Instruments, RunMetrics
from dotflow.providers.tracers.opentelemetry.open_span import (
    ASKED,
    ATTEMPT,
    FALLBACK,
    GROUP,
    ITEM,
    ITEMS,
    ITEMS_COMPLETED,
    ITEMS_FAILED,
    ITEMS_RESTORED,
    ITEMS_SKIPPED,
    OTHER_ERROR,
    PAUSE_REASON,
    RETRY_COUNT,
    RETRY_DELAY,
    RUN_ID,
    SKIP_REASON,
    STATUS,
    STEP,
    TASK_ID,
    TASKS,
    TASKS_COMPLETED,
    TASKS_FAILED,
    TASKS_RESTORED,
    TASKS_SKIPPED,
    WORKFLOW_ID,
    WORKFLOW_NAME,
    OpenSpan,
    exception_attributes,
    nanoseconds,
    set_failed,
    to_nanoseconds,
)
from dotflow.providers.tracers.opentelemetry.propagation import make_carrier

COUNTS: Final = (ITEMS_COMPLETED, ITEMS_FAILED, ITEMS_SKIPPED, ITEMS_RESTORED)


class MapSpans:
    """The spans of the mapped tasks of one run.

    Args:
        tracer: Makes the spans.
        parent: The context of the run's span.
        attributes: Returns the attributes of a task by its id.
    """

    def __init__(self, tracer: Tracer, parent: Context, attributes: Callable[[int], dict[str, str | int]]) -> None:
        self._tracer = tracer
        self._parent = parent
        self._attributes = attributes
        self._maps: dict[int, OpenSpan] = {}
        self._items: dict[tuple[int, int], OpenSpan] = {}
        self._counts: dict[int, Counter[str]] = {}

    def open(self, event: MapOpened) -> None:
        """Starts the span of a mapped task, or counts its items in a further round."""
        if event.task_id in self._maps:
            self._maps[event.task_id].span.set_attribute(ITEMS, event.items)
            return
        attributes = {**self._attributes(event.task_id), ITEMS: event.items}
        name = f"dotflow.map {attributes[STEP]}"
        start = nanoseconds(event.at)
        self._maps[event.task_id] = OpenSpan(self._tracer, name, self._parent, attributes, start, event.tick)
        self._counts[event.task_id] = Counter()

    def context_for(self, event: AttemptStarted, item: int) -> Context:
        """Returns the context of the item's span, which starts with the first attempt."""
        key = event.task_id, item
        span = self._items.get(key)
        if span is None:
            attributes = {**self._attributes(event.task_id), ITEM: item}
            name = f"dotflow.item {attributes[STEP]}"
            parent, start = self._maps[event.task_id].context, nanoseconds(event.at)
            span = self._items[key] = OpenSpan(self._tracer, name, parent, attributes, start, event.tick)
        return span.context

    def end_item(self, event: TaskCompleted | TaskFailed, item: int, failure: Failure | None) -> None:
        """Ends the span of an item."""
        if event.task_id in self._counts:  # else a pause has ended its map
            self._counts[event.task_id][ITEMS_COMPLETED if failure is None else ITEMS_FAILED] += 1
        span = self._items.pop((event.task_id, item), None)
        if span is not None:
            span.end(TypeStatus.COMPLETED if failure is None else TypeStatus.FAILED, event.tick, failure)

    def restore_item(self, event: TaskRestored) -> None:
        """Counts an item that was restored. There may be many, so they make no event."""
        self._counts[event.task_id][ITEMS_RESTORED] += 1

    def skip_item(self, event: TaskSkipped) -> None:
        """Records that an item was skipped, and why."""
        self._counts[event.task_id][ITEMS_SKIPPED] += 1
        attributes: dict[str, str | int] = {SKIP_REASON: escape_surrogates(event.reason)}
        if event.item is not None:
            attributes[ITEM] = event.item
        self._maps[event.task_id].span.add_event("dotflow.item.skipped", attributes, nanoseconds(clock.now()))

    def pause(self, event: TaskPaused) -> None:
        """Ends the span of a mapped task, or of an item that waits for its next attempt."""
        if event.item is not None:
            span = self._items.pop((event.task_id, event.item), None)
        else:
            span = self._maps.pop(event.task_id, None)
            counts = self._counts.pop(event.task_id, Counter())
            if span is not None:
                span.span.set_attributes({name: counts[name] for name in COUNTS})
        if span is not None:
            span.end(TypeStatus.PAUSED, event.tick, None)

    def close(self, event: MapEnded) -> bool:
        """Ends the span of a mapped task. Returns whether all of its items were restored."""
        if event.task_id not in self._maps:  # a pause has ended it before
            return False
        counts, span, failure = self._counts.pop(event.task_id), self._maps.pop(event.task_id), event.failure
        span.span.set_attributes({name: counts[name] for name in COUNTS})
        if failure is not None and failure.exception == ItemsFailed.__name__:
            failure = Failure(failure.exception, failure.message.partition(":")[0])  # behind it are values of items
        span.end(TypeStatus.COMPLETED if failure is None else TypeStatus.FAILED, event.tick, failure)
        return set(+counts) == {ITEMS_RESTORED}

    def end_all(self, end: int) -> None:
        """Ends the spans that are left, which are there only after a failure of the tracer."""
        for spans in (self._items, self._maps):
            for span in spans.values():
                span.span.end(end)
            spans.clear()


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
        self._ids = {WORKFLOW_ID: escape_surrogates(started.workflow_id), RUN_ID: started.run_id}
        if started.name is not None:
            self._ids[WORKFLOW_NAME] = escape_surrogates(started.name)
        self._start = nanoseconds(started.at)
        self._began = clock.monotonic()
        # No id in the name: most tools group spans by name.
        self._span = tracer.start_span(
            f"dotflow.run {escape_surrogates(started.name)}" if started.name else "dotflow.run",
            attributes={**self._ids, TASKS: started.tasks},
            start_time=self._start,
        )
        self._context = set_span_in_context(self._span)
        self._maps = MapSpans(tracer, self._context, lambda task_id: {**self._ids, **self._task_attributes(task_id)})
        self._attempts: dict[Key, OpenSpan] = {}
        self._failed_attempts: dict[Key, SpanContext] = {}  # for the link from the next attempt
        self._counts = dict.fromkeys((TASKS_COMPLETED, TASKS_FAILED, TASKS_RESTORED, TASKS_SKIPPED), 0)
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
            ATTEMPT: event.attempt,
            RETRY_COUNT: event.attempt - 1,
        }
        if event.fallback is not None:
            attributes[FALLBACK] = escape_surrogates(event.fallback)
        parent = self._context
        if event.item is not None:
            attributes[ITEM] = event.item
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
            attempt.span.add_event("exception", exception_attributes(event.failure), end)
        self._metrics.retry(self._steps[event.task_id][0], attempt.context)

    def _wait(self, event: AttemptWaits) -> None:
        self._attempts[event.task_id, event.item].span.set_attribute(ASKED, event.asked)

    def _fail_attempt(self, event: AttemptFailed) -> None:
        key = event.task_id, event.item
        attempt = self._attempts[key]
        attempt.span.set_attribute(RETRY_DELAY, event.retry_in)
        self._failed_attempts[key] = attempt.span.get_span_context()
        self._end_attempt(key, RETRY, clock.monotonic(), event.failure)
        self._metrics.retry(self._steps[event.task_id][0], attempt.context)

    def _complete(self, event: TaskCompleted) -> None:
        self._end_attempt((event.task_id, event.item), COMPLETED, event.tick, None)
        if event.item is None:
            self._counts[TASKS_COMPLETED] += 1
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
        self._counts[TASKS_FAILED] += 1
        if not has_attempt:  # the run was stopped between two attempts
            attributes = {**self._task_attributes(event.task_id), **exception_attributes(event.failure)}
            self._span.add_event("dotflow.task.failed", attributes, nanoseconds(event.at))

    def _end_map(self, event: MapEnded) -> None:
        is_restored = self._maps.close(event)
        if event.failure is not None:
            self._counts[TASKS_FAILED] += 1
            self._note_failure(self._steps[event.task_id][0], event.failure)
        else:
            self._counts[TASKS_RESTORED if is_restored else TASKS_COMPLETED] += 1

    def _restore(self, event: TaskRestored) -> None:
        if event.item is None:
            self._counts[TASKS_RESTORED] += 1
            self._add_event("dotflow.task.restored", event.task_id, {})
        else:
            self._maps.restore_item(event)

    def _skip(self, event: TaskSkipped) -> None:
        if event.item is None:
            self._counts[TASKS_SKIPPED] += 1
            attributes = {STATUS: SKIPPED.value, SKIP_REASON: escape_surrogates(event.reason)}
            self._add_event("dotflow.task.skipped", event.task_id, attributes)
        else:
            self._maps.skip_item(event)

    def _pause(self, event: TaskPaused) -> None:
        self._maps.pause(event)
        if event.item is None:
            attributes = {STATUS: TypeStatus.PAUSED.value, PAUSE_REASON: escape_surrogates(event.reason)}
            self._add_event("dotflow.task.paused", event.task_id, attributes)

    def _add_event(self, name: str, task_id: int, attributes: dict[str, str]) -> None:
        self._span.add_event(name, {**self._task_attributes(task_id), **attributes}, nanoseconds(clock.now()))

    def _note_failure(self, name: str, failure: Failure) -> None:
        self._first_failure = self._first_failure or (name, failure)

    def _task_attributes(self, task_id: int) -> dict[str, str | int]:
        name, group = self._steps[task_id]
        return {TASK_ID: task_id, STEP: name, GROUP: group}

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
        if event.status not in (COMPLETED, TypeStatus.PAUSED):
            failed = self._first_failure
            error = OTHER_ERROR if failed is None else escape_surrogates(failed[1].exception)
            set_failed(self._span, error, _description(self._first_failure))
        self._span.set_attributes({**self._counts, STATUS: event.status.value})
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
    AttemptWaits: RunSpans._wait,
    AttemptFailed: RunSpans._fail_attempt,
    TaskCompleted: RunSpans._complete,
    TaskRestored: RunSpans._restore,
    TaskFailed: RunSpans._fail,
    TaskSkipped: RunSpans._skip,
    TaskPaused: RunSpans._pause,
    MapOpened: lambda spans, event: spans._maps.open(event),
    MapEnded: RunSpans._end_map,
    RunEnded: RunSpans._end_run,
}
