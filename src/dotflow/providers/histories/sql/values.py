"""Values: previews of values, and copies from which a step can be replayed."""

import json
import os
import zlib
from collections.abc import Iterator
from datetime import date, datetime, time
from pathlib import Path
from typing import Any, Final

from dotflow.core.context import Context
from dotflow.core.events import AttemptStarted, MapOpened, RunStarted
from dotflow.core.files import FileRecord
from dotflow.core.outcome import Note
from dotflow.core.text import escape_surrogates, shorten
from dotflow.errors import ValueNotStorable
from dotflow.providers.histories.sql.tables import (
    ARGUMENT,
    FAILED,
    INITIAL,
    NO_ITEM,
    PREVIOUS,
    RETURNED,
    SHARED_ATTEMPT,
    WORKER,
)
from dotflow.records.preview import MAX_INPUT, SHAPED, preview

KEPT: Final = ("failed", "all", "none")
FAST: Final = 1  # zlib's level
MAX_NAME: Final = 100  # characters of the name of a note
MAX_TEXT: Final = 1000  # characters of a text that is noted
MAX_COPIES: Final = 10  # times the limit of a copy: for all copies of a run

#: Types whose values a step can't change.
IMMUTABLE: Final = frozenset((type(None), bool, int, float, complex, str, bytes, date, datetime, time, type(Path())))

AFTER: Final = "It was copied after the attempt, which ran in the same process and may have changed it."


class Values:
    """What is kept of the values of a run.

    Args:
        kept: "failed": the inputs of failed tasks, and previews. "all": also inputs and values of all others, with
            digests. "none": nothing.
        limit: The maximum size of a copy, in bytes. All copies of a run have ten times as many.
        pickle: Whether values that the codec refuses are pickled.
        run: The run's first event.
    """

    def __init__(self, kept: str, limit: int, pickle: bool, run: RunStarted) -> None:
        self.keeps_all = kept == "all"
        self._kept = kept
        self._limit = limit
        self._left = MAX_COPIES * limit
        self._pickle = pickle
        self._run = run
        self._shared: set[int] = set()  # maps whose shared arguments have been copied

    def preview(self, value: Any) -> str | None:
        """Returns a short text that shows a value; None if nothing is kept, or there is no value."""
        if value is None or self._kept == "none":
            return None
        return preview(value, self._run.masks)

    def shown(self, text: str) -> str | None:
        """Returns a text that shows a value; None if nothing is kept."""
        return None if self._kept == "none" else text

    def item_preview(self, started: AttemptStarted) -> str | None:
        """Returns a short text that shows what an item was given; several arguments by name."""
        call = started.call
        if call is None or self._kept == "none":
            return None
        arguments = call.arguments or {"previous_context": call.previous_context}
        values = {name: value.storage if isinstance(value, Context) else value for name, value in arguments.items()}
        value = next(iter(values.values())) if len(values) == 1 else values
        return preview(value, self._run.masks, MAX_INPUT)

    def note(self, name: str, value: Note) -> tuple[str, str]:
        """Returns the name of what a step has noted, and its value as JSON, both cut and without secrets."""
        name = self._run.masks.mask(name)  # before it is cut: no part of a secret is left
        name = name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]}…"
        if isinstance(value, str):
            value = self._run.masks.mask(value)
            if len(value) > MAX_TEXT:
                value = f"{value[:MAX_TEXT]}… ({len(value):,} characters)"
            value = escape_surrogates(value)
        return escape_surrogates(name), json.dumps(value, ensure_ascii=False)

    def files(self, files: FileRecord) -> str | None:
        """Returns the files of an attempt as a text; None if nothing is kept."""
        return None if self._kept == "none" else files.as_text(self._run.masks)

    def inputs(self, row: list[Any], started: AttemptStarted | MapOpened) -> Iterator[list[Any]]:
        """Yields the rows in `copies` of an attempt's inputs. Those that all items of a map share are in there once."""
        if self._kept == "none" or not isinstance(started, AttemptStarted) or started.call is None:
            return
        call = started.call
        task, item, attempt, state, *_ = row
        is_here = row[WORKER] in (None, os.getpid())
        taken = self._run.steps[task].contexts
        # A step without parameters may return an instance, whose actions take contexts.
        may_take = state == FAILED and not (taken or call.arguments or call.shared)
        inputs: list[tuple[str, Any]] = []
        for name, role, context in (
            ("previous_context", PREVIOUS, call.previous_context),
            ("initial_context", INITIAL, call.initial_context),
        ):
            if name in taken or started.fallback or (may_take and context.storage is not None):
                inputs.append((role, context))
        inputs += [(f"{ARGUMENT}{name}", value) for name, value in (call.arguments or {}).items()]
        for role, value in inputs:
            yield [task, item, attempt, role, *self._copy_input(role, value, is_here=is_here)]
        if call.shared and task not in self._shared:
            self._shared.add(task)
            for name, value in call.shared.items():
                role = f"{ARGUMENT}{name}"
                yield [task, NO_ITEM, SHARED_ATTEMPT, role, *self._copy_input(role, value, is_here=is_here)]

    def returned(self, row: list[Any], context: Context) -> Iterator[list[Any]]:
        """Yields the row in `copies` of an attempt's value."""
        task, item, attempt, *_ = row
        yield [task, item, attempt, RETURNED, *self._copy(RETURNED, context, None)]

    def _copy_input(self, role: str, value: Any, *, is_here: bool) -> tuple[Any, ...]:
        """Returns what `_copy` does. An attempt in this process has the object itself, and may have changed it."""
        context = value if isinstance(value, Context) else Context(value)
        note = None
        if is_here and type(context.storage) not in IMMUTABLE:
            try:
                saved = None if self._run.saved is None else self._run.saved(context.storage)
            except Exception:  # of the storage, which may be the user's own
                saved = None
            if saved is None:
                note = AFTER
            else:
                context = saved
        return self._copy(role, context, note)

    def _copy(self, role: str, context: Context, note: str | None) -> tuple[Any, ...]:
        """Returns size, digest, document and note of a copy."""
        from dotflow.codec.canonical import digest  # here, since most runs copy nothing
        from dotflow.codec.document import pack

        size = _least_size(context.storage)
        if size > self._limit:
            return size, None, None, self._too_large(size)
        try:
            document = pack(role, context, pickle=self._pickle)
            value_digest = digest(context.storage) if self.keeps_all else None
        except Exception as error:  # of the codec, or of the user's own types
            reason = str(error) if isinstance(error, ValueNotStorable) else f"{type(error).__name__}: {error}"
            return None, None, None, shorten(self._run.masks.mask(reason))
        size = len(document)
        if size > self._limit:
            return size, value_digest, None, self._too_large(size)
        compressed = zlib.compress(document, FAST)
        self._left -= len(compressed)
        if self._left < 0:
            return size, value_digest, None, f"The copies of this run have {MAX_COPIES} times value_limit."
        return size, value_digest, compressed, note

    def _too_large(self, size: int) -> str:
        return f"It has {size} bytes, and value_limit is {self._limit}."


def _least_size(value: Any) -> int:
    """Returns a lower bound of the size in bytes, without encoding the value."""
    kind = type(value)
    if kind is str or kind is bytes:
        return len(value)
    size = getattr(value, "nbytes", 0) if kind.__module__.partition(".")[0] in SHAPED else 0
    return size if type(size) is int else 0
