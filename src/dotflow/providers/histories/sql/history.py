"""SQLHistory: what readers see of a history in a database."""

import contextlib
import os
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dotflow import clock
from dotflow.abc.archive import Archive, NotedNumber, Since, TaskState
from dotflow.abc.history import History
from dotflow.abc.operations import Operations
from dotflow.core.attempt_id import ID_LENGTH
from dotflow.core.durations import TEXTS, to_seconds
from dotflow.core.types.capture import TypeCapture
from dotflow.core.types.run_state import TypeRunState
from dotflow.errors import InvalidArgument, NotInHistory
from dotflow.providers.histories.sql.database import Connection, Database
from dotflow.providers.histories.sql.reading import reading
from dotflow.providers.histories.sql.retention import GOING_ON, Keep, chains_of, overdue
from dotflow.providers.histories.sql.tables import micro
from dotflow.providers.histories.sql.values import KEPT

if TYPE_CHECKING:  # a run only writes, and imports none of them
    from dotflow.providers.histories.sql.records import Records
    from dotflow.records.record import CallPage, OutputChunk, OutputKey, RunRecord, RunSummary, ValueRecord

MAX_DOCUMENT: Final = 64_000_000  # bytes of a copy that is read, unless more are kept
NOTE: Final = "INSERT INTO notes (run, at, text) VALUES (?, ?, ?)"


class SQLHistory(Archive, History):
    """Reads the runs of a history: each call opens the database for a moment.

    Attributes:
        database: The database.
        keep: Which runs are kept.
        value_limit: The maximum size of the copy of a value, in bytes.
    """

    database: Database
    keep: Keep
    value_limit: int

    @abstractmethod
    def operations(self) -> Operations: ...

    @abstractmethod
    def contains(self, run_id: str) -> bool:
        """Returns whether a run is in the history; False where that can't be read."""

    def runs(
        self,
        *,
        state: str | Sequence[str] | None = None,
        workflow: str | None = None,
        since: Since | None = None,
        before: datetime | None = None,
        search: str = "",
        limit: int | None = 50,
        newest: bool = False,
    ) -> "list[RunSummary]":
        from dotflow.providers.histories.sql.records import ALL, RunFilter

        if limit is not None and (type(limit) is not int or limit < 0):
            raise InvalidArgument("limit", limit, "a number of runs, 0 or more, or None for all")
        number = ALL if limit is None else limit
        wanted = RunFilter(_states(state), workflow, search=search, limit=number, is_newest=newest)
        if since is not None:
            wanted = wanted._replace(since=as_moment("since", since))
        if before is not None:
            wanted = wanted._replace(until=micro(before) - 1)
        with self._records() as records:
            return list(records.runs(wanted))

    @contextlib.contextmanager
    def _records(self) -> "Iterator[Records]":
        from dotflow.providers.histories.sql.records import Records  # here: a run only writes

        with reading(self.database) as reader:
            yield Records(*reader)

    def summary(self, run: str) -> "RunSummary":
        with self._records() as records:
            return records.summary(records.find(run))

    def unmended(self, limit: int = 50) -> "list[RunSummary]":
        with self._records() as records:
            return records.unmended(limit)

    def queue(self, limit: int = 10) -> "tuple[list[RunSummary], int]":
        with self._records() as records:
            return records.next(limit)

    def recent(self, workflows: Sequence[str], limit: int = 20) -> "dict[str, list[RunSummary]]":
        with self._records() as records:
            return records.recent(workflows, limit)

    def workflows(self) -> list[str]:
        with self._records() as records:
            return records.workflows()

    def task_states(self, runs: Sequence[str]) -> list[list[TaskState]]:
        with self._records() as records:
            return [records.task_states(records.find(run)) for run in runs]

    def noted_numbers(self, runs: Sequence[str]) -> list[list[NotedNumber]]:
        with self._records() as records:
            return [records.noted_numbers(records.find(run)) for run in runs]

    def load(self, run: str = "last") -> "RunRecord":
        with self._records() as records:
            return records.load(records.find(run))

    def output(self, run: str, step: str | None = None, *, attempt: int | None = None) -> "list[OutputChunk]":
        with self._records() as records:
            return records.output(*records.select(run, step, attempt))

    def calls(
        self,
        run: str,
        step: str,
        *,
        attempt: int | None = None,
        before: int | None = None,
        limit: int | None = 20,
    ) -> "CallPage":
        with self._records() as records:
            number, found = records.select(run, step, attempt)
            return records.calls(number, found, before, limit)

    def all_calls(
        self, run: str, limit: int = 20, *, items: "Collection[tuple[int, int]] | None" = None
    ) -> "dict[tuple[int, int | None], CallPage]":
        with self._records() as records:
            return records.all_calls(records.find(run), limit, items)

    def output_sizes(self, run: str) -> "dict[OutputKey, int]":
        with self._records() as records:
            return records.sizes(records.find(run))

    def output_tails(self, run: str, sizes: "Mapping[OutputKey, int]") -> "list[OutputChunk]":
        with self._records() as records:
            return records.tails(records.find(run), sizes)

    def follow(self, run: str, step: str | None = None, *, attempt: int | None = None) -> "Iterator[list[OutputChunk]]":
        with self._records() as records:
            number, selection = records.select(run, step, attempt)
        seen: dict[tuple[int, int, int], int] = {}
        is_running = True
        while is_running:
            with self._records() as records:
                is_running = records.is_running(number)
                chunks = records.new_output(number, selection, seen)
            yield chunks

    def report(self, run: str, path: str | os.PathLike[str]) -> Path:
        from dotflow.report.document import read_document
        from dotflow.report.page import write_page

        return write_page(path, read_document(self, run, self.option))

    def copies(
        self, run: str, step: str | None = None, *, attempt: int | None = None, documents: bool = True
    ) -> "list[ValueRecord]":
        with self._records() as records:
            number, found = records.select(run, step, attempt)
            if found.round is not None:
                raise NotInHistory(f"Can't find the values of '{step}'", f"it is a map. Name an item: {found.example}")
            limit = max(self.value_limit, MAX_DOCUMENT) if documents else None
            return records.copies(number, found, limit)

    def overdue(self) -> float:
        return overdue(self.database.run, self.keep, self.database.now())

    def forgettable(self, connection: Connection, numbers: list[int]) -> list[int]:
        """Returns runs with the others of their chains. Raises NotInHistory if one goes on."""
        for number in numbers:
            for run_id, state in connection.execute(GOING_ON, (number,)):
                reason = "it is still running. Stop it first"
                if state != TypeRunState.RUNNING:
                    reason = f"it is {state.lower()}. Cancel it first"
                raise NotInHistory(f"Can't forget the run {run_id[:ID_LENGTH]}", reason)
        return chains_of(connection, numbers)


