"""RunLock: the order of the runs of this process that save the values of one workflow."""

import threading
from collections.abc import Hashable

from dotflow.abc.shared_lock import SharedLock
from dotflow.abc.storage import Storage


class RunLock(SharedLock[threading.RLock]):
    """One of the runs of this process that work on one workflow. The resource is a lock for writing.

    It ensures that no value of an older run is saved after a newer run has begun.

    Args:
        key: The storage's own key, or its id, and the workflow.
        storage: Stays alive as long as the lock, so that no other storage is given its id.

    Attributes:
        is_void: Whether a newer run has voided the values of this one.
    """

    is_void = False

    def __init__(self, key: Hashable, storage: Storage) -> None:
        super().__init__(key)
        self._storage = storage

    def make(self) -> threading.RLock:
        return threading.RLock()
