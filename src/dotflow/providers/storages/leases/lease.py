"""A lease: one process at a time works on a workflow, on whichever machine it is.

There is one small text for each workflow, which is only ever written by compare-and-swap: an object that is put on the
condition that it is still the one that was read, or a row. It says who holds the workflow, and carries what else a
storage has to know of it.

No machine's clock is compared with another's. How old the text is, the service says, by its own clock; how long a
holder may still write, it knows by its own, counted from before it sent its last renewal.
"""

import contextlib
import threading
import uuid
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import Any, Final

from dotflow import clock
from dotflow.core.durations import as_seconds
from dotflow.errors import LeaseLost, StorageError, WorkflowBusy
from dotflow.providers.storages.leases.lease_record import Entry, LeaseRecord, read_record
from dotflow.providers.storages.leases.process_identity import is_dead_here, this_process

SHORTEST: Final = 1.0  # seconds; services tell the time in whole ones
RENEWALS: Final = 3  # begun in the time that a lease lasts, so that two may fail
#: A holder stops that share of its time early, and a challenger waits that share longer: what their clocks may drift
#: apart in one lease, and what a write that has begun may take.
MARGIN: Final = 1 / 6
GRAIN: Final = 1.0  # seconds; HTTP's dates have no fractions, so an age may be one more or less
DELETED: Final = "its entry was deleted, so nobody knows who has it"
RACES: Final = 5  # that are lost to others before it is given up


class Register(ABC):
    """Where the text of one workflow is kept.

    Attributes:
        name: The place, the same for all objects that mean this one.
        where: The place, for readers.
    """

    name: Hashable
    where: str

    @abstractmethod
    def read(self) -> Entry | None:
        """What is there, if anything. Raises StorageError."""

    @abstractmethod
    def write(self, text: str, version: str | None) -> str | None:
        """Writes it if what is there is still *version* (None: nothing), and gives its version; None if it is not.

        Raises StorageError, and then nobody knows whether it was written.
        """

    @property
    def brief(self) -> "Register":
        """The same one, where what isn't answered is soon given up: for renewing, since there will be a next time."""
        return self


def check_seconds(lease: object) -> float:
    """The seconds that a lease lasts. Raises InvalidArgument."""
    return as_seconds("lease", lease, least=SHORTEST)


