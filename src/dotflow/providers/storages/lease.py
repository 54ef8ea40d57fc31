"""A lease: one process at a time works on a workflow, on any machine.

Each workflow has one small text, an object or a row, that is only written by compare-and-swap.
It names the holder, and carries what else the storage keeps for the workflow.

No two machines' clocks are compared. The service reports the age of the text by its own clock.
The holder measures by its own how long it may still write, from before it sent its last renewal.
"""

import contextlib
import json
import os
import socket
import threading
import uuid
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

from dotflow import clock
from dotflow.abc.shared_lock import SharedLock
from dotflow.core.durations import as_seconds, is_seconds
from dotflow.errors import LeaseLost, StorageError, WorkflowBusy

#: The fields 3 and 22 of /proc/pid/stat, counted after the name: proc(5).
STATE, STARTED = 0, 19
DEAD = frozenset("ZX")


def this_process() -> dict[str, Any]:
    """Returns host and process id, and what makes the id unique: the boot of the machine, the start of the process."""
    pid = os.getpid()
    return {"host": socket.gethostname(), "process": pid, "machine": _machine_id(), "started": _stat(pid)[1]}


def is_dead_here(holder: Mapping[str, Any]) -> bool:
    """Returns whether a process has certainly ended, which is only known of this machine's processes."""
    pid, machine = holder.get("process"), holder.get("machine")
    if not machine or (machine, holder.get("host")) != (_machine_id(), socket.gethostname()):
        return False
    if type(pid) is not int or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # another user's process
        return False
    state, started = _stat(pid)
    return state in DEAD or bool(started and started != holder.get("started"))


def _machine_id() -> str:
    """Returns the boot of this machine and the namespace of its process ids; "" where the system has none."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _stat(pid: int) -> tuple[str, str]:
    """Returns the state of a process and its start in ticks; "" where the system has none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[STATE], fields[STARTED]
    except (OSError, IndexError):
        return "", ""


SECONDS: Final = 30.0  # the default duration of a lease: a dead machine blocks a workflow for as long


