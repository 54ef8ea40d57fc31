"""LeaseLock: a lease that the runs of one process share."""

from typing import Any

from dotflow.abc.shared_lock import SharedLock
from dotflow.providers.storages.leases.lease import Lease, Register


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
