"""What of ExecutorRay runs on Ray's workers."""

from collections.abc import Sequence
from pickle import PickleBuffer
from typing import Any

from dotflow.processes.wakeup import WakeupPipe
from dotflow.providers.executors.cluster.protocol import RemoteCall
from dotflow.providers.executors.cluster.versions import Versions, make_describe
from dotflow.providers.executors.cluster.worker_host import WorkerHost


class WorkerActor:
    """An actor that has attempts made, one at a time, in a process of its own beside it.

    When Ray ends the actor, or its process dies, the kernel ends that process and all it started.
    """

    def __init__(self) -> None:
        self._worker_host = WorkerHost(max_processes=1)
        self._wakeup = WakeupPipe()

    def describe(self) -> Versions:
        """What is installed here. It answers when the actor is up."""
        return make_describe("ray")()

    def make(self, packed: Sequence[Any]) -> list[Any]:
        """Has the attempt made; the reply, packed."""
        reply = self._worker_host.make(RemoteCall.unpack([memoryview(part) for part in packed]), self._wakeup)
        return out_of_band(reply.pack())


def out_of_band(packed: Sequence[Any]) -> list[Any]:
    """What Ray need not copy into its pickle, marked."""
    return [PickleBuffer(part) for part in packed]
