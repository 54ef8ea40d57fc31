"""Holding a workflow by a lease: taken by the first run of this process, given back by the last."""

from typing import Any

from dotflow.abc.shared_lock import SharedLock
from dotflow.providers.storages.leases.lease import Lease, Register


class LeaseLock(SharedLock[Lease]):
    """Keeps other processes off a workflow until it is left, on every machine; other runs of this process may join.

    Args:
        register: Where the lease is written.
        workflow_id: The workflow.
        seconds: That the lease lasts without being renewed.
        **defaults: What has to be kept beside it, if it isn't yet.

    Entering raises WorkflowBusy where another process has it, and StorageError where nobody can tell.
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
