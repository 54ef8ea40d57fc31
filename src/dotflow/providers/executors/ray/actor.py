"""The part of ExecutorRay that runs on Ray's workers."""

from collections.abc import Sequence
from pickle import PickleBuffer
from typing import Any, Final

from dotflow.providers.executors.cluster.conversation import Answer
from dotflow.providers.executors.cluster.protocol import Versions, versions_here
from dotflow.providers.executors.cluster.step_thread import Stop
from dotflow.providers.executors.cluster.worker_host import WorkerHost

#: Calls of an actor at once: one makes a pack, one takes what has ended of it, and one waits for its next request.
CONCURRENCY: Final = 3
BEGIN_TIMEOUT: Final = 0.1  # seconds to wait for the beginning of a pack, which another thread makes


class WorkerActor:
    """An actor that makes the attempts of packs, one at a time, in a process beside its own.

    When the actor's process ends, the kernel ends that process and everything it started.
    """

    def __init__(self) -> None:
        self._worker_host = WorkerHost(max_processes=1)
        self._wakeup = Stop()
        self._last = ""

    def describe(self) -> tuple[Versions, str]:
        """Returns the versions here, and the id of Ray's node. The first reply shows that the actor is up."""
        import ray

        return versions_here("ray"), ray.get_runtime_context().get_node_id()

    def make(self, name: str, packed: Sequence[Any], numbers: Sequence[int], *shared: Any) -> list[Any]:
        """Makes the attempts of a pack, with the parts of shared arguments by number; returns the packed reply."""
        self.forget()
        self._last = name
        parts = [memoryview(part) for part in packed]
        reply = self._worker_host.make(parts, self._wakeup, dict(zip(numbers, shared, strict=True)))
        return out_of_band(reply.pack())

    def end_run(self) -> None:
        """Ends the processes of a run, and its journals, and is ready for the next one."""
        self._worker_host.close()
        self._worker_host, self._last = WorkerHost(max_processes=1), ""

    def forget(self) -> None:
        """Deletes the journal of the last pack: the run has its reply."""
        if self._last:
            self._worker_host.forget(self._last)

    def take(self, name: str) -> list[Any] | None:
        """Ends a pack after the call that runs, and returns the packed reply of what has ended; None if it is over."""
        reply = self._worker_host.take(name)
        return None if reply is None else out_of_band(reply.pack())

    def converse(self, name: str, answer: Answer | None) -> tuple[int, int, list[Any]] | None:
        """Takes an answer of the run, and returns the next request of a pack; None if it does not run."""
        conversation = self._worker_host.conversation(name, BEGIN_TIMEOUT)
        request = None if conversation is None else conversation.next(answer).result()
        return None if request is None else (request.number, request.place, out_of_band(request.parts))


def out_of_band(packed: Sequence[Any]) -> list[Any]:
    """Marks the parts that Ray need not copy into its pickle."""
    return [PickleBuffer(part) for part in packed]
