"""CallRows: the calls of durable steps as rows, of each attempt the first and the last ones."""

from typing import Any, Final, NamedTuple

from dotflow.core.events import CallBegan, CallEnded, CallWaits
from dotflow.core.text import escape_surrogates, shorten, waiting
from dotflow.providers.histories.sql.tables import (
    ATTEMPT_KEY,
    CALL_CACHED,
    CALL_FAILED,
    CALL_MADE,
    CALL_RUNNING,
    MICRO,
    NO_ITEM,
    micro,
    upsert,
)

FIRST: Final = 500  # calls of an attempt that are kept
LAST: Final = 500  # the same of its last ones: each takes the slot of the one that is as many calls before it

CALL_COLUMNS: Final = (
    *("number", "state", "began", "took", "depth", "call", "name", "identity", "arguments", "glimpse"),
    *("exception", "message", "traceback", "input"),
)
SAVE_CALL: Final = upsert("calls", (*ATTEMPT_KEY, "slot"), CALL_COLUMNS)
NO_ERROR: Final = (None, None, None, None)

Row = tuple[Any, ...]
SlotKey = tuple[int, int, int, int]  # task, item, attempt, slot


class CallRows:
    """The rows of `calls` that are not yet in the file. A row is never changed, but replaced.

    Attributes:
        rows: The rows without the run, by their slots.
        attempts: The attempts that have not ended, by task and item.
        size: The bytes of the failures in the rows, about.
    """

    def __init__(self) -> None:
        self.rows: dict[SlotKey, Row] = {}
        self.size = 0
        self.attempts: dict[tuple[int, int], _Attempt] = {}

    def begin(self, event: CallBegan, arguments: str | None) -> None:
        """Adds a call that is made now."""
        item = NO_ITEM if event.item is None else event.item
        attempt = self.attempts.get((event.task_id, item))
        if attempt is None or attempt.attempt != event.attempt:
            attempt = self.attempts[event.task_id, item] = _Attempt(event.attempt)
        nth, attempt.count = attempt.count, attempt.count + 1
        slot = nth if nth < FIRST else FIRST + (nth - FIRST) % LAST
        key = (event.task_id, item, event.attempt, slot)
        attempt.slots[slot] = event.number
        names = map(escape_surrogates, (event.name, event.identity))
        texts = (event.key, *names, arguments and escape_surrogates(arguments))
        head = (event.number, CALL_RUNNING, micro(event.at))
        attempt.running[event.number] = _Running(key, head, (event.depth, *texts), event.tick)
        self.rows[key] = (*key, *head, None, event.depth, *texts, None, *NO_ERROR)

    def wait(self, event: CallWaits) -> None:
        """Shows what a call waits for, until it ends. One that is asked again now shows that it runs."""
        attempt = self.attempts.get((event.task_id, NO_ITEM if event.item is None else event.item))
        if attempt is None or attempt.attempt != event.attempt:
            return
        running = attempt.running.get(event.number)
        if running is None or attempt.slots[running.key[-1]] != event.number:
            return
        shown = escape_surrogates(waiting(event.asked, shorten(event.note)))
        self.rows[running.key] = (*running.key, *running.head, None, *running.texts, shown, *NO_ERROR)

    def end(self, event: CallEnded, preview: str | None, arguments: str | None) -> None:
        """Adds the end of a call, unless a later one has its slot."""
        item = NO_ITEM if event.item is None else event.item
        attempt = self.attempts.get((event.task_id, item))
        if attempt is None or attempt.attempt != event.attempt:
            return
        running = attempt.running.pop(event.number, None)
        if running is None or attempt.slots[running.key[-1]] != event.number:
            return
        number, _, began = running.head
        error: Row = NO_ERROR
        took, failure = int((event.tick - running.tick) * MICRO), event.failure
        if failure is not None:
            texts = map(escape_surrogates, (failure.exception, failure.message, failure.traceback))
            error = (*texts, arguments and escape_surrogates(arguments))
            self.size += sum(len(text) for text in error if text)
        made = CALL_CACHED if event.is_cached else CALL_MADE
        state = made if failure is None else CALL_FAILED
        shown = preview and escape_surrogates(preview)
        self.rows[running.key] = (*running.key, number, state, began, took, *running.texts, shown, *error)

    def clear(self) -> None:
        """Forgets the rows, which are in the file now."""
        self.rows.clear()
        self.size = 0


class _Running(NamedTuple):
    """A call that is made: where its row is, the values of its beginning, and the monotonic time of that."""

    key: SlotKey
    head: tuple[int, int, int]
    texts: Row
    tick: float


class _Attempt:
    """The calls of one attempt."""

    __slots__ = ("attempt", "count", "running", "slots")

    def __init__(self, attempt: int) -> None:
        self.attempt = attempt
        self.count = 0
        self.slots: dict[int, int] = {}  # the numbers of the calls that have them
        self.running: dict[int, _Running] = {}  # by number