class RegisterText(NamedTuple):
    """The text as it was read.

    Attributes:
        text: The text.
        version: Its version, the condition of the next write.
        age: Seconds since it was written, by the service's clock.
    """

    text: str
    version: str
    age: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRecord:
    """The content of the text.

    Attributes:
        holder: The process that holds the workflow: host, process, since, and its identity; None if free.
        token: Identifies the holder's lease.
        revision: Counts the writes, so that no two texts are equal.
        seconds: How long the lease lasts from this write on.
        extra: What the storage keeps in the text.
    """

    holder: Mapping[str, Any] | None = None
    token: str = ""
    revision: int = 0
    seconds: float = SECONDS
    extra: Mapping[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """Returns the text: JSON, one field a line."""
        own = {"holder": self.holder, "lease": self.seconds, "beat": self.revision, "token": self.token}
        return json.dumps({**self.extra, **own}, indent=2) + "\n"


def read_record(entry: RegisterText | None, location: str) -> LeaseRecord:
    """Returns the record in a text; an empty record without one.

    Raises:
        StorageError: The text is not a lease record.
    """
    if entry is None:
        return LeaseRecord()
    try:
        extra = json.loads(entry.text)
        holder, seconds, revision, token = (extra.pop(name) for name in ("holder", "lease", "beat", "token"))
        if not (holder is None or isinstance(holder, dict)) or not is_seconds(seconds) or type(revision) is not int:
            raise ValueError("wrong fields")
    except (ValueError, KeyError, AttributeError, TypeError):
        raise invalid_record(location) from None
    return LeaseRecord(holder=holder, token=str(token), revision=revision, seconds=float(seconds), extra=extra)


def invalid_record(location: str) -> StorageError:
    """Returns the error for a text that is not a lease record."""
    advice = "Repair it, or delete it to void the workflow's checkpoints"
    return StorageError(f"{location} can't be read", f"it is not a lease record of dotflow. {advice}")


MIN_SECONDS: Final = 1.0  # the resolution of HTTP's dates
RENEWALS_PER_LEASE: Final = 3  # so that two may fail
#: The share of a lease by which its holder stops early and others wait longer: for the drift of the clocks during one
#: lease, and for a write that has begun.
MARGIN: Final = 1 / 6
AGE_RESOLUTION: Final = 1.0  # seconds; HTTP's dates have no fractions
MAX_RACES: Final = 5  # lost compare-and-swaps before giving up


class Register(ABC):
    """The text of one workflow, with compare-and-swap.

    Attributes:
        key: Identifies the text, the same for all objects that access it.
        location: Where the text is, for messages.
    """

    key: Hashable
    location: str

    @abstractmethod
    def read(self) -> RegisterText | None:
        """Returns the text; None if there is none.

        Raises:
            StorageError: The service can't be used.
        """

    @abstractmethod
    def write(self, text: str, version: str | None) -> str | None:
        """Writes the text if its current version is *version* (None: there is no text).

        Returns:
            The new version; None if another version is there.

        Raises:
            StorageError: The service can't be used. The text may have been written or not.
        """

    @property
    def short_timeout(self) -> "Register":
        """The same text with a shorter timeout, for what can be tried again."""
        return self


def check_seconds(lease: object) -> float:
    """Returns the duration of a lease in seconds.

    Raises:
        InvalidArgument: It is not a duration of at least a second.
    """
    return as_seconds("lease", lease, least=MIN_SECONDS)


class Lease:
    """The lease of this process on a workflow. Any thread may use it.

    Args:
        register: The text of the workflow.
        workflow_id: The workflow, for messages.
        seconds: How long the lease lasts after each renewal.

    Attributes:
        token: Marks what this lease has written.
    """

    def __init__(self, register: Register, workflow_id: str, seconds: float) -> None:
        self._register = register
        self._workflow_id = workflow_id
        self._seconds = seconds
        self.token = uuid.uuid4().hex
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._record = LeaseRecord()
        self._version: str | None = None
        self._valid_until = 0.0  # by clock.elapsed; until then no other process can have taken it
        self._release_deadline: float | None = None  # by clock.elapsed; from then on, releasing is not tried again
        self._loss_reason = ""

    @property
    def extra(self) -> Mapping[str, Any]:
        """What the storage keeps in the text."""
        return self._record.extra

    def acquire(self, **defaults: Any) -> None:
        """Acquires the lease, and renews it until it is released.

        Args:
            **defaults: What the storage keeps in the text, unless it is there already.

        Raises:
            WorkflowBusy: Another process holds the lease.
            StorageError: The service can't be used.
        """
        for _ in range(MAX_RACES):
            entry = self._register.read()
            current = read_record(entry, self._register.location)
            self._refuse_if_busy(current, entry)
            self._version = None if entry is None else entry.version
            holder = {**this_process(), "since": clock.now().isoformat(timespec="seconds")}
            # Set before writing, so that release() works after an interrupt, too.
            self._record = replace(current, holder=holder, token=self.token, extra={**defaults, **current.extra})
            if self._write(self._record):
                threading.Thread(target=self._renew, name="dotflow-lease", daemon=True).start()
                return
        raise WorkflowBusy(self._workflow_id, self._register.location, "other processes that are just starting")

    def check(self) -> None:
        """Ensures that no other process can hold the workflow now; renews an expired lease.

        Raises:
            StorageError: The lease is lost, or can't be renewed.
        """
        if not self._loss_reason and clock.elapsed() < self._valid_until:
            return
        with self._lock:
            if not self._loss_reason and clock.elapsed() >= self._valid_until:
                self._write(self._record)
            if self._loss_reason:
                raise self.lost_error()

    def update(self, **extra: Any) -> None:
        """Changes what the storage keeps in the text.

        Raises:
            StorageError: The lease is lost, or can't be written.
        """
        with self._lock:
            self.check()
            if not self._write(replace(self._record, extra={**self._record.extra, **extra})):
                raise self.lost_error()

    def update_later(self, **extra: Any) -> None:
        """Changes what the storage keeps in the text at the next renewal. It may get lost."""
        with self._lock:
            self._record = replace(self._record, extra={**self._record.extra, **extra})

    def release(self) -> None:
        """Releases the lease. If that can't be written soon, it expires. Further calls share the time of the first."""
        self._stopped.set()
        now = clock.elapsed()
        if self._release_deadline is None:
            self._release_deadline = now + self._seconds * MARGIN
        remaining = self._release_deadline - now
        if remaining <= 0 or not self._lock.acquire(timeout=remaining):  # a renewal hangs
            return
        try:
            if self._record.holder is not None and not self._loss_reason:
                with contextlib.suppress(StorageError):
                    self._write(replace(self._record, holder=None), self._register.short_timeout)
        finally:
            self._lock.release()

    def _renew(self) -> None:
        """Renews the lease in a thread of its own, at a fixed rate however long a failure takes."""
        started = clock.elapsed()
        while not self._stopped.wait(max(0.0, started + self._seconds / RENEWALS_PER_LEASE - clock.elapsed())):
            started = clock.elapsed()
            with self._lock, contextlib.suppress(Exception):  # the next write raises
                if self._loss_reason or self._stopped.is_set():
                    return
                self._write(self._record, self._register.short_timeout)

    def _write(self, record: LeaseRecord, register: Register | None = None) -> bool:
        """Writes the record. Returns False if another process holds the workflow now."""
        register = register or self._register
        with self._lock:
            sent_at = clock.elapsed()
            record = replace(record, revision=max(record.revision, self._record.revision) + 1, seconds=self._seconds)
            version = register.write(record.text(), self._version)
            if version is None:
                # The text may be our own: the response to a write was lost, and the write repeated.
                entry = register.read()
                current = read_record(entry, register.location)
                if entry is None or current.token != self.token:
                    deleted = "its entry was deleted"
                    self._loss_reason = deleted if entry is None else f"{_describe_holder(current)} took it over"
                    return False
                record = replace(record, revision=current.revision + 1)
                version = register.write(record.text(), entry.version)
                if version is None:
                    self._loss_reason = "another process took it over"
                    return False
            self._record, self._version = record, version
            self._loss_reason = ""
            self._valid_until = sent_at + self._seconds * (1 - MARGIN)
            return True

    def _refuse_if_busy(self, current: LeaseRecord, entry: RegisterText | None) -> None:
        if entry is None or current.holder is None or is_dead_here(current.holder):
            return
        remaining = current.seconds * (1 + MARGIN) + AGE_RESOLUTION - entry.age
        if remaining > 0:
            location = f"{self._register.location}; if that process is gone, it is free in {remaining:.0f} s"
            since = str(current.holder.get("since", ""))
            raise WorkflowBusy(self._workflow_id, location, _describe_holder(current), since)

    def lost_error(self, reason: str = "") -> LeaseLost:
        """Returns the error of a write that was refused, by default since the lease is lost."""
        return LeaseLost(
            f"Workflow {self._workflow_id!r} lost its lease, so nothing was written",
            f"{reason or self._loss_reason} ({self._register.location}). "
            "Let that run finish, or stop it and start again with resume=True",
        )


def _describe_holder(record: LeaseRecord) -> str:
    if record.holder is None:
        return "another process"
    return f"process {record.holder.get('process')} on host {record.holder.get('host')}"


class LeaseLock(SharedLock[Lease]):
    """Locks a workflow against other processes on every machine.

    Entering raises WorkflowBusy if another process holds the lease, and StorageError if the service can't be used.

    Args:
        register: The text of the workflow.
        workflow_id: The workflow.
        seconds: How long the lease lasts without renewal.
        **defaults: What the storage keeps in the text, unless it is there already.
    """

    def __init__(self, register: Register, workflow_id: str, seconds: float, **defaults: Any) -> None:
        super().__init__(register.key)
        self._register = register
        self._workflow_id = workflow_id
        self._seconds = seconds
        self._defaults = defaults

    def make(self) -> Lease:
        return Lease(self._register, self._workflow_id, self._seconds)

    def acquire(self, resource: Lease) -> None:
        resource.acquire(**self._defaults)

    def release(self, resource: Lease) -> None:
        resource.release()
