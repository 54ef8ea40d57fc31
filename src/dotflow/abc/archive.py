"""Archive: the runs of a history that can be read."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dotflow.core.text import shorten
from dotflow.core.types.attempt_state import TypeAttemptState
from dotflow.core.types.run_state import TypeRunState
from dotflow.errors import NotInHistory

if TYPE_CHECKING:  # a run only writes, and does not need them
    import os
    from pathlib import Path

    from dotflow.records.record import CallPage, OutputChunk, OutputKey, RunRecord, RunSummary, ValueRecord

#: A moment, or an age: a timedelta, seconds, or a text such as "2d".
Since = datetime | timedelta | float | str

#: The states of the runs that `failed` means.
FAILURES: Final = (TypeRunState.FAILED, TypeRunState.CRASHED)

#: What names a run in place of an id.
LAST, PREVIOUS, FAILED = NAMES = ("last", "previous", "failed")

LATEST: Final = 1000  # runs whose workflows are listed


class TaskState(NamedTuple):
    """A task of a run without its attempts: its state, None if it has not begun, and its duration in seconds."""

    task_id: int
    name: str
    state: TypeAttemptState | None
    duration: float | None


class NotedNumber(NamedTuple):
    """A number that a task has noted, in its last attempt; of a map the mean of its *items* that have noted it."""

    task_id: int
    name: str
    items: int
    number: float


class Archive(ABC):
    """Reads the runs of a history. Methods that others suffice for are made of them: override what is faster at once.

    A run is named by its id, or a unique beginning of that with 4 characters or more; by `last`: the last one that
    began, `previous`: the one before it, another chain, or `failed`: the last one that failed or crashed. These words
    leave out runs that a step started. The id or the name of a workflow is its last run that began, or else the last
    one in the queue: `etl`; with parameters, that which has these values: `etl@day=2026-12-02`; with a word before it,
    that one of its runs: `failed:etl`. An id comes first. A step is named by its name, the number of its task, or with
    an item: `fetch#411`.

    All methods raise NotInHistory if there is no such run or step, and HistoryError if the history can't be read.

    Attributes:
        pickle: Whether pickled copies are read. Reading a pickle can run any program.
        reuses_space: Whether what is forgotten makes room for other runs, and none outside of the history.
    """

    pickle: bool = False
    reuses_space: bool = False

    def why_foreign(self) -> str:
        """Returns why nothing that the history says is run unasked; "" for this user's own history."""
        return "it is not a file of this user"

    @property
    def option(self) -> str | None:
        """The value of --history that names it in a command of the current folder; None for the default one."""
        return None

    @abstractmethod
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
        """Returns runs, the newest first.

        Args:
            state: Only runs in this state, or in one of several: TypeRunState, or its text in any case.
            workflow: Only runs of this workflow: its id, that without parameters or key, or its name.
            since: Only runs that began since this moment, or are not older than that: `"2d"`.
            before: Only runs that began before this moment.
            search: Only runs with this text, in any case, in their id, workflow, name or error.
            limit: The maximum number; None for all.
            newest: Whether to leave out the runs that others continue: a run and its continuations are one then.
        """

    @abstractmethod
    def load(self, run: str = "last") -> "RunRecord":
        """Returns a run with its tasks, attempts and errors."""

    @abstractmethod
    def summary(self, run: str) -> "RunSummary":
        """Returns a run without its tasks."""

    @abstractmethod
    def unmended(self, limit: int = 50) -> "list[RunSummary]":
        """Returns the runs that failed or crashed, and have no newer run of their workflow with their parameters.

        Runs that steps have started are left out, and those of workflows without an id and a name.
        """

    @abstractmethod
    def queue(self, limit: int = 10) -> "tuple[list[RunSummary], int]":
        """Returns the runs that begin next of those in the queue, and how many are in there."""

    def recent(self, workflows: Sequence[str], limit: int = 20) -> "dict[str, list[RunSummary]]":
        """Returns the latest runs of several workflows, each as `runs` finds it, the newest first."""
        return {workflow: self.runs(workflow=workflow, limit=limit) for workflow in workflows}

    @abstractmethod
    def workflows(self) -> list[str]:
        """Returns the workflows of the latest runs, the last one first: ids without parameters, or names."""

    def task_states(self, runs: Sequence[str]) -> list[list[TaskState]]:
        """Returns the tasks of several runs, without their attempts and items."""
        tasks = (self.load(run).steps for run in runs)
        return [[TaskState(one.task_id, one.name, one.state, one.duration) for one in of_run] for of_run in tasks]

    @abstractmethod
    def noted_numbers(self, runs: Sequence[str]) -> list[list[NotedNumber]]:
        """Returns the numbers that the tasks of several runs have noted."""

    def revision(self) -> str | None:
        """Returns a text that differs from an earlier one if runs have changed, or the process of one has ended.

        It counts for this object and this process only. It is "" where there is no history yet, and None, the default,
        where this can't be found out quickly.
        """
        return None

    @abstractmethod
    def output(self, run: str, step: str | None = None, *, attempt: int | None = None) -> "list[OutputChunk]":
        """Returns what a step wrote to stdout and stderr, in the order of arrival; without a step, what the run wrote.

        Args:
            run: The run.
            step: The step, with all items of a map, or one item.
            attempt: One attempt; by default all.
        """

    def output_sizes(self, run: str) -> "dict[OutputKey, int]":
        """Returns the number of bytes that each attempt of a run wrote, as far as they were kept."""
        sizes: Counter[OutputKey] = Counter()
        for chunk in self.output(run):
            if chunk.stream:
                sizes[chunk.key] += len(chunk.data)
        return dict(sizes)

    @abstractmethod
    def output_tails(self, run: str, sizes: "Mapping[OutputKey, int]") -> "list[OutputChunk]":
        """Returns the ends of outputs: of each attempt in *sizes* the last bytes, up to the number there."""

    @abstractmethod
    def calls(
        self,
        run: str,
        step: str,
        *,
        attempt: int | None = None,
        before: int | None = None,
        limit: int | None = 20,
    ) -> "CallPage":
        """Returns calls that a durable step has made in a run; none of others. What was given back was made before.

        Of each attempt, the first and the last 500 are there.

        Args:
            run: The run.
            step: The step, or an item.
            attempt: Only those of this attempt.
            before: Only those with a smaller number.
            limit: The maximum number, the last ones; None for all.
        """

    @abstractmethod
    def all_calls(
        self, run: str, limit: int = 20, *, items: "Collection[tuple[int, int]] | None" = None
    ) -> "dict[tuple[int, int | None], CallPage]":
        """Returns the last calls of each durable step of a run, by the ids of tasks and the indices of items.

        *items* are the tasks and indices of the items that count; None for all.
        """

    @abstractmethod
    def follow(self, run: str, step: str | None = None, *, attempt: int | None = None) -> "Iterator[list[OutputChunk]]":
        """Yields what `output` returns, and again and again what is new, until the run has ended.

        It yields an empty list if nothing is new; the caller waits then.
        """

    @abstractmethod
    def report(self, run: str, path: "str | os.PathLike[str]") -> "Path":
        """Writes a run as one HTML file, to look at or to mail: as a whole or not at all. Returns the path.

        Raises:
            OSError: The file can't be written.
        """

    @abstractmethod
    def copies(
        self, run: str, step: str | None = None, *, attempt: int | None = None, documents: bool = True
    ) -> "list[ValueRecord]":
        """Returns the copies of the values that attempts took and returned.

        Args:
            run: The run.
            step: The step, or an item; by default all of them.
            attempt: The attempt; by default the last one that has any.
            documents: Whether to read the values themselves; else those that were kept are empty.
        """

    def value(self, run: str, step: str, role: str = "returned", *, attempt: int | None = None) -> Any:
        """Returns a value that an attempt took or returned.

        Args:
            run: The run.
            step: The step, or an item.
            role: "returned", "previous", "initial", or "argument:" and the name of a parameter.
            attempt: The attempt; by default the last one with any value.

        Raises:
            NotInHistory: The value was not kept.
            CheckpointUnreadable: It can't be restored.
        """
        from dotflow.codec.document import unpack  # here: a run only writes

        copies = self.copies(run, step, attempt=attempt)
        what = f"Can't find the value '{role}' of '{step}'"
        for copy in copies:
            if copy.role != role:
                continue
            if copy.document is None:
                raise NotInHistory(what, f"it was not kept: {copy.note}")
            return unpack(copy.document, role, pickle=self.pickle).storage
        kept = shorten(", ".join(copy.role for copy in copies)) or "no values of this step"
        raise NotInHistory(what, f"the history has {kept}. values='all' keeps all values")

    def note(self, run: str, text: str) -> None:  # noqa: B027 (optional)
        """Adds a note to a run. By default it does nothing.

        Raises:
            NotInHistory: There is no such run.
            HistoryError: It can't be written.
        """

    @abstractmethod
    def forget(self, *runs: str, older_than: Since | None = None) -> int:
        """Deletes runs that have ended, and shrinks the file. Returns their number.

        A run is deleted with the others of its chain, those that it continues or that continue it, by the last of them.

        Args:
            *runs: The runs.
            older_than: All runs that ended before this moment, or are older than that: `"30d"`, `0` for all.

        Raises:
            NotInHistory: One of the runs is queued, running or paused. None is deleted then.
        """
