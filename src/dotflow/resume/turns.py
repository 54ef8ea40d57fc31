"""Turn: the part of one run among those that work on one workflow. They save and void in turns."""

import threading
import weakref
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager

from dotflow.abc.storage import Storage
from dotflow.core.attempt_id import ID_LENGTH
from dotflow.core.task import Task
from dotflow.errors import WorkflowBusy
from dotflow.resume.journal import Journal
from dotflow.resume.saved_values import reason_of, usable
from dotflow.worker.interrupts import in_forked_child


class _Shared:
    """What the runs of this process share that work on one workflow.

    The lock is taken by `with` itself: a generator in between would keep it after a signal, as long as the traceback is
    kept.

    Args:
        storage: Stays alive as long as this, so that no other storage is given its id.
    """

    journal: Journal  # as the open runs know it

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.lock = threading.RLock()
        self.turns: set[Turn] = set()  # of the runs that are open


_guard = threading.Lock()
_shared: "weakref.WeakValueDictionary[Hashable, _Shared]" = weakref.WeakValueDictionary()


@in_forked_child
def _begin_anew() -> None:
    """Resets the module in a forked process, where a thread that is gone may hold a lock."""
    global _guard
    _guard = threading.Lock()
    _shared.clear()


class Turn:
    """Whether the values of one run count, and when it may save them: no value of an older run is saved after a newer
    one has begun.

    Args:
        storage: Where the values are.
        workflow_id: The workflow.
        exclusive: Whether the workflow is locked against other processes during the run.
        run_id: The run.
        log_line: Writes a line into the log.

    Attributes:
        lock: What saves and voids take.
        is_exclusive: Whether the workflow is locked against other processes during the run.
        is_void: Whether a newer run has voided the values of this one.
    """

    def __init__(
        self, storage: Storage, workflow_id: str, *, exclusive: bool, run_id: str, log_line: Callable[..., None]
    ) -> None:
        self._storage = storage
        self._workflow_id = workflow_id
        self._run_id = run_id
        self._log_line = log_line
        self._shared = _Shared(storage)
        self._is_claimed = self._has_reported = False
        self._workflow_lock: AbstractContextManager[Hashable] | None = None
        self.lock = self._shared.lock
        self.is_exclusive = exclusive
        self.is_void = False

    @property
    def is_alone(self) -> bool:
        """Whether no other run of this process works on the workflow."""
        return len(self._shared.turns) == 1

    def begin(self, tasks: Sequence[Task], *, is_claimed: bool) -> Journal:
        """Locks the workflow against other processes, joins the other runs of this one, and returns their journal.

        A run that was taken from a queue shares its values with none. Raises WorkflowBusy.
        """
        key: Hashable = None
        if self.is_exclusive:
            with usable(self._storage):
                lock = self._storage.lock(self._workflow_id)
                key = lock.__enter__()
                self._workflow_lock = lock
        with _guard:
            place = (id(self._storage) if key is None else key, self._workflow_id)
            self._shared = shared = _shared.setdefault(place, self._shared)
            self.lock = shared.lock
            for other in shared.turns.copy() if self.is_exclusive else ():
                if is_claimed or other._is_claimed:
                    raise WorkflowBusy(self._workflow_id, f"run {other._run_id[:ID_LENGTH]}", "this process")
            self._is_claimed = is_claimed
            if all(other.is_void for other in shared.turns):  # other processes may have written it since
                is_shared = self.is_exclusive and key is None
                shared.journal = Journal(self._storage, self._workflow_id, tasks, is_shared=is_shared)
            shared.turns.add(self)
            return shared.journal

    def void_others(self) -> None:
        """Voids the values that other runs of this process would still save."""
        for other in self._shared.turns.copy():
            other.is_void = other is not self

    def report_void(self) -> None:
        """Logs once that values are not saved."""
        if not self._has_reported:
            self._has_reported = True
            self._log_line(
                f"Workflow {self._workflow_id!r} was started anew during this run: only the newer run's values "
                f"are saved, and this run's stay in memory."
            )

    def give_up(self) -> None:
        """Leaves the values to another process."""
        with self.lock:
            self.is_void = self._has_reported = True

    def close(self) -> None:
        """Releases the lock on the workflow, or logs that it can't be released. May be called again."""
        try:
            self._leave()
        except KeyboardInterrupt:  # finish first, then raise
            self._leave()
            raise

    def _leave(self) -> None:
        self._shared.turns.discard(self)
        if self._workflow_lock is not None:
            try:
                self._workflow_lock.__exit__(None, None, None)
            except Exception as error:  # the storage may be the user's; what the run did stays as it is
                self._log_line(
                    f"The lock on workflow {self._workflow_id!r} can't be released: {reason_of(error)}. "
                    f"Other processes can run the workflow when this one has ended."
                )
            self._workflow_lock = None