def _states(state: str | Sequence[str] | None) -> list[TypeRunState]:
    if state is None:
        return []
    known = {str(member).lower(): member for member in TypeRunState}
    names = [state] if isinstance(state, str) else list(state)
    if not all(isinstance(name, str) and name.lower() in known for name in names):
        raise InvalidArgument("state", state, f"one of {', '.join(TypeRunState)}, or several of them")
    return [known[name.lower()] for name in names]


def as_moment(name: str, since: Since) -> int:
    """Returns a moment, or the one of an age, in microseconds since 1970. Raises InvalidArgument."""
    if isinstance(since, datetime):
        return micro(since)
    if isinstance(since, timedelta):
        return micro(clock.now() - since)
    seconds = to_seconds(since)
    if seconds is None:
        raise InvalidArgument(name, since, f"a datetime, a timedelta, a number of seconds, or {TEXTS}")
    return micro(clock.now() - timedelta(seconds=seconds))


def check_arguments(capture: object, values: object, output_limit: object, value_limit: object, pickle: object) -> None:
    """Checks the arguments that the histories share. Raises InvalidArgument."""
    _check("capture", capture, capture in tuple(TypeCapture), '"auto", "streams", "fd" or "none"')
    _check("values", values, values in KEPT, '"failed", "all" or "none"')
    _check("output_limit", output_limit, _is_size(output_limit), "a number of bytes, 0 or more")
    _check("value_limit", value_limit, _is_size(value_limit), "a number of bytes, 0 or more")
    _check("pickle", pickle, isinstance(pickle, bool), "True or False")


def _is_size(value: object) -> bool:
    return type(value) is int and value >= 0


def _check(name: str, value: object, is_valid: bool, accepted: str) -> None:
    if not is_valid:
        raise InvalidArgument(name, value, accepted)
