"""What a Dask cluster has to run calls with, as it was when it was last asked."""

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from dotflow import clock

if TYPE_CHECKING:
    from distributed import Client

EXTRA_CALLS: Final = 1  # calls that Dask is given beyond what it has threads for, so that it sees that some wait
EXTRA_CALLS_ADAPTIVE: Final = 32  # for each thread, where it grows by the seconds of work that it sees waiting
REFRESH_INTERVAL: Final = 1.0  # seconds between two looks, while calls wait for room


class Threads:
    """The threads and resources of a Dask cluster's workers.

    Args:
        client: The client.
        update: Called from a thread of Dask's, with what `take` is to be given.
    """

    def __init__(self, client: "Client", update: Callable[[Mapping[str, Any]], object]) -> None:
        self._client = client
        self._update = update
        self._workers: list[Mapping[str, Any]] = []
        self._refreshed_at = clock.ticks() - REFRESH_INTERVAL

    def refresh(self) -> None:
        """Ask the cluster, unless that was done a moment ago. It answers by *update*."""
        if self.until_refresh():
            return
        self._refreshed_at = clock.ticks()
        asyncio.run_coroutine_threadsafe(self._ask(), self._client.loop.asyncio_loop)

    def until_refresh(self) -> float:
        """Return the seconds until the next look may be taken."""
        return max(0.0, self._refreshed_at + REFRESH_INTERVAL - clock.ticks())

    async def _ask(self) -> None:
        self._update(await self._client.scheduler.identity())  # where it is gone, the run's futures update

    def update(self, identity: Mapping[str, Any]) -> None:
        """Remember what the scheduler has answered."""
        self._workers = [worker for worker in identity["workers"].values() if worker["status"] == "running"]

    def extra(self) -> int:
        """Return how many calls the cluster is given that it has no thread for."""
        cluster = getattr(self._client, "cluster", None)
        if getattr(cluster, "_adaptive", None) is None:  # Dask has no other word for it, and only its own object knows
            return EXTRA_CALLS
        return EXTRA_CALLS_ADAPTIVE * max(1, self.capacity({}))

    def capacity(self, resources: Mapping[str, float]) -> int:
        """Return how many calls the cluster can run at once that each ask for these resources."""
        return sum(
            min(
                worker["nthreads"], *(int(worker["resources"].get(name, 0) // want) for name, want in resources.items())
            )
            if resources
            else worker["nthreads"]
            for worker in self._workers
        )
