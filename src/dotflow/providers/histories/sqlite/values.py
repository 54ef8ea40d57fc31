"""Values: glimpses of values, and copies from which a step can be replayed."""

import contextlib
import json
import os
import zlib
from collections.abc import Iterator
from typing import Any, Final

from dotflow.codec.canonical import digest
from dotflow.codec.document import pack
from dotflow.core.context import Context
from dotflow.core.events import AttemptStarted, MapOpened, RunStarted
from dotflow.core.masks import NO_MASKS, Masks
from dotflow.core.text import shorten
from dotflow.errors import ValueNotStorable
from dotflow.providers.histories.sqlite.glimpse import SHAPED, glimpse
from dotflow.providers.histories.sqlite.tables import ARGUMENT, INITIAL, PREVIOUS, RETURNED

KEPT: Final = ("failed", "all", "none")
FAST: Final = 1  # zlib's level

#: Types whose values a step can't change.
IMMUTABLE: Final = frozenset((bool, int, float, complex, str, bytes))
WORKER: Final = 9  # in a row of `attempts`, without the run

AFTER: Final = "It was copied after the attempt, which ran in the same process and may have changed it."


class Values:
    """What is kept of the values of a run.

    Args:
        kept: "failed": the inputs of failed tasks, and glimpses. "all": also inputs and values of all others, with
            digests. "none": nothing.
        limit: The maximum size of a copy, in bytes.
        pickle: Whether values that the codec refuses are pickled.
        masks: The secrets, which no glimpse shows. Copies have them.
    """

    def __init__(self, kept: str, limit: int, pickle: bool, masks: Masks = NO_MASKS) -> None:
        self.keeps_all = kept == "all"
        self._kept = kept
        self._limit = limit
        self._pickle = pickle
        self._masks = masks

    def glimpse(self, value: Any) -> str | None:
        """Returns a short text that shows a value; None if nothing is kept, or there is no value."""
        if value is None or self._kept == "none":
            return None
        with contextlib.suppress(Exception):  # of a type that pretends to be another one
            return glimpse(value, self._masks)
        return None

    def inputs(self, row: list[Any], started: AttemptStarted | MapOpened, run: RunStarted) -> Iterator[list[Any]]:
        """Yields the rows in `copies` of an attempt's inputs."""
        if self._kept == "none" or not isinstance(started, AttemptStarted):
            return
        task, item, attempt, *_ = row
        taken = run.steps[task].contexts
        for name, role, context in (
            ("previous_context", PREVIOUS, started.previous),
            ("initial_context", INITIAL, started.initial),
        ):
            if (name in taken or started.fallback) and context.storage is not None:
                yield [task, item, attempt, role, *self._copy(role, context, _may_have_changed(row, context.storage))]
        for name, value in {**(started.shared or {}), **(started.arguments or {})}.items():
            role = f"{ARGUMENT}{name}"
            context = value if isinstance(value, Context) else Context(value)
            yield [task, item, attempt, role, *self._copy(role, context, _may_have_changed(row, context.storage))]

    def returned(self, row: list[Any], context: Context) -> Iterator[list[Any]]:
        """Yields the row in `copies` of an attempt's value."""
        task, item, attempt, *_ = row
        yield [task, item, attempt, RETURNED, *self._copy(RETURNED, context, False)]

    def _copy(self, role: str, context: Context, has_changed: bool) -> tuple[Any, ...]:
        """Returns size, digest, document, why and source of a copy."""
        source = None if context.task_id is None else json.dumps([context.task_id, context.time.isoformat()])
        size = _least_size(context.storage)
        if size > self._limit:
            return size, None, None, self._too_large(size), source
        try:
            document = pack(role, context, pickle=self._pickle)
            value_digest = digest(context.storage) if self.keeps_all else None
        except ValueNotStorable as error:
            return None, None, None, shorten(self._masks.mask(str(error))), source
        except Exception as error:  # of the user's own types
            return None, None, None, shorten(self._masks.mask(f"{type(error).__name__}: {error}")), source
        if len(document) > self._limit:
            return len(document), value_digest, None, self._too_large(len(document)), source
        return len(document), value_digest, zlib.compress(document, FAST), AFTER if has_changed else None, source

    def _too_large(self, size: int) -> str:
        return f"It has {size} bytes, and value_limit is {self._limit}."


def _may_have_changed(row: list[Any], value: Any) -> bool:
    """Returns whether the attempt was made in this process, so that the step had the objects themselves."""
    worker = row[WORKER]
    return type(value) not in IMMUTABLE and (worker is None or worker == os.getpid())


def _least_size(value: Any) -> int:
    """Returns a lower bound of the size in bytes, without encoding the value."""
    kind = type(value)
    if kind is str or kind is bytes:
        return len(value)
    size = getattr(value, "nbytes", 0) if kind.__module__.partition(".")[0] in SHAPED else 0
    return size if type(size) is int else 0
