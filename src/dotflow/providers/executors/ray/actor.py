"""The part of ExecutorRay that runs on Ray's workers."""

from collections.abc import Sequence
from pickle import PickleBuffer
from typing import Any

from dotflow.providers.executors.cluster.protocol import Versions, make_describe
from dotflow.providers.executors.cluster.worker_host import WorkerHost
from dotflow.worker.waiting import WakeupPipe


class WorkerActor:
    """An actor that makes attempts, one at a time, in a process beside its own.

    When the actor's process ends, the kernel ends that process and everything it started.
    """

    def __init__(self) -> None:
        self._worker_host = WorkerHost(max_processes=1)
        self._wakeup = WakeupPipe()

    def describe(self) -> Versions:
        """Returns the versions here. The first reply shows that the actor is up."""
        return make_describe("ray")()

    def make(self, packed: Sequence[Any], shared: Sequence[Any]) -> list[Any]:
        """Makes the attempt, with the parts of shared arguments; returns the packed reply."""
        reply = self._worker_host.make([memoryview(part) for part in packed], self._wakeup, shared)
        return out_of_band(reply.pack())


def out_of_band(packed: Sequence[Any]) -> list[Any]:
    """Marks the parts that Ray need not copy into its pickle."""
    return [PickleBuffer(part) for part in packed]