class Lease:
    """A workflow that this process holds, or tries to. Any thread may use it.

    Args:
        register: Where it is written.
        workflow_id: The workflow, for readers.
        seconds: That it lasts after each renewal.
    """

    def __init__(self, register: Register, workflow_id: str, seconds: float) -> None:
        self._register = register
        self._workflow_id = workflow_id
        self._seconds = seconds
        self._token = uuid.uuid4().hex
        self._turn = threading.RLock()
        self._over = threading.Event()
        self._note = LeaseRecord()
        self._version: str | None = None
        self._until = 0.0  # by clock.elapsed; before it, nobody else can have taken it
        self._leaving_until: float | None = None  # by the same; how long it is tried to give it back
        self._lost = ""  # how

    @property
    def more(self) -> Mapping[str, Any]:
        """What the storage keeps beside it."""
        return self._note.more

    @property
    def token(self) -> str:
        """By which what is written there is known to be this holding's."""
        return self._token

    def take(self, **defaults: Any) -> None:
        """Takes it and keeps it until it is given back.

        Args:
            **defaults: What the storage wants to be there, if it isn't yet.

        Raises:
            WorkflowBusy: Another process has it.
            StorageError: Nobody can tell.
        """
        for _ in range(RACES):
            entry = self._register.read()
            found = read_record(entry, self._register.where)
            self._refuse_if_busy(found, entry)
            self._version = None if entry is None else entry.version
            holder = {**this_process(), "since": clock.now().isoformat(timespec="seconds")}
            # Known before it is written: what an interrupt leaves undecided has to be given back.
            self._note = replace(found, holder=holder, token=self._token, more={**defaults, **found.more})
            if self._write(self._note):
                threading.Thread(target=self._keep, name="dotflow-lease", daemon=True).start()
                return
        raise WorkflowBusy(self._workflow_id, self._register.where, "other processes that begin just now")

    def check(self) -> None:
        """Raises StorageError unless nobody else can have the workflow now; renews what is about to expire."""
        if not self._lost and clock.elapsed() < self._until:
            return
        with self._turn:
            if not self._lost and clock.elapsed() >= self._until:
                self._write(self._note)
            if self._lost:
                raise self._told()

    def change(self, **more: Any) -> None:
        """Writes down something else that the storage keeps here. Raises StorageError, where it is lost too."""
        with self._turn:
            self.check()
            if not self._write(replace(self._note, more={**self._note.more, **more})):
                raise self._told()

    def remember(self, **more: Any) -> None:
        """The same, with the next renewal: what may as well be forgotten."""
        with self._turn:
            self._note = replace(self._note, more={**self._note.more, **more})

    def give_back(self) -> None:
        """Lets others have it. Where that can't be written soon, it expires. May be called again, in the same time."""
        self._over.set()
        now = clock.elapsed()
        if self._leaving_until is None:
            self._leaving_until = now + self._seconds * MARGIN
        left = self._leaving_until - now
        if left <= 0 or not self._turn.acquire(timeout=left):  # behind a renewal that nobody answers
            return
        try:
            if self._note.holder is not None and not self._lost:
                with contextlib.suppress(StorageError):
                    self._write(replace(self._note, holder=None), self._register.brief)
        finally:
            self._turn.release()

    def _keep(self) -> None:
        """Renews it, in a thread of its own: from one beginning to the next, however long one takes to fail."""
        begun = clock.elapsed()
        while not self._over.wait(max(0.0, begun + self._seconds / RENEWALS - clock.elapsed())):
            begun = clock.elapsed()
            with self._turn, contextlib.suppress(Exception):  # an SDK's too: whoever writes next is told
                if self._lost or self._over.is_set():
                    return
                self._write(self._note, self._register.brief)

    def _write(self, note: LeaseRecord, register: Register | None = None) -> bool:
        """Whether it is written; if not, it belongs to somebody else."""
        register = register or self._register
        with self._turn:
            sent = clock.elapsed()
            note = replace(note, beat=max(note.beat, self._note.beat) + 1, seconds=self._seconds)
            version = register.write(note.text(), self._version)
            if version is None:
                # What is there may be our own: an answer that was lost on its way, to a write that was then repeated.
                entry = register.read()
                found = read_record(entry, register.where)
                if entry is None or found.token != self._token:
                    self._lost = DELETED if entry is None else f"its lease ran out, and {_who(found)} has it now"
                    return False
                note = replace(note, beat=found.beat + 1)
                version = register.write(note.text(), entry.version)
                if version is None:
                    self._lost = "its lease ran out, and another process has it now"
                    return False
            self._note, self._version = note, version
            self._lost = ""
            self._until = sent + self._seconds * (1 - MARGIN)
            return True

    def _refuse_if_busy(self, found: LeaseRecord, entry: Entry | None) -> None:
        if entry is None or found.holder is None or is_dead_here(found.holder):
            return
        left = found.seconds * (1 + MARGIN) + GRAIN - entry.age
        if left > 0:
            where = f"{self._register.where}; if that process is gone, it is free in {left:.0f} s"
            raise WorkflowBusy(self._workflow_id, where, _who(found), str(found.holder.get("since", "")))

    def _told(self) -> LeaseLost:
        return LeaseLost(
            f"The workflow {self._workflow_id!r} is no longer this process's, so nothing was written",
            f"{self._lost} ({self._register.where}). Let that run end, or stop it and start again with resume=True",
        )


def _who(note: LeaseRecord) -> str:
    if note.holder is None:
        return "another process, which has ended,"
    return f"process {note.holder.get('process')} on host {note.holder.get('host')}"
