"""What a run needs of a Dask cluster beside its tasks: the checks before it, events, threads, and large data."""

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from dotflow import clock
from dotflow.errors import ClusterError
from dotflow.processes.channel import keep_shared
from dotflow.processes.encoding import SharedArguments
from dotflow.providers.executors.cluster.cluster_session import MIN_KEPT_SIZE, describe_error
from dotflow.providers.executors.cluster.protocol import Versions, differences, make_describe, size_of
from dotflow.providers.executors.dask import remote as dask_remote

if TYPE_CHECKING:
    from distributed import Client, Future

REPLY_TIMEOUT: Final = 10.0  # seconds
SCATTER_TIMEOUT: Final = 10.0  # seconds to wait for a worker that takes data
EXTRA_CALLS: Final = 1  # calls beyond the free threads, so that Dask sees that some wait
EXTRA_CALLS_ADAPTIVE: Final = 32  # for each thread, on a cluster that grows with the waiting work
REFRESH_INTERVAL: Final = 1.0  # seconds between two refreshes, while calls wait for room

#: No command to paste: a package index may have another package of that name.
INSTALL_HINT: Final = "Install it there, in the same version as here and from the same place, with its extra [dask]."


def check_cluster(client: "Client", cluster: str, say: Callable[[str], object]) -> None:
    """Checks that the cluster can run the steps, and logs the versions that differ.

    Args:
        client: The client.
        cluster: The name of the cluster, for messages.
        say: Writes a line into the run's log.

    Raises:
        ClusterError: The cluster can't be used, or does not answer.
    """
    describe = make_describe("distributed")
    try:
        client.register_plugin(dask_remote.make_once_plugin())
        scheduler = wait_for(client, client.run_on_scheduler(describe, asynchronous=True), REPLY_TIMEOUT)
        workers = _workers(client, describe, say)
    except (OSError, TimeoutError, RuntimeError, ValueError) as error:
        hint = f"It has to take plugins (distributed.scheduler.pickle) and to answer within {REPLY_TIMEOUT:g} s."
        raise ClusterError(cluster, f"can't be used: {describe_error(error)}", hint) from error
    here = describe()
    without = sorted(place for place, found in workers.items() if found["dotflow"] == "not installed")
    if without:
        raise ClusterError(cluster, f"has workers without dotflow: {', '.join(without)}", INSTALL_HINT)
    if scheduler["dotflow"] == "not installed":  # the scheduler doesn't need it
        scheduler = {**scheduler, "dotflow": here["dotflow"]}
    for sentence in differences(here, {"the scheduler": scheduler, **workers}):
        say(sentence)


def wait_for(client: "Client", asked: Any, seconds: float) -> Any:
    """Returns the result of a call that was made with asynchronous=True. Raises TimeoutError."""

    async def answer() -> Any:
        return await asyncio.wait_for(asked, seconds)

    return asyncio.run_coroutine_threadsafe(answer(), client.loop.asyncio_loop).result()


def _workers(
    client: "Client", describe: Callable[[], Versions], say: Callable[[str], object]
) -> Mapping[str, Versions]:
    try:
        found: Mapping[str, Versions] = wait_for(
            client, client.run(describe, on_error="ignore", asynchronous=True), REPLY_TIMEOUT
        )
    except TimeoutError:  # one worker that hangs must not stop the others
        say(f"Not all workers have answered within {REPLY_TIMEOUT:g} s: what is installed there is not known.")
        return {}
    return found


Listener = Callable[[Any], object]

_lock: Final = threading.Lock()
#: By client, which subscribes once for all of its runs: by run, what takes the events that workers log.
_listeners: "Final[WeakKeyDictionary[Client, dict[str, Listener]]]" = WeakKeyDictionary()


def subscribe(client: "Client", run: str, listener: Listener) -> None:
    """Calls *listener* with each event of a run, in a thread of Dask's."""
    with _lock:
        listeners = _listeners.setdefault(client, {})
        is_first = not listeners
        listeners[run] = listener
        if is_first:
            client.subscribe_topic(dask_remote.TOPIC, lambda event: _dispatch(listeners, event))


def unsubscribe(client: "Client", run: str) -> None:
    """Ends the subscription of a run, if there is one."""
    with _lock:
        listeners = _listeners.get(client, {})
        was_last = listeners.pop(run, None) is not None and not listeners
        if was_last and client.status == "running":  # under the lock: another run may be about to subscribe
            client.unsubscribe_topic(dask_remote.TOPIC)


def _dispatch(listeners: dict[str, Listener], event: tuple[float, Any]) -> None:
    _, message = event  # the first is the time
    listener = listeners.get(message["run"])
    if listener is not None:
        listener(message)


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


class Scattering:
    """The data that one run has on the workers of a client."""

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._shared: dict[int, Future[Any]] = {}  # by number

    def scatter(self, parts: Sequence[Any], address: str = "") -> "Future[Any] | None":
        """Sends parts to a worker, that at *address* if it exists. Returns None if no worker takes them."""
        workers = self._client.nthreads()
        if not workers:
            return None
        there = [address] if address in workers else None
        try:
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
