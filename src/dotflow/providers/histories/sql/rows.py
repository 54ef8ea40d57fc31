"""RunRows: the rows of one run that are not yet in the file, made from its events."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from dotflow import clock
from dotflow.core.events import (
    AttemptFailed,
    AttemptOutput,
    AttemptRepeated,
    AttemptRuns,
    AttemptStarted,
    AttemptWaits,
    CallBegan,
    CallEnded,
    CallsCounted,
    CallWaits,
    MapEnded,
    MapOpened,
    RunEnded,
    RunStarted,
    TaskCompleted,
    TaskFailed,
    TaskPaused,
    TaskRestored,
    TaskSkipped,
    Traced,
)
from dotflow.core.failure import Failure
from dotflow.core.outcome import CALLS_GIVEN, CALLS_KEPT, Note, Usage
from dotflow.core.text import error_line, escape_surrogates, shorten, waiting
from dotflow.providers.histories.sql.call_rows import CallRows
from dotflow.providers.histories.sql.output_rows import OutputRows
from dotflow.providers.histories.sql.tables import (
    ASKED,
    ATTEMPT,
    ATTEMPT_COLUMNS,
    BEGAN,
    CACHED,
    COMPLETED,
    CPU,
    FAILED,
    FALLBACK,
    FILES,
    GLIMPSE,
    INPUT,
    ITEM,
    ITEMS,
    MICRO,
    NO_ITEM,
    PAUSED,
    PEAK,
    RESTORED,
    RETRY,
    ROUND,
    RUNNING,
    SKIPPED,
    SPAN,
    STATE,
    TASK,
    TOOK,
    WAITED,
    WORKER,
    micro,
)
from dotflow.providers.histories.sql.values import Values

Row = list[Any]
Key = tuple[int, int]  # task and item
OfAttempt = (
    AttemptRuns
    | AttemptFailed
    | AttemptRepeated
    | AttemptWaits
    | AttemptOutput
    | TaskPaused
    | Traced
    | CallsCounted
    | CallBegan
    | CallWaits
    | CallEnded
)

new: Final = tuple.__new__  # makes a named tuple in half the time: there is one for every attempt

NOTHING: Final = (None,) * len(ATTEMPT_COLUMNS)
NO_USAGE: Final = Usage()
COPY_DOCUMENT: Final = 6  # in a row of `copies`, without the run


class OpenAttempt(NamedTuple):
    """An attempt or a map that has begun: its row, the monotonic time of its beginning in seconds, its first event."""

    row: Row
    tick: float
    started: AttemptStarted | MapOpened


class RunRows:
    """The rows of one run that are not yet in the file, and the attempts that have begun.

    Attributes:
        started, ended: The first event, and the last one once the run has ended.
        attempts: Rows of `attempts`, by their ids, since a row changes until it is written. Of most, the last columns
            are missing: to pass None takes longer than all other values.
        errors, copies, notes, output, calls: Rows of these tables.
        counts: The number of tasks by state.
        error: The first failure of a task.
        trace: The id of the run's trace, until it is in the file.
        has_more: Whether there are rows of other tables, or the end of the run.
        has_end: Whether the end of the run is not yet in the file.
    """

    def __init__(self, started: RunStarted, values: Values, output_limit: int) -> None:
        self.started = started
        self.ended: RunEnded | None = None
        self.attempts: dict[int, Row] = {}
        self.errors: list[Row] = []
        self.output = OutputRows(output_limit)
        self.copies: list[Row] = []
        self.notes: list[Row] = []
        self.calls = CallRows()
        self.counts = {COMPLETED: 0, FAILED: 0, RESTORED: 0, SKIPPED: 0}
        self.error: str | None = None
        self.trace: str | None = None
        self._values = values
        self._open: dict[Key, OpenAttempt] = {}
        # Of maps in rounds, or in other items, for each item: the round, or the index of that item, and its first one.
        self._places: dict[int, list[tuple[int, int]]] = {}
        self._errors_of: dict[tuple[int, int, int], int] = {}  # of open attempts
        self.has_more = self.has_end = False
        self._copied = 0

    @property
    def size(self) -> int:
        """The bytes of output, copies and failed calls."""
        return self._copied + self.output.size + self.calls.size

    def __len__(self) -> int:
        tables = (self.attempts, self.errors, self.output.rows, self.copies, self.notes, self.calls.rows)
        return sum(map(len, tables)) + self.has_end

    def clear(self) -> None:
        """Forgets the rows, which are in the file now."""
        self.attempts.clear()
        if self.has_more:
            self.has_more = self.has_end = False
            self._copied = 0
            self.trace = None
            self.errors.clear()
            self.copies.clear()
            self.notes.clear()
            self.output.clear()
            self.calls.clear()

    def drop(self) -> int:
        """Forgets the rows but the end of the run. Returns the number of those that are lost."""
        count, has_end = len(self) - self.has_end, self.has_end
        self.clear()
        self.has_more = self.has_end = has_end
        return count

    def _start(self, event: AttemptStarted) -> None:
        task, attempt, _, at, tick, item, fallback, _, waited = event
        if item is None:
            item = NO_ITEM
        if fallback is not None:
            fallback = escape_surrogates(fallback)
        began = micro(at)
        row: Row = [task, item, attempt, RUNNING, began]
        if fallback is not None or item != NO_ITEM or waited:
            widened(row)
            row[FALLBACK] = fallback
            if waited:
                row[WAITED] = int(waited * MICRO)
            if item != NO_ITEM:
                row[INPUT] = self._values.item_preview(event)
                if self._places:
                    self._set_place(row, task, item)
        self._open[task, item] = new(OpenAttempt, (row, tick, event))
        self.attempts[id(row)] = row

    def _run(self, event: AttemptRuns) -> None:
        if opened := self._opened(event):
            row = opened.row
            row[BEGAN] = micro(event.at)
            if len(row) > GLIMPSE:
                row[GLIMPSE] = None  # of its wait for a worker
            self.attempts[id(row)] = row
            self._open[row[TASK], row[ITEM]] = opened._replace(tick=event.tick)

    def _complete(self, event: TaskCompleted) -> None:
        task, context, tick, item, usage = event
        opened = self._open.pop((task, NO_ITEM if item is None else item), None)
        if opened is None:
            return
        row, began, started = opened
        values = self._values
        cpu, peak, worker, notes, _ = usage or NO_USAGE
        shown, files = values.preview(context.storage), context._origin.files
        row[STATE] = COMPLETED
        row[TOOK:GLIMPSE] = int((tick - began) * MICRO), None if cpu is None else int(cpu * MICRO), worker, peak
        if shown is not None or len(row) > GLIMPSE:
            row[GLIMPSE:FALLBACK] = (shown,)
        if notes:
            self._note(row, notes)
        if files is not None:
            widened(row)[FILES] = values.files(files)
        self.attempts[id(row)] = row
        if item is None:
            self.counts[COMPLETED] += 1
        if self.output.attempts:
            self.output.attempts.pop((row[TASK], row[ITEM], row[ATTEMPT]), None)
        if self.calls.attempts:
            self.calls.attempts.pop((row[TASK], row[ITEM]), None)
        if values.keeps_all:
            self._copy(values.inputs(row, started))
            self._copy(values.returned(row, context))

    def _fail(self, event: TaskFailed) -> None:
        item = NO_ITEM if event.item is None else event.item
        opened = self._open.pop((event.task_id, item), None)
        if opened is None:
            row = self._new_row(event.task_id, item, event.attempt, micro(event.at))
        else:
            row = widened(opened.row)
            row[TOOK] = row[TOOK] or int((event.tick - opened.tick) * MICRO)  # not the delay before a stop
            self.attempts[id(row)] = row
        self._set_failed(row, event.failure)
        if event.usage is not None:
            self._measure(row, event.usage)
        if opened is not None:
            self._copy(self._values.inputs(row, opened.started))
        self.output.attempts.pop((row[TASK], row[ITEM], row[ATTEMPT]), None)
        self.calls.attempts.pop((row[TASK], row[ITEM]), None)

    def _retry(self, event: AttemptFailed) -> None:
        opened = self._changed(event)
        if opened is None:
            return
        row = opened.row
        row[STATE] = RETRY
        row[GLIMPSE] = None  # of a wait
        ended = clock.monotonic() if event.tick is None else event.tick
        row[TOOK] = int((ended - opened.tick) * MICRO)
        if event.usage is not None:
            self._measure(row, event.usage)
        self._add_error(row, event.failure, event.retry_in)

    def _wait(self, event: AttemptWaits) -> None:
        if opened := self._changed(event):
            opened.row[ASKED] = event.asked
            opened.row[GLIMPSE] = waiting(event.asked, shorten(event.note))

    def _count_calls(self, event: CallsCounted) -> None:
        if opened := self._opened(event):
            self._note(opened.row, {CALLS_KEPT: event.kept, CALLS_GIVEN: event.given})

    def _begin_call(self, event: CallBegan) -> None:
        if (opened := self._opened(event)) and opened.row[ATTEMPT] == event.attempt:
            self._begin_again(opened.row)
            self.calls.begin(event, self._values.shown(event.arguments))

    def _begin_again(self, row: Row) -> None:
        """Notes that an attempt has gone on after a wait, with a call."""
        self.has_more = True
        if len(row) > GLIMPSE and row[GLIMPSE] is not None:  # what it has waited for
            row[GLIMPSE] = None
            self.attempts[id(row)] = row

    def _wait_in_call(self, event: CallWaits) -> None:
        if (opened := self._opened(event)) and opened.row[ATTEMPT] == event.attempt:
            self._begin_again(opened.row)
            self.calls.wait(event)

    def _end_call(self, event: CallEnded) -> None:
        if self._opened(event):
            self.has_more = True
            self.calls.end(event, self._values.shown(event.preview), self._values.shown(event.input))

    def _repeat(self, event: AttemptRepeated) -> None:
        opened = self._opened(event)
        if opened is not None:
            self._add_error(opened.row, event.failure)

    def _restore(self, event: TaskRestored) -> None:
        row = self._end_without_attempt(event, CACHED if event.source == "cache" else RESTORED)
        row[BEGAN] = micro(event.context.time)
        row[GLIMPSE] = self._values.preview(event.context.storage)
        if event.context._origin.files is not None:
            widened(row)[FILES] = self._values.files(event.context._origin.files)
        if self._values.keeps_all:
            self._copy(self._values.returned(row, event.context))

    def _skip(self, event: TaskSkipped) -> None:
        row = self._end_without_attempt(event, SKIPPED)
        row[GLIMPSE] = escape_surrogates(event.reason)

    def _pause(self, event: TaskPaused) -> None:
        """Ends the row of its last attempt, or that of its map. A question before it has a row of its own."""
        if (opened := self._changed(event)) is None:
            if event.question is None:  # a stop may fail it later
                return
            row = self._new_row(event.task_id, NO_ITEM if event.item is None else event.item, 0, micro(event.at))
        else:
            row = opened.row
            row[TOOK] = row[TOOK] or int((event.tick - opened.tick) * MICRO)  # not the delay before the pause
        row[STATE], row[GLIMPSE] = PAUSED, escape_surrogates(event.reason)

    def _end_without_attempt(self, event: TaskRestored | TaskSkipped, state: int) -> Row:
        row = self._new_row(event.task_id, NO_ITEM if event.item is None else event.item, 0, None)
        row[STATE] = state
        if event.item is None:
            self.counts[RESTORED if state == CACHED else state] += 1
        return row

    def _open_map(self, event: MapOpened) -> None:
        if event.round is not None:
            places = self._places.setdefault(event.task_id, [])
            places += [(event.round, len(places))] * (event.items - len(places))
        if opened := self._open.get((event.task_id, NO_ITEM)):  # a map in rounds opens again in each
            opened.row[ITEMS] = event.items
            self.attempts[id(opened.row)] = opened.row
            return
        row = self._new_row(event.task_id, NO_ITEM, 1, micro(event.at))
        widened(row)[ITEMS] = event.items
        self._open[event.task_id, NO_ITEM] = OpenAttempt(row, event.tick, event)

    def _end_map(self, event: MapEnded) -> None:
        opened = self._open.pop((event.task_id, NO_ITEM), None)
        if opened is None:
            return
        row = opened.row
        row[TOOK] = int((event.tick - opened.tick) * MICRO)
        row[ITEMS] = row[ITEMS] if event.items is None else event.items
        self.attempts[id(row)] = row
        if event.failure is None:
            row[STATE], row[GLIMPSE] = COMPLETED, self._values.preview(event.context.storage)
            self.counts[COMPLETED] += 1
        else:
            self._set_failed(row, event.failure)

    def _trace(self, event: Traced) -> None:
        if event.task_id < 0:
            self.trace = escape_surrogates(event.trace)
            self.has_more = True
        elif opened := self._changed(event):
            opened.row[SPAN] = escape_surrogates(event.span)

    def _write_output(self, event: AttemptOutput) -> None:
        opened = self._opened(event)
        self.has_more = True
        is_open = event.task_id < 0 or (opened is not None and opened.row[ATTEMPT] == event.attempt)
        self.output.add(event, is_open=is_open)

    def _end_run(self, event: RunEnded) -> None:
        self.ended = event
        self.has_more = self.has_end = True
        self.error = self.error or (event.reason or None)
        self._open.clear()

    def _opened(self, event: OfAttempt) -> OpenAttempt | None:
        return self._open.get((event.task_id, NO_ITEM if event.item is None else event.item))

    def _changed(self, event: OfAttempt) -> OpenAttempt | None:
        """Returns the same for an event that changes the row: it has all columns, and is written again."""
        opened = self._open.get((event.task_id, NO_ITEM if event.item is None else event.item))
        if opened is not None:
            self.attempts[id(opened.row)] = widened(opened.row)
        return opened

    def _copy(self, copies: Iterable[Row]) -> None:
        for copy in copies:
            self.has_more = True
            self._copied += len(copy[COPY_DOCUMENT] or b"")
            self.copies.append(copy)

    def _new_row(self, task: int, item: int, attempt: int, began: int | None) -> Row:
        row: Row = [task, item, attempt, RUNNING, began, *NOTHING[TOOK:FALLBACK]]
        if item != NO_ITEM and self._places:
            self._set_place(widened(row), task, item)
        self.attempts[id(row)] = row
        return row

    def _set_place(self, row: Row, task: int, item: int) -> None:
        """Sets the round of an item of a map in rounds, or the item that it belongs to, and its index there."""
        places = self._places.get(task, ())
        if item < len(places):
            row[ROUND], first = places[item]
            row[ITEMS] = item - first

    def _measure(self, row: Row, usage: Usage) -> None:
        cpu, row[PEAK], row[WORKER], notes, _ = usage
        row[CPU] = None if cpu is None else int(cpu * MICRO)
        if notes:
            self._note(row, notes)

    def _note(self, row: Row, notes: Mapping[str, Note]) -> None:
        self.has_more = True
        for name, value in notes.items():
            texts = self._values.note(name, value)
            self.notes.append([row[TASK], row[ITEM], row[ATTEMPT], texts[0], micro(clock.now()), texts[1]])

    def _add_error(self, row: Row, failure: Failure, retry_in: float | None = None) -> None:
        key = (row[TASK], row[ITEM], row[ATTEMPT])
        nth = self._errors_of[key] = self._errors_of.get(key, -1) + 1
        texts = map(escape_surrogates, (failure.exception, failure.message, failure.traceback))
        self.has_more = True
        self.errors.append(
            [*key, nth, *texts, None if retry_in is None else int(retry_in * MICRO), failure.refusal or None]
        )

    def _set_failed(self, row: Row, failure: Failure) -> None:
        row[STATE], row[GLIMPSE] = FAILED, None  # of a pause or a wait before
        self._add_error(row, failure)
        if row[ITEM] != NO_ITEM:
            return
        self.counts[FAILED] += 1
        if self.error is None:
            self.error = error_line(self.started.steps[row[TASK]].name, failure.exception, failure.message)


def widened(row: Row) -> Row:
    """Adds the columns that a row doesn't have yet, and returns it."""
    row += NOTHING[len(row) :]
    return row


#: The methods that add the rows of an event.
HANDLERS: Final[Mapping[type, Callable[[RunRows, Any], None]]] = {
    AttemptStarted: RunRows._start,
    AttemptRuns: RunRows._run,
    AttemptRepeated: RunRows._repeat,
    AttemptWaits: RunRows._wait,
    CallsCounted: RunRows._count_calls,
    CallBegan: RunRows._begin_call,
    CallWaits: RunRows._wait_in_call,
    CallEnded: RunRows._end_call,
    AttemptFailed: RunRows._retry,
    TaskCompleted: RunRows._complete,
    TaskRestored: RunRows._restore,
    TaskFailed: RunRows._fail,
    TaskSkipped: RunRows._skip,
    TaskPaused: RunRows._pause,
    MapOpened: RunRows._open_map,
    MapEnded: RunRows._end_map,
    AttemptOutput: RunRows._write_output,
    RunEnded: RunRows._end_run,
    Traced: RunRows._trace,
}
