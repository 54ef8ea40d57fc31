"""The threads and resources of a Dask cluster, as of the last refresh."""

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from dotflow import clock

if TYPE_CHECKING:
    from distributed import Client

EXTRA_CALLS: Final = 1  # calls beyond the free threads, so that Dask sees that some wait
EXTRA_CALLS_ADAPTIVE: Final = 32  # for each thread, on a cluster that grows with the waiting work
REFRESH_INTERVAL: Final = 1.0  # seconds between two refreshes, while calls wait for room


class Threads:
    """The threads and resources of a Dask cluster's workers.

    Args:
        client: The client.
        update: Called in a thread of Dask's with the argument for `update`.
    """

    def __init__(self, client: "Client", update: Callable[[Mapping[str, Any]], object]) -> None:
        self._client = client
        self._update = update
        self._workers: list[Mapping[str, Any]] = []
        self._refreshed_at = clock.ticks() - REFRESH_INTERVAL

    def refresh(self) -> None:
        """Requests the workers from the scheduler, at most once in each interval. *update* gets the reply."""
        if self.until_refresh():
            return
        self._refreshed_at = clock.ticks()
        asyncio.run_coroutine_threadsafe(self._ask(), self._client.loop.asyncio_loop)

    def until_refresh(self) -> float:
        """Returns the seconds until the next refresh."""
        return max(0.0, self._refreshed_at + REFRESH_INTERVAL - clock.ticks())

    async def _ask(self) -> None:
        self._update(await self._client.scheduler.identity())  # if it is lost, the run's futures fail

    def update(self, identity: Mapping[str, Any]) -> None:
        """Records the workers."""
        self._workers = [worker for worker in identity["workers"].values() if worker["status"] == "running"]

    def extra(self) -> int:
        """Returns the number of calls to submit beyond the free threads."""
        cluster = getattr(self._client, "cluster", None)
        if getattr(cluster, "_adaptive", None) is None:  # Dask has no public attribute for it
            return EXTRA_CALLS
        return EXTRA_CALLS_ADAPTIVE * max(1, self.capacity({}))

    def capacity(self, resources: Mapping[str, float]) -> int:
        """Returns how many calls that need these resources the cluster can run at once."""
        return sum(
            min(
                worker["nthreads"], *(int(worker["resources"].get(name, 0) // want) for name, want in resources.items())
            )
            if resources
            else worker["nthreads"]
            for worker in self._workers
        )
