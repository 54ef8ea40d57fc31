"""Scattering: data that is sent to Dask's workers beside the small tasks that Dask expects."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from dotflow.processes.encoding import SharedArguments
from dotflow.processes.shared import keep_shared
from dotflow.providers.executors.cluster.protocol import size_of
from dotflow.providers.executors.cluster.session import MIN_KEPT_SIZE

if TYPE_CHECKING:
    from distributed import Client, Future

SCATTER_TIMEOUT: Final = 10.0  # seconds to wait for a worker that takes data


class Scattering:
    """The data that one run has on the workers of a client."""

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._shared: dict[int, Future[Any]] = {}  # by number

    def scatter(self, parts: Sequence[Any], address: str = "") -> "Future[Any] | None":
        """Sends parts to a worker, that at *address* if it exists. Returns None if no worker takes them."""
        for wanted in dict.fromkeys((address, "")):
            workers = self._client.nthreads()
            if not workers:
                break
            try:
                there = [wanted] if wanted in workers else None
                return self._client.scatter([parts], workers=there, hash=False, timeout=SCATTER_TIMEOUT)[0]
            except (OSError, TimeoutError, KeyError):  # the worker has just been lost
                if self._client.status != "running":
                    raise
        return None

    def shared(self, shared: SharedArguments | None) -> "Sequence[bytes] | Future[Any]":
        """Returns what a task takes as its shared arguments; large ones as data, which each worker gets once."""
        if shared is None or size_of(shared.parts) < MIN_KEPT_SIZE:
            return [] if shared is None else shared.parts
        future = self._shared.get(shared.number)
        if future is None or future.status != "finished":  # lost with its worker
            future = self.scatter(shared.parts)
            if future is None:
                return shared.parts
            keep_shared(self._shared, shared.number, future)
        return future
