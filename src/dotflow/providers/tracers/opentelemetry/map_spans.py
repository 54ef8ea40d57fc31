"""The spans of mapped tasks, and a child for each item that ran."""

from collections import Counter
from collections.abc import Callable
from typing import Final

from opentelemetry.context import Context
from opentelemetry.trace import Tracer

from dotflow import clock
from dotflow.core.events import (
    AttemptStarted,
    MapEnded,
    MapOpened,
    TaskCompleted,
    TaskFailed,
    TaskRestored,
    TaskSkipped,
)
from dotflow.core.failure import Failure
from dotflow.core.text import escape_surrogates
from dotflow.core.types.status import TypeStatus
from dotflow.errors import ItemsFailed
from dotflow.providers.tracers.opentelemetry import attributes as keys
from dotflow.providers.tracers.opentelemetry.attributes import nanoseconds
from dotflow.providers.tracers.opentelemetry.open_span import OpenSpan

COUNTS: Final = (keys.ITEMS_COMPLETED, keys.ITEMS_FAILED, keys.ITEMS_SKIPPED, keys.ITEMS_RESTORED)


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
        """Starts the span of a mapped task."""
        attributes = {**self._attributes(event.task_id), keys.ITEMS: event.items}
        name = f"dotflow.map {attributes[keys.STEP]}"
        start = nanoseconds(event.at)
        self._maps[event.task_id] = OpenSpan(self._tracer, name, self._parent, attributes, start, event.tick)
        self._counts[event.task_id] = Counter()

    def context_for(self, event: AttemptStarted, item: int) -> Context:
        """Returns the context of the item's span, which starts with the first attempt."""
        key = event.task_id, item
        span = self._items.get(key)
        if span is None:
            attributes = {**self._attributes(event.task_id), keys.ITEM: item}
            name = f"dotflow.item {attributes[keys.STEP]}"
            parent, start = self._maps[event.task_id].context, nanoseconds(event.at)
            span = self._items[key] = OpenSpan(self._tracer, name, parent, attributes, start, event.tick)
        return span.context

    def end_item(self, event: TaskCompleted | TaskFailed, item: int, failure: Failure | None) -> None:
        """Ends the span of an item."""
        self._counts[event.task_id][keys.ITEMS_COMPLETED if failure is None else keys.ITEMS_FAILED] += 1
        span = self._items.pop((event.task_id, item), None)
        if span is not None:
            span.end(TypeStatus.COMPLETED if failure is None else TypeStatus.FAILED, event.tick, failure)

    def restore_item(self, event: TaskRestored) -> None:
        """Counts an item that was restored. There may be many, so they make no event."""
        self._counts[event.task_id][keys.ITEMS_RESTORED] += 1

    def skip_item(self, event: TaskSkipped) -> None:
        """Records that an item was skipped, and why."""
        self._counts[event.task_id][keys.ITEMS_SKIPPED] += 1
        attributes: dict[str, str | int] = {keys.SKIP_REASON: escape_surrogates(event.reason)}
        if event.item is not None:
            attributes[keys.ITEM] = event.item
        self._maps[event.task_id].span.add_event("dotflow.item.skipped", attributes, nanoseconds(clock.now()))

    def close(self, event: MapEnded) -> bool:
        """Ends the span of a mapped task. Returns whether all of its items were restored."""
        counts, span, failure = self._counts.pop(event.task_id), self._maps.pop(event.task_id), event.failure
        span.span.set_attributes({name: counts[name] for name in COUNTS})
        if failure is not None and failure.exception == ItemsFailed.__name__:
            failure = Failure(failure.exception, failure.message.partition(":")[0])  # behind it are values of items
        span.end(TypeStatus.COMPLETED if failure is None else TypeStatus.FAILED, event.tick, failure)
        return set(+counts) == {keys.ITEMS_RESTORED}

    def end_all(self, end: int) -> None:
        """Ends the spans that are left, which are there only after a failure of the tracer."""
        for spans in (self._items, self._maps):
            for span in spans.values():
                span.span.end(end)
            spans.clear()
