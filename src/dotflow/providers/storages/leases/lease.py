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

MIN_SECONDS: Final = 1.0  # seconds; services tell the time in whole ones
RENEWALS_PER_LEASE: Final = 3  # begun in the time that a lease lasts, so that two may fail
#: A holder stops that share of its time early, and a challenger waits that share longer: what their clocks may drift
#: apart in one lease, and what a write that has begun may take.
MARGIN: Final = 1 / 6
AGE_RESOLUTION: Final = 1.0  # seconds; HTTP's dates have no fractions, so an age may be one more or less
DELETED: Final = "its entry was deleted, so nobody knows who has it"
MAX_RACES: Final = 5  # that are lost to others before it is given up


class Register(ABC):
    """Where the text of one workflow is kept.

    Attributes:
        name: The place, the same for all objects that mean this one.
        where: The place, for readers.
    """

    key: Hashable
    location: str

    @abstractmethod
    def read(self) -> Entry | None:
        """What is there, if anything. Raises StorageError."""

    @abstractmethod
    def write(self, text: str, version: str | None) -> str | None:
        """Writes it if what is there is still *version* (None: nothing), and gives its version; None if it is not.

        Raises StorageError, and then nobody knows whether it was written.
        """

    @property
    def short_timeout(self) -> "Register":
        """The same one, where what isn't answered is soon given up: for renewing, since there will be a next time."""
        return self


def check_seconds(lease: object) -> float:
    """The seconds that a lease lasts. Raises InvalidArgument."""
    return as_seconds("lease", lease, least=MIN_SECONDS)


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
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._record = LeaseRecord()
        self._version: str | None = None
        self._valid_until = 0.0  # by clock.elapsed; before it, nobody else can have taken it
        self._release_deadline: float | None = None  # by the same; how long it is tried to give it back
        self._loss_reason = ""  # how

    @property
    def extra(self) -> Mapping[str, Any]:
        """What the storage keeps beside it."""
        return self._record.extra

    @property
    def token(self) -> str:
        """By which what is written there is known to be this holding's."""
        return self._token

    def acquire(self, **defaults: Any) -> None:
        """Takes it and keeps it until it is given back.

        Args:
            **defaults: What the storage wants to be there, if it isn't yet.

        Raises:
            WorkflowBusy: Another process has it.
            StorageError: Nobody can tell.
        """
        for _ in range(MAX_RACES):
            entry = self._register.read()
            current = read_record(entry, self._register.location)
            self._refuse_if_busy(current, entry)
            self._version = None if entry is None else entry.version
            holder = {**this_process(), "since": clock.now().isoformat(timespec="seconds")}
            # Known before it is written: what an interrupt leaves undecided has to be given back.
            self._record = replace(current, holder=holder, token=self._token, extra={**defaults, **current.extra})
            if self._write(self._record):
                threading.Thread(target=self._renew, name="dotflow-lease", daemon=True).start()
                return
        raise WorkflowBusy(self._workflow_id, self._register.location, "other processes that begin just now")

    def check(self) -> None:
        """Raises StorageError unless nobody else can have the workflow now; renews what is about to expire."""
        if not self._loss_reason and clock.elapsed() < self._valid_until:
            return
        with self._lock:
            if not self._loss_reason and clock.elapsed() >= self._valid_until:
                self._write(self._record)
            if self._loss_reason:
                raise self._lost_error()

    def update(self, **extra: Any) -> None:
        """Writes down something else that the storage keeps here. Raises StorageError, where it is lost too."""
        with self._lock:
            self.check()
            if not self._write(replace(self._record, extra={**self._record.extra, **extra})):
                raise self._lost_error()

    def update_later(self, **extra: Any) -> None:
        """The same, with the next renewal: what may as well be forgotten."""
        with self._lock:
            self._record = replace(self._record, extra={**self._record.extra, **extra})

    def release(self) -> None:
        """Lets others have it. Where that can't be written soon, it expires. May be called again, in the same time."""
        self._stopped.set()
        now = clock.elapsed()
        if self._release_deadline is None:
            self._release_deadline = now + self._seconds * MARGIN
        remaining = self._release_deadline - now
        if remaining <= 0 or not self._lock.acquire(timeout=remaining):  # behind a renewal that nobody answers
            return
        try:
            if self._record.holder is not None and not self._loss_reason:
                with contextlib.suppress(StorageError):
                    self._write(replace(self._record, holder=None), self._register.short_timeout)
        finally:
            self._lock.release()

    def _renew(self) -> None:
        """Renews it, in a thread of its own: from one beginning to the next, however long one takes to fail."""
        begun = clock.elapsed()
        while not self._stopped.wait(max(0.0, begun + self._seconds / RENEWALS_PER_LEASE - clock.elapsed())):
            begun = clock.elapsed()
            with self._lock, contextlib.suppress(Exception):  # an SDK's too: whoever writes next is told
                if self._loss_reason or self._stopped.is_set():
                    return
                self._write(self._record, self._register.short_timeout)

    def _write(self, record: LeaseRecord, register: Register | None = None) -> bool:
        """Whether it is written; if not, it belongs to somebody else."""
        register = register or self._register
        with self._lock:
            sent_at = clock.elapsed()
            record = replace(record, revision=max(record.revision, self._record.revision) + 1, seconds=self._seconds)
            version = register.write(record.text(), self._version)
            if version is None:
                # What is there may be our own: an answer that was lost on its way, to a write that was then repeated.
                entry = register.read()
                current = read_record(entry, register.location)
                if entry is None or current.token != self._token:
                    holder = _describe_holder(current)
                    self._loss_reason = DELETED if entry is None else f"its lease ran out, and {holder} has it now"
                    return False
                record = replace(record, revision=current.revision + 1)
                version = register.write(record.text(), entry.version)
                if version is None:
                    self._loss_reason = "its lease ran out, and another process has it now"
                    return False
            self._record, self._version = record, version
            self._loss_reason = ""
            self._valid_until = sent_at + self._seconds * (1 - MARGIN)
            return True

    def _refuse_if_busy(self, current: LeaseRecord, entry: Entry | None) -> None:
        if entry is None or current.holder is None or is_dead_here(current.holder):
            return
        remaining = current.seconds * (1 + MARGIN) + AGE_RESOLUTION - entry.age
        if remaining > 0:
            location = f"{self._register.location}; if that process is gone, it is free in {remaining:.0f} s"
            since = str(current.holder.get("since", ""))
            raise WorkflowBusy(self._workflow_id, location, _describe_holder(current), since)

    def _lost_error(self) -> LeaseLost:
        return LeaseLost(
            f"The workflow {self._workflow_id!r} is no longer this process's, so nothing was written",
            f"{self._loss_reason} ({self._register.location}). "
            "Let that run end, or stop it and start again with resume=True",
        )


def _describe_holder(record: LeaseRecord) -> str:
    if record.holder is None:
        return "another process, which has ended,"
    return f"process {record.holder.get('process')} on host {record.holder.get('host')}"
